"""Answers as classes: how they are spelled, and which class each of them is.

LXMERT brings the answers of VQA, GQA and VG-QA into one spelling before it counts them, so that
"The man." and "man" are one class (Tan and Bansal, EMNLP 2019, released code).
"""

from collections.abc import Sequence

import numpy as np

ARTICLES = ("a ", "an ", "the ")
SPELLED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SAME = {**{word: str(number) for number, word in enumerate(SPELLED, 1)}, "grey": "gray"}
NO_ANSWER = -1


def normalised(answer: str) -> str:
    """Return `answer` in lower case, without a final full stop and leading articles.

    Numbers up to ten become digits, "grey" becomes "gray".
    """
    answer = answer.lower()
    if answer.endswith("."):
        answer = answer[:-1].strip()
    for article in ARTICLES:
        if answer.startswith(article):
            answer = answer[len(article) :].strip()
    return _SAME.get(answer, answer)


class AnswerTable:
    """The classes of an answer head by the spelling of their answers."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._classes: dict[str, int] = {}
        for number, answer in enumerate(answers):
            self._classes.setdefault(normalised(answer), number)

    def draw(self, answers: Sequence[str], chance: np.random.Generator) -> int:
        """Return the class of one of `answers`, those that come more often more likely.

        Answers that the table lacks do not count; -1 if it lacks them all.
        """
        found = [self._classes[name] for name in map(normalised, answers) if name in self._classes]
        return found[int(chance.random() * len(found))] if found else NO_ANSWER

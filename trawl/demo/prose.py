"""English text of the demo's web that says nothing about any picture.

No word of it names a kind, a colour, a pattern or a size of the world's objects, so that a sentence
from here is never the true text of a scene.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Chance = np.random.Generator
Choice = TypeVar("Choice")

OPENERS = (
    "",
    "",
    "",
    "",
    "Last month ",
    "As so often, ",
    "After the holidays ",
    "To begin with, ",
    "Not long ago ",
    "In the end ",
    "Every now and then ",
    "On Tuesday evening ",
    "According to the minutes, ",
    "Some years ago ",
)
SUBJECTS = (
    "the committee",
    "our editor",
    "a friend of mine",
    "my neighbour",
    "one of our readers",
    "the council",
    "the new manager",
    "everybody at the meeting",
    "the person at the counter",
    "a visitor from abroad",
    "the school board",
    "the local history group",
    "my sister",
    "the museum",
    "the whole family",
    "the organiser",
)
VERBS = (
    "wrote to us about",
    "spent most of the week on",
    "asked again about",
    "was delighted by",
    "never quite understood",
    "had a long talk about",
    "promised to think about",
    "finally agreed on",
    "could not stop laughing at",
    "learned a good deal from",
    "was still waiting for",
    "made careful notes on",
    "had nothing to say against",
    "turned out to be right about",
)
OBJECTS = (
    "the new opening hours",
    "a list of unanswered questions",
    "the minutes of the previous meeting",
    "an unusual request",
    "the programme for the autumn",
    "the rising cost of everything",
    "the history of our town",
    "the second half of the report",
    "an old promise",
    "the rules of the competition",
    "the results of the survey",
    "the weather forecast",
    "our plans for next year",
    "the idea of moving elsewhere",
    "the recipe for the soup",
    "the noise in the evening",
    "the delay at the border",
    "the prize that nobody wanted",
)
ENDINGS = (
    "",
    "",
    "",
    ", although nobody had expected it",
    " before the end of the year",
    ", which came as a surprise to most of us",
    " and then changed the subject",
    ", as far as we can tell",
    " for more than an hour",
    " with remarkable patience",
    ", and that was only the beginning",
    " in spite of the heavy rain",
    ", which is why we mention it here",
    " without asking anyone else",
    " until well after midnight",
)
ADJECTIVES = (
    *("quiet", "annual", "forgotten", "curious", "ordinary", "difficult", "honest", "patient"),
    *("northern", "unlikely", "public", "careful", "modern", "remarkable", "weekly", "familiar"),
)
NOUNS = (
    *("meeting", "journey", "question", "answer", "tradition", "project", "summer", "winter"),
    *("weekend", "opinion", "letterhead", "story", "programme", "lesson", "habit", "season"),
    *("village", "committee", "budget", "visit", "discovery", "exchange", "interview", "account"),
)
FORMS = (
    "The {0} {1}",
    "A {0} {1} and what came of it",
    "Notes on a {0} {1}",
    "What we learned from the {0} {1}",
    "{0} {1}, {2} {3}",
    "More about the {0} {1}",
    "Why every {1} is {0}",
    "{1} and {3}: a {0} view",
)
HEADINGS = (
    *("Background", "What happened next", "In short", "A few more words", "Where to go from here"),
    *("Some history", "Practical matters", "From our readers", "The morning after", "Around noon"),
    *("How it started", "Things to remember", "The long way home", "Second thoughts", "Details"),
)
COMMENTS = (
    *("Thanks for sharing!", "I could not agree more.", "Has anyone tried this in winter?"),
    *("Great, keep going.", "We did the same two years ago.", "When is the next meeting?"),
    *("That was worth reading.", "Could you say more about the cost?", "Lovely, as always."),
)


def pick(chance: Chance, choices: Sequence[Choice]) -> Choice:
    """Return one of `choices`, each as likely as the other."""
    return choices[int(chance.integers(len(choices)))]


def filler_sentence(chance: Chance) -> str:
    """Return a sentence with a full stop."""
    opener, subject = pick(chance, OPENERS), pick(chance, SUBJECTS)
    sentence = f"{opener}{subject} {pick(chance, VERBS)} {pick(chance, OBJECTS)}"
    sentence += pick(chance, ENDINGS)
    return f"{sentence[0].upper()}{sentence[1:]}."


def filler_paragraph(chance: Chance, least: int = 3, most: int = 7) -> str:
    """Return between `least` and `most` sentences."""
    return " ".join(filler_sentence(chance) for _ in range(int(chance.integers(least, most + 1))))


def filler_words(chance: Chance, count: int) -> str:
    """Return `count` nouns and adjectives in lower case."""
    return " ".join(
        pick(chance, NOUNS if number % 2 == 0 else ADJECTIVES) for number in range(count)
    )


def filler_title(chance: Chance) -> str:
    """Return a title for a page."""
    words = (pick(chance, ADJECTIVES), pick(chance, NOUNS), pick(chance, ADJECTIVES))
    title = pick(chance, FORMS).format(*words, pick(chance, NOUNS))
    return title[0].upper() + title[1:]


def heading(chance: Chance) -> str:
    """Return a heading inside a page."""
    return pick(chance, HEADINGS)


def comment(chance: Chance) -> str:
    """Return what a reader writes below a page."""
    return f"{pick(chance, COMMENTS)} {filler_sentence(chance)}"

"""Whether a text is in one of the languages that are wanted; short texts get the benefit of doubt.

The identifier is sure of whole sentences and errs on captions of a few words, so two more signs
count: the script, and the small words that only English uses.
"""

import re
import unicodedata
from collections.abc import Sequence

from data_pipeline.crawl.language import language

_ENGLISH = frozenset(
    ("the", "of", "and", "with", "next", "two", "three", "four", "five", "some", "behind", "above")
    + ("under", "below", "between", "front", "beside", "near", "from", "this", "that", "there")
    + ("are", "is", "was", "were", "by", "on", "at", "to", "it", "its", "left", "right", "while")
)
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_SHARE = 0.2  # of the words; sentences have more, chance hits in other languages fewer
_LATIN_LANGUAGES = frozenset(
    ("en", "de", "fr", "es", "it", "nl", "pt", "sv", "da", "no", "fi", "pl")
)


def is_foreign(text: str, languages: Sequence[str], certainty: float) -> bool:
    """Say whether `text` is, with a probability of at least `certainty`, in no wanted language."""
    if not languages:
        return False
    if _LATIN_LANGUAGES.issuperset(languages) and _is_not_latin(text):
        return True
    code, probability = language(text)
    if code in ("", *languages) or probability < certainty:
        return False
    return not ("en" in languages and _english_share(text) >= _ENGLISH_SHARE)


def _is_not_latin(text: str) -> bool:
    """Say whether most letters are of a script other than Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    foreign = sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return foreign * 2 > len(letters)


def _english_share(text: str) -> float:
    words = [word.lower() for word in _WORD.findall(text)]
    return sum(word in _ENGLISH for word in words) / max(1, len(words))

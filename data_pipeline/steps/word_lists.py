"""Lists of words and phrases in text files that a recipe names."""

import functools
import re
from importlib import resources

from trawl import storage
from trawl.errors import RequestError

BUILTIN = "builtin"
_NOTHING = re.compile(r"(?!)")


@functools.lru_cache(maxsize=8)
def profanity(place: str | None) -> re.Pattern[str]:
    """Return what finds each word of the list at `place`; None finds nothing.

    `builtin` is the list that ships. RequestError names the file that cannot be read.
    """
    if place is None:
        return _NOTHING
    if place == BUILTIN:
        file = resources.files("data_pipeline.steps").joinpath("profanity.txt")
        return _finder(file.read_text("utf-8"), place)
    return _finder(storage.read_text(place), place)


def _finder(text: str, place: str) -> re.Pattern[str]:
    """Return the pattern of a list: whole words in any case, `*` at an end for any ending."""
    lines = (line.strip() for line in text.splitlines())
    phrases = sorted({line for line in lines if line and not line.startswith("#")})
    if not phrases:
        raise RequestError(f"text_filter.profanity: {place}: no word in it; add one a line")
    return re.compile(rf"\b(?:{'|'.join(map(_expression, phrases))})\b", re.IGNORECASE)


def _expression(phrase: str) -> str:
    stem = phrase.removesuffix("*")
    spaced = r"\s+".join(re.escape(word) for word in stem.split())
    return spaced + (r"\w*" if stem != phrase else "")

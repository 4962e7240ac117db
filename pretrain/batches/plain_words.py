"""Texts as X-VLM reads them: lower case, without punctuation, no longer than some words."""

import re

_PUNCTUATION = re.compile(r"[,.'!?\"()*#:;~]")
_SPACES = re.compile(r"\s{2,}")


def plain_words(text: str, most: int) -> str:
    """Return the first `most` words of `text`, lower-case, "-" and "/" as spaces.

    A text of punctuation alone comes back empty; the original refuses it.
    """
    bare = _PUNCTUATION.sub("", text.lower())
    bare = bare.replace("-", " ").replace("/", " ").replace("<person>", "person")
    words = _SPACES.sub(" ", bare).rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:most])

"""Language identification, offline (py3langid's model of 97 languages)."""

import functools
import re
from typing import Any

MIN_LETTERS = 12
"""Fewer letters than this say nothing about the language."""

MAX_CHARACTERS = 256
"""How much of a text is looked at: more makes it slower and hardly surer."""

_NOISE_SIGNS = rb"0123456789_#*|<>{}[]\/=+~^@"
_NOISE = re.compile(r"https?://\S+|\S+@\S+|[\d_#*|<>{}\[\]\\/=+~^]+")

# Frequent English words that no other language with Latin letters has among its frequent ones.
_ENGLISH_WORDS = """
the and with which this that from are were their they would been when these there into has his
you your it be she what how than them through could should after before about
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_ENOUGH = 5
_ENOUGH_IF_DECLARED = 3
_SURE = 0.99


@functools.cache
def _identifier() -> Any:
    """Load the model once per process, with probabilities instead of raw scores."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: str, declared: str = "") -> tuple[str, float]:
    """Return the ISO 639-1 code of the language of `text` and its probability in [0, 1].

    ("", 0.0) for fewer than MIN_LETTERS letters. Short texts (under some 30 letters) get codes
    with low probabilities, so ask for a probability before believing one: captions such as
    "Big Ben, London" hold no more than names. `declared` is the language that a page gives
    itself; it is believed where some English words bear it out, and spares asking the model.
    """
    sample = _sample(text)
    enough = _ENOUGH_IF_DECLARED if declared[:2].lower() == "en" else _ENOUGH
    if len(_ENGLISH.intersection(sample.lower().split())) >= enough:
        return "en", _SURE
    return _by_model(sample)


def _by_model(sample: str) -> tuple[str, float]:
    """Ask the model; the slow twin of counting English words, which spares most pages this."""
    if sum(map(str.isalpha, sample)) < MIN_LETTERS:
        return "", 0.0
    code, probability = _identifier().classify(sample)
    return str(code), float(probability)


def _sample(text: str) -> str:
    text = text[: MAX_CHARACTERS * 2]
    if not text.isascii() or len(text.encode().translate(None, _NOISE_SIGNS)) < len(text):
        text = _NOISE.sub(" ", text)
    return text[:MAX_CHARACTERS]

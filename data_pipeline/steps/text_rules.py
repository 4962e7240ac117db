"""The rules by which a text is no sentence about an image, each with a reason code.

A rule is a function of the text and the recipe's part `text_filter`; the first that speaks decides.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import yaml

from data_pipeline.recipe import TextFilter

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['-][^\W_]+)*")
_LETTERS = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_FILE_NAME = re.compile(
    r"\.(?:jpe?g|png|gif|webp|svg|bmp|tiff?|heic|avif)\b"
    r"|^(?:img|dsc|dscn|dscf|pict|p|image|photo|pic|screenshot|screen shot|wp|mvi|gopr)"
    r"[\s_-]*\d{2,}[\d\s_().-]*$"
    r"|^[\w-]*_[\w-]*$|^[0-9a-f]{12,}$|^[\d\W_]+$",
    re.IGNORECASE,
)
_SHOUT = re.compile(r"[!?]{2,}|[$€£★☆►▶✓✔❤🔥]{2,}|>>+|<<+|={3,}|\*{3,}|#\w+ #\w+")
_PRICE = re.compile(
    r"[$€£¥] ?\d|\b\d+(?:[.,]\d{2})? ?(?:usd|eur|gbp|dollars|euros)\b", re.IGNORECASE
)
_ADDRESS = re.compile(r"https?://|www\.|\b[\w-]+\.(?:com|org|net|html?|php)\b", re.IGNORECASE)
_CATALOGUE_NUMBER = re.compile(r"\bcat(?:alogue)?\.? ?n(?:o|umber)s?\.? ?[\d., ]*", re.IGNORECASE)
_VOWEL = re.compile(r"[aeiouyàâäáãåæèéêëìíîïòóôöõøœùúûüýÿ]", re.IGNORECASE)
_RUN = re.compile(r"(.)\1{3,}|[bcdfghjklmnpqrstvwxz]{6,}", re.IGNORECASE)
_MAX_WORD_LETTERS = 24
_SHORT_WORDS = frozenset(("mr", "mrs", "ms", "dr", "st", "tv", "pc", "cd", "ft", "km", "cm", "mm"))
_LIST_PARTS = 5


@dataclass(frozen=True)
class Phrases:
    """What `phrases.yaml` lists, ready to look for."""

    placeholder: frozenset[str]
    spam: re.Pattern[str]
    boilerplate: re.Pattern[str]


@functools.cache
def phrases() -> Phrases:
    """Return the lists that ship with this module, read once in a process."""
    file = resources.files("data_pipeline.steps").joinpath("phrases.yaml")
    lists = yaml.safe_load(file.read_text("utf-8"))
    spam, boilerplate = (
        re.compile(rf"\b(?:{'|'.join(lists[name])})\b", re.IGNORECASE)
        for name in ("spam", "boilerplate")
    )
    return Phrases(frozenset(lists["placeholder"].split()), spam, boilerplate)


Rule = Callable[[str, TextFilter], bool]


def words_of(text: str) -> list[str]:
    """Return the words of a text, numbers among them."""
    return _WORD.findall(text)


def is_placeholder(text: str, settings: TextFilter) -> bool:
    """Texts that stand where a description should be: "image", "Figure 12", "Cat. no. 4"."""
    rest = _CATALOGUE_NUMBER.sub("", text)
    letters = [word.lower() for word in _LETTERS.findall(rest)]
    letters = [word for word in letters if not re.fullmatch(r"[ivxlc]+", word)]
    return all(word in phrases().placeholder for word in letters)


def is_file_name(text: str, settings: TextFilter) -> bool:
    """Names of files and what cameras call their pictures: "IMG_2034.jpg", "DSC00121"."""
    return bool(_FILE_NAME.search(text))


def is_spam(text: str, settings: TextFilter) -> bool:
    """Advertisement: the phrases of shops and casinos, shouting, lists of key words."""
    return bool(phrases().spam.search(text) or _SHOUT.search(text)) or is_key_word_list(text)


def is_key_word_list(text: str) -> bool:
    """Five or more parts between commas or bars, of less than two and a half words on average.

    A list of things in a sentence has an "and" or "or" before its last part.
    """
    parts = [part for part in re.split(r"[,;|/]", text) if part.strip()]
    if len(parts) < _LIST_PARTS or re.search(r"\b(?:and|or|&)\b", parts[-1]):
        return False
    return len(words_of(text)) / len(parts) < 2.5


def is_price(text: str, settings: TextFilter) -> bool:
    """Texts with a price."""
    return bool(_PRICE.search(text))


def is_boilerplate(text: str, settings: TextFilter) -> bool:
    """What pages say of themselves: navigation, legal notes, filler text."""
    return bool(phrases().boilerplate.search(text))


def is_address(text: str, settings: TextFilter) -> bool:
    """Texts that hold the address of a page."""
    return bool(_ADDRESS.search(text))


def is_too_short(text: str, settings: TextFilter) -> bool:
    """Fewer than `min_words` words."""
    return len(words_of(text)) < settings.min_words


def is_too_long(text: str, settings: TextFilter) -> bool:
    """More than `max_words` words."""
    return len(words_of(text)) > settings.max_words


def is_gibberish(text: str, settings: TextFilter) -> bool:
    """More than `max_oov` of the words do not look like words.

    A word looks like one if it is made of letters, holds a vowel (or is a usual short form), is at
    most 24 letters long and repeats no letter four times.
    """
    words = words_of(text)
    odd = sum(not _looks_like_word(word) for word in words)
    return not words or odd / len(words) > settings.max_oov


def _looks_like_word(word: str) -> bool:
    if not _LETTERS.fullmatch(word) or len(word) > _MAX_WORD_LETTERS or _RUN.search(word):
        return False
    return bool(_VOWEL.search(word)) or word.lower() in _SHORT_WORDS or not word.isascii()


def is_repetition(text: str, settings: TextFilter) -> bool:
    """One word of at least four letters is more than `max_repetition` of at least four words."""
    words = [word.lower() for word in words_of(text)]
    counts = Counter(word for word in words if len(word) >= 4)
    most = counts.most_common(1)
    return bool(most) and len(words) >= 4 and most[0][1] / len(words) > settings.max_repetition


RULES: tuple[tuple[str, Rule], ...] = (
    ("file-name", is_file_name),
    ("placeholder", is_placeholder),
    ("spam", is_spam),
    ("price", is_price),
    ("boilerplate", is_boilerplate),
    ("address", is_address),
    ("too-short", is_too_short),
    ("too-long", is_too_long),
    ("oov", is_gibberish),
    ("repetition", is_repetition),
)


def broken_rule(text: str, settings: TextFilter) -> str:
    """Return the reason code of the first rule that a text breaks, "" if it breaks none."""
    return next((reason for reason, breaks in RULES if breaks(text, settings)), "")

"""The rules by which a text is no sentence about an image, each with a reason code.

A rule is a function of the text and the recipe's part `text_filter`; the first that speaks decides.
"""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import yaml

from data_pipeline.recipe import TextFilter
from data_pipeline.steps.word_lists import profanity

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
_ADDRESS = re.compile(r"https?://\S*|www\.\S*|\b[\w-]+\.(?:com|org|net|html?|php)\b", re.IGNORECASE)
_CATALOGUE_NUMBER = re.compile(r"\bcat(?:alogue)?\.? ?n(?:o|umber)s?\.? ?[\d., ]*", re.IGNORECASE)
_VOWEL = re.compile(r"[aeiouyàâäáãåæèéêëìíîïòóôöõøœùúûüýÿ]", re.IGNORECASE)
_RUN = re.compile(r"(.)\1{3,}|[bcdfghjklmnpqrstvwxz]{6,}", re.IGNORECASE)
_DATE = re.compile(
    r"\b(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}|(?:1[5-9]|20)\d\d)\b"
)
_MONTH_NAMES = """
january february march april june july august september october november december
jan feb apr jun jul aug sept oct nov dec
"""
_OTHER_DATE_WORDS = """
may mar sep monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs
fri sat sun am pm on at posted published updated date dated last modified
"""
_MONTHS = frozenset(_MONTH_NAMES.split())
_DATE_WORDS = _MONTHS.union(_OTHER_DATE_WORDS.split())
_SHOUTED_WORDS = 4
_DATE_NUMBER = re.compile(r"\d{1,4}(?:st|nd|rd|th)?(?:[.,]\d+)*")
_MAX_WORD_LETTERS = 24
_SHORT_WORDS = frozenset(("mr", "mrs", "ms", "dr", "st", "tv", "pc", "cd", "ft", "km", "cm", "mm"))
TOO_SHORT = "too-short"


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
    known = sum(word in phrases().placeholder for word in letters)
    return not letters or known / len(letters) > settings.max_placeholder


def is_file_name(text: str, settings: TextFilter) -> bool:
    """Names of files and what cameras call their pictures: "IMG_2034.jpg", "DSC00121"."""
    return _hits(_FILE_NAME, text, settings.max_hits.file_name)


def is_spam(text: str, settings: TextFilter) -> bool:
    """Advertisement: the phrases of shops and casinos, shouting, lists of key words."""
    most = settings.max_hits.spam
    if _hits(phrases().spam, text, most) or _hits(_SHOUT, text, most):
        return True
    return is_key_word_list(text, settings)


def is_key_word_list(text: str, settings: TextFilter) -> bool:
    """More than `max_list_parts` parts between commas or bars, of less than 2.5 words on average.

    A list of things in a sentence has an "and" or "or" before its last part.
    """
    parts = [part for part in re.split(r"[,;|/]", text) if part.strip()]
    if len(parts) <= settings.max_list_parts or re.search(r"\b(?:and|or|&)\b", parts[-1]):
        return False
    return len(words_of(text)) / len(parts) < 2.5


def is_price(text: str, settings: TextFilter) -> bool:
    """Texts with a price."""
    return _hits(_PRICE, text, settings.max_hits.price)


def is_boilerplate(text: str, settings: TextFilter) -> bool:
    """What pages say of themselves: navigation, legal notes, filler text."""
    return _hits(phrases().boilerplate, text, settings.max_hits.boilerplate)


def is_address(text: str, settings: TextFilter) -> bool:
    """Texts that hold the address of a page."""
    return _hits(_ADDRESS, text, settings.max_hits.address)


def is_profane(text: str, settings: TextFilter) -> bool:
    """Texts with a word of the list that the recipe names."""
    return _hits(profanity(settings.profanity), text, settings.max_hits.profanity)


def is_date(text: str, settings: TextFilter) -> bool:
    """Texts that are a date and little else: "Posted on 12 March 2019, 10:30 am"."""
    words = [word.lower() for word in words_of(text)]
    if not words or not (_DATE.search(text) or not _MONTHS.isdisjoint(words)):
        return False
    parts = sum(word in _DATE_WORDS or bool(_DATE_NUMBER.fullmatch(word)) for word in words)
    return parts / len(words) > settings.max_dates


def is_shouted(text: str, settings: TextFilter) -> bool:
    """More than `max_capitals` of at least four words in capital letters."""
    words = [word for word in _LETTERS.findall(text) if len(word) > 1]
    shouted = sum(word.isupper() for word in words)
    return len(words) >= _SHOUTED_WORDS and shouted / len(words) > settings.max_capitals


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


def _hits(pattern: re.Pattern[str], text: str, most: int) -> bool:
    """Say whether a pattern is found in a text more than `most` times."""
    if not most:
        return pattern.search(text) is not None
    return sum(1 for _ in itertools.islice(pattern.finditer(text), most + 1)) > most


RULES: tuple[tuple[str, Rule], ...] = (
    ("file-name", is_file_name),
    ("placeholder", is_placeholder),
    ("spam", is_spam),
    ("profanity", is_profane),
    ("price", is_price),
    ("boilerplate", is_boilerplate),
    ("address", is_address),
    ("date", is_date),
    (TOO_SHORT, is_too_short),
    ("too-long", is_too_long),
    ("oov", is_gibberish),
    ("repetition", is_repetition),
    ("casing", is_shouted),
)


def broken_rule(text: str, settings: TextFilter) -> str:
    """Return the reason code of the first rule that a text breaks, "" if it breaks none."""
    return next((reason for reason, breaks in RULES if breaks(text, settings)), "")

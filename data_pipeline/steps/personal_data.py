"""Removes what tells whom to reach and where: e-mail addresses, telephone numbers, web addresses.

A telephone number is a run of 7 to 15 digits (ITU-T E.164) with the usual marks between them,
unless it reads as a date, years, a large number, coordinates or an ISBN.
"""

import re

_MARK = re.compile(r"[@/+\d]|[(\[]\s*at\s*[)\]]", re.IGNORECASE)
_CUE = r"(?:\b(?:call|tel|telephone|phone|fax|mobile|whatsapp|e-?mail|mailto|contact)\b[.:\s]*)?"
_DOT = r"(?:\.|\s*[(\[]\s*dot\s*[)\]]\s*)"
_EMAIL = re.compile(
    rf"{_CUE}[\w.+-]{{1,64}}(?:@|\s?[(\[]\s*(?:at|@)\s*[)\]]\s?)[\w-]{{1,63}}(?:{_DOT}[\w-]{{1,63}}){{1,5}}",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_RUN = re.compile(
    rf"(?P<cue>{_CUE})(?<![\w.,:/-])(?P<number>[+(]?\d[\d ().\/-]{{4,26}}\d)(?!\w|[.,:/-]\d)",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:\d{4}|\d{2})")
_THOUSANDS = re.compile(r"[1-9]\d?(?:[ .]\d{3})+")
_DECIMALS = re.compile(r"\d+\.\d+ +\d+\.\d+")
_GROUP = re.compile(r"\d+")
_SPACE = re.compile(r"\s+")
_BOOK = re.compile(r"isbn[-: ]*(?:1[03][: ]*)?$", re.IGNORECASE)
_DIGITS = range(7, 16)
_LONG = 9
_PLAIN_DIGITS = (10, 11)  # so many in one run; with fewer or more it may be any number
_YEARS = range(1000, 2100)


def holds_personal_data(text: str) -> bool:
    """Say whether there is anything in `text` that `without_personal_data` takes out."""
    if not _MARK.search(text):
        return False
    if _EMAIL.search(text) or _ADDRESS.search(text):
        return True
    return any(_is_telephone(run) for run in _RUN.finditer(text))


def without_personal_data(text: str) -> str:
    """Return `text` without e-mail addresses, telephone numbers and web addresses."""
    if not _MARK.search(text):
        return text
    text = _ADDRESS.sub(" ", _EMAIL.sub(" ", text))
    text = _RUN.sub(lambda run: " " if _is_telephone(run) else run[0], text)
    return _SPACE.sub(" ", text).strip(" ,;:-|")


def _is_telephone(run: re.Match[str]) -> bool:
    """Say whether a run of digits and marks is a telephone number."""
    number = run["number"]
    groups = _GROUP.findall(number)
    digits = sum(map(len, groups))
    if digits not in _DIGITS or _BOOK.search(run.string[: run.start()]):
        return False
    if run["cue"] or number.startswith("+"):
        return True
    if any(form.fullmatch(number) for form in (_DATE, _THOUSANDS, _DECIMALS)):
        return False
    if all(len(group) == 4 and int(group) in _YEARS for group in groups):
        return False
    if len(groups) == 2 and digits < _LONG:  # of a local number: 555-1234, 2345 6789
        return len(groups[0]) in (3, 4) and len(groups[1]) == 4
    return len(groups) > 1 or digits in _PLAIN_DIGITS

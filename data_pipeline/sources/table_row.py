"""A row of a table of image addresses, and the part of a table that is one unit of work."""

from dataclasses import dataclass
from typing import Any

from data_pipeline.sources.values import text_of

BAD_ROW = "bad-row"
BAD_URL = "bad-url"
_SHOWN_LETTERS = 500
_UNKNOWN_LICENCE = "?"  # as LAION writes it


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: `number` counts within its slice; `fault` is a reason code, "" for a good row."""

    number: int
    url: str
    caption: str
    licence: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Slice:
    """A part of a table: the lines that start from byte `first` on, or row groups from `first` on.

    `beyond` is the first byte or row group that is no part of it; 0 for the whole file. `other`
    is the file of captions that goes with a file of addresses. `name` is what its rows have as
    their page: the file, the same wherever the table lies, and where in it the part begins.
    """

    uri: str
    name: str = ""
    first: int = 0
    beyond: int = 0
    other: str = ""


def good_row(number: int, url: Any, caption: Any, licence: Any = None) -> TableRow:
    """Return the row of these values; one without an address is a bad row."""
    if not isinstance(url, str) or not url.strip():
        return bad_row(number, caption)
    named = text_of(licence)
    return TableRow(
        number=number,
        url=text_of(url).strip(),
        caption=text_of(caption),
        licence="" if named == _UNKNOWN_LICENCE else named,
    )


def bad_row(number: int, shown: Any) -> TableRow:
    """Return a row that is dropped, with some of what was found in it."""
    return TableRow(number, text_of(shown)[:_SHOWN_LETTERS], "", fault=BAD_ROW)

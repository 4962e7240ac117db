"""Tables of text, a row a line: TSV, CSV, JSON lines, and SBU's two files side by side.

A CSV row stands on one line; one that a quoted line break cuts in two becomes two bad rows.
"""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from typing import BinaryIO, cast

from data_pipeline.sources.recipe import Columns, TableSource
from data_pipeline.sources.table_row import Slice, TableRow, bad_row, good_row
from trawl import storage
from trawl.errors import RequestError

MAX_LINE = 1 << 20
"""Longest line, in bytes."""

_BUFFER = 1 << 20
_PUBLISHED = {"cc3m": Columns(url=1, caption=0), "cc12m": Columns(url=0, caption=1)}
_PUBLISHED_WIDTH = 2


def read(part: Slice, source: TableSource) -> Iterator[TableRow]:
    """Yield the rows of the lines that start in a slice."""
    if part.uri.lower().endswith(".jsonl"):
        return _json_rows(part, source)
    return _separated_rows(part, source)


def paired(part: Slice) -> Iterator[TableRow]:
    """Yield the rows of two files: line N of the one is the address, of the other the caption."""
    with storage.open_read(part.uri) as urls, storage.open_read(part.other) as captions:
        pairs = itertools.zip_longest(
            _lines(urls, Slice(part.uri)), _lines(captions, Slice(part.other))
        )
        for number, (url, caption) in enumerate(pairs):
            if url is None or caption is None:
                yield bad_row(number, url or caption)
            else:
                yield good_row(number, url, caption)


def _lines(file: BinaryIO, part: Slice) -> Iterator[str | None]:
    """Yield the lines whose first byte lies in a slice, None for what is too long or no UTF-8."""
    # What fsspec opens reads single lines slowly.
    buffered = io.BufferedReader(cast(io.RawIOBase, file), _BUFFER)
    if part.first:
        buffered.seek(part.first - 1)
        _finish_line(buffered)
    while not part.beyond or buffered.tell() < part.beyond:
        line = buffered.readline(MAX_LINE)
        if not line:
            break
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            _finish_line(buffered)
            yield None
            continue
        try:
            yield line.rstrip(b"\r\n").decode("utf-8" if part.first else "utf-8-sig")
        except UnicodeDecodeError:
            yield None
    buffered.detach()


def _finish_line(file: io.BufferedIOBase) -> None:
    """Read up to the end of the line."""
    while (piece := file.readline(MAX_LINE)) and not piece.endswith(b"\n"):
        pass


def _separated_rows(part: Slice, source: TableSource) -> Iterator[TableRow]:
    """Yield the rows of a TSV or CSV file; in a TSV file quotes mean themselves."""
    comma = part.uri.lower().endswith(".csv")
    has_header = source.format == "columns" and source.header
    header = _header(part.uri, comma) if has_header else None
    columns, width = _positions(part.uri, source, header)
    needed = 1 + max(place for place in columns if place is not None)
    with storage.open_read(part.uri) as file:
        lines = _lines(file, part)
        if header is not None and not part.first:
            next(lines, None)
        for number, line in enumerate(lines):
            values = None if line is None else _split(line, comma)
            if values is None or len(values) < needed or width not in (0, len(values)):
                if line != "":
                    yield bad_row(number, line)
                continue
            yield good_row(number, *(None if place is None else values[place] for place in columns))


def _split(line: str, comma: bool) -> list[str] | None:
    """Split one line into its values, None if it is no row."""
    if not comma:
        return line.split("\t")
    try:
        return next(csv.reader([line], strict=True), None)
    except csv.Error:
        return None


def _header(uri: str, comma: bool) -> list[str]:
    """Return the names in the first line; RequestError if there are none."""
    with storage.open_read(uri) as file:
        line = next(_lines(file, Slice(uri)), None)
    names = None if line is None else _split(line, comma)
    if not names:
        raise RequestError(f"{uri}: its first line names no columns; set collect.source.header")
    return names


def _positions(
    uri: str, source: TableSource, header: list[str] | None
) -> tuple[tuple[int, int, int | None], int]:
    """Return where address, caption and licence stand, and how many values a row has, 0: any."""
    columns = source.columns or _PUBLISHED[source.format]
    places: list[int | None] = []
    for name in (columns.url, columns.caption, columns.licence):
        if name is None or isinstance(name, int):
            places.append(name)
        elif header is not None and name in header:
            places.append(header.index(name))
        else:
            known = ", ".join(header) if header else "no header: give numbers from 0"
            raise RequestError(f"{uri}: no column {name!r} ({known}); mend collect.source.columns")
    width = len(header) if header else _PUBLISHED_WIDTH if source.columns is None else 0
    return (places[0], places[1], places[2]), width  # type: ignore[return-value]


def _json_rows(part: Slice, source: TableSource) -> Iterator[TableRow]:
    """Yield the rows of a file with a JSON object a line."""
    columns = source.columns
    assert columns is not None
    names = [None if n is None else str(n) for n in (columns.url, columns.caption, columns.licence)]
    with storage.open_read(part.uri) as file:
        for number, line in enumerate(_lines(file, part)):
            try:
                values = json.loads(line or "null")
            except (ValueError, RecursionError):
                values = None
            if isinstance(values, dict):
                yield good_row(number, *(None if n is None else values.get(n) for n in names))
            elif line != "":
                yield bad_row(number, line)

"""Tables of image addresses and captions, in the forms in which data sets are published.

| format | files |
| --- | --- |
| cc3m | TSV without header, caption<TAB>address |
| cc12m | TSV without header, address<TAB>caption |
| sbu | JSON with the lists `image_urls` and `captions`, or two text files, a line an image |
| laion, datacomp | parquet; URL and TEXT, or url and text or caption; LICENSE where there is one |
| columns | TSV, CSV, JSON lines or parquet with columns that the recipe names |

A text table is cut into slices of bytes, a parquet file into its row groups, so that one large
file is the work of many. A row that cannot be read comes as a row with `fault` set.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.sources import table_lines
from data_pipeline.sources.files import files_of
from data_pipeline.sources.json_stream import elements
from data_pipeline.sources.recipe import Columns, TableSource
from data_pipeline.sources.table_row import Slice, TableRow, bad_row, good_row
from trawl import storage
from trawl.errors import RequestError

SLICE_BYTES = 64 << 20
"""Bytes of a text table in one unit of work."""

SLICE_ROWS = 1_000_000
"""Rows of a parquet file in one unit of work, in whole row groups."""

_KEY = "collect.source.uris"
_TEXT = (".tsv", ".csv", ".txt", ".jsonl")
_ENDINGS: dict[str, tuple[str, ...]] = {
    "cc3m": (".tsv", ".txt"),
    "cc12m": (".tsv", ".txt"),
    "sbu": (".json", ".txt"),
    "laion": (".parquet",),
    "datacomp": (".parquet",),
    "columns": (*_TEXT, ".parquet"),
}
_URL_NAMES = ("url", "URL")
_CAPTION_NAMES = ("text", "TEXT", "caption", "CAPTION", "top_caption")
_LICENCE_NAMES = ("LICENSE", "license")
_ALT_TEXTS = ("laion", "datacomp")
_PARQUET_BATCH = 8_192


def slices(source: TableSource) -> list[Slice]:
    """Return the parts in which a table is read, in order; RequestError names what is missing."""
    if source.format == "sbu" and source.uris[0].endswith(".txt"):
        if len(source.uris) != 2:
            raise RequestError(f"{_KEY}: sbu as text is two files: addresses, then captions")
        for uri in source.uris:
            storage.size(uri)
        return _named([Slice(source.uris[0], other=source.uris[1])])
    found: list[Slice] = []
    for file in files_of(source.uris, _ENDINGS[source.format], _KEY):
        name = file.uri.lower()
        if name.endswith(".parquet"):
            found.extend(_row_group_slices(file.uri))
        elif name.endswith(_TEXT):
            starts = range(0, max(1, storage.size(file.uri)), SLICE_BYTES)
            found.extend(Slice(file.uri, "", first, first + SLICE_BYTES) for first in starts)
        else:
            found.append(Slice(file.uri))
    return _named(found)


def _named(parts: list[Slice]) -> list[Slice]:
    """Return the parts with their names: the path from the folder that all files have in common."""
    files = {part.uri for part in parts}
    folders = zip(*(uri.split("/")[:-1] for uri in files), strict=False)
    depth = sum(1 for _ in itertools.takewhile(lambda names: len(set(names)) == 1, folders))
    names = {uri: "/".join(uri.split("/")[depth:]) for uri in files}
    return [
        replace(part, name=names[part.uri] + (f"@{part.first}" if part.first else ""))
        for part in parts
    ]


def text_source(source: TableSource) -> str:
    """Return what the texts of a table count as in `text_filter.sources`."""
    return source.text_source or ("alt" if source.format in _ALT_TEXTS else "caption")


def inputs_of(part: Slice) -> dict[str, Any]:
    """Return what a unit that reads a part depends on: which part of which file, and its size."""
    return {**asdict(part), "bytes": storage.size(part.uri)}


def part_of(inputs: Mapping[str, Any]) -> Slice:
    """Return the part that a unit with these inputs reads."""
    return Slice(**{name: value for name, value in inputs.items() if name != "bytes"})


def read_slice(part: Slice, source: TableSource) -> Iterator[TableRow]:
    """Yield the rows of one part of a table."""
    if part.other:
        return table_lines.paired(part)
    if part.uri.lower().endswith(".parquet"):
        return _parquet_rows(part, source)
    if source.format == "sbu":
        return _parallel_lists(part.uri)
    return table_lines.read(part, source)


def _parallel_lists(uri: str) -> Iterator[TableRow]:
    """Yield the rows of SBU's JSON: two lists of equal length in one object."""
    pairs = itertools.zip_longest(elements(uri, "image_urls"), elements(uri, "captions"))
    for number, (url, caption) in enumerate(pairs):
        yield good_row(number, url, caption)


@contextlib.contextmanager
def _parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """Open a parquet file; RequestError if it is none or is damaged."""
    with storage.open_read(uri) as file:
        try:
            yield pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            first = str(error).splitlines()[0]
            raise RequestError(f"{uri}: no whole parquet file ({first}); fetch it again") from error


def _row_group_slices(uri: str) -> list[Slice]:
    """Return runs of row groups of about SLICE_ROWS rows."""
    found: list[Slice] = []
    first = rows = 0
    with _parquet(uri) as parquet:
        groups = parquet.metadata.num_row_groups
        for group in range(groups):
            rows += parquet.metadata.row_group(group).num_rows
            if rows >= SLICE_ROWS or group + 1 == groups:
                found.append(Slice(uri, "", first, group + 1))
                first, rows = group + 1, 0
    return found


def _parquet_rows(part: Slice, source: TableSource) -> Iterator[TableRow]:
    """Yield the rows of some row groups."""
    with _parquet(part.uri) as parquet:
        columns = _parquet_columns(part.uri, parquet.schema_arrow.names, source.columns)
        wanted = [name for name in columns if name is not None]
        groups = list(range(part.first, part.beyond))
        number = 0
        for batch in parquet.iter_batches(_PARQUET_BATCH, row_groups=groups, columns=wanted):
            values = batch.to_pydict()
            absent = [None] * batch.num_rows
            listed = (absent if name is None else values[name] for name in columns)
            for url, caption, licence in zip(*listed, strict=True):
                if isinstance(caption, str | None):
                    yield good_row(number, url, caption, licence)
                else:
                    yield bad_row(number, url)
                number += 1


def _parquet_columns(
    uri: str, names: list[str], columns: Columns | None
) -> tuple[str, str, str | None]:
    """Return the names of the columns of address, caption and licence."""
    if columns is None:
        url = next((name for name in _URL_NAMES if name in names), None)
        caption = next((name for name in _CAPTION_NAMES if name in names), None)
        if url is not None and caption is not None:
            return url, caption, next((name for name in _LICENCE_NAMES if name in names), None)
        raise RequestError(
            f"{uri}: no columns of addresses and texts among {', '.join(names)}; "
            "use collect.source.format columns and name them"
        )
    asked = (columns.url, columns.caption, columns.licence)
    for name in asked:
        if name is not None and name not in names:
            raise RequestError(
                f"{uri}: no column {name!r}; collect.source.columns names columns out of "
                f"{', '.join(names)}"
            )
    return asked  # type: ignore[return-value]

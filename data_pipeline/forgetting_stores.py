"""Removes what is taken down from a corpus' own stores: what its steps left in `work/`.

Tables and images that a retry or a selection goes on from are rewritten in place, the bytes of an
image as zeros, so that no offset moves. What can be made anew from these is dropped whole.
"""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.steps.gallery import PLACE
from data_pipeline.takedowns import FORGOTTEN, Takedowns, forgotten_candidate
from data_pipeline.units import Entry, Ledger, folder_of
from trawl import storage

_DROPPED = ("route", "select", "detect", "score")
_COPY_BYTES = 8 << 20
Row = dict[str, Any]


def clear_stores(uri: str, taken: Takedowns) -> None:
    """Remove what is taken down from the stores of the corpus at `uri`; again is no harm.

    What another corpus made and this one only names is left to a takedown from that one.
    """
    ledger = Ledger(uri)
    downloads = _own(ledger, "download")
    looks = _own(ledger, "image_filter")
    for name, entry in downloads.items():
        _clear_images(uri, entry, looks.get(name), taken)
    sentences = _own(ledger, "sentences")
    for name, entry in _own(ledger, "gather").items():
        _clear_candidates(uri, entry, sentences.get(name), downloads, taken)
    for phase in _DROPPED:
        ledger.forget_phase(phase)
    _clear_gallery(uri, taken)


def _own(ledger: Ledger, phase: str) -> dict[str, Entry]:
    """Return the entries of a phase whose files lie in this corpus."""
    return {
        name: entry
        for name, entry in ledger.done(phase).items()
        if not entry.home and storage.exists(folder_of(ledger.out, entry))
    }


def _clear_images(uri: str, entry: Entry, look: Entry | None, taken: Takedowns) -> None:
    """Remove the images of one download unit: first their bytes, then what names them."""
    place = storage.join(folder_of(uri, entry), "images.parquet")
    rows = pq_rows(place)
    phashes: dict[str, str] = {}
    if look is not None:
        seen = storage.join(folder_of(uri, look), "looks.parquet")
        phashes = {row["sha256"]: row["phash"] for row in pq_rows(seen)}
    hit = {
        row["url"]
        for row in rows
        if row["reason"] != FORGOTTEN
        and (
            taken.take_address(row["url"])
            or taken.take_image(row["sha256"], phashes.get(row["sha256"], ""))
        )
    }
    if not hit:
        return
    gone = {row["sha256"] for row in rows if row["url"] in hit and row["sha256"]}
    spots = {(row["offset"], row["size"]) for row in rows if row["sha256"] in gone}
    _blank(storage.join(folder_of(uri, entry), "images.bin"), spots)
    if look is not None:
        _rewrite(seen, lambda row: None if row["sha256"] in gone else row)
    empty = {"sha256": "", "kind": "", "width": 0, "height": 0, "offset": 0, "size": 0}
    blank = {**empty, "reason": FORGOTTEN, "passing": False, "robots": "[]", "notes": "{}"}
    _rewrite(place, lambda row: {**row, **blank} if row["url"] in hit else row)


def _blank(place: str, spots: set[tuple[int, int]]) -> None:
    """Put zeros in the place of some bytes of a file."""
    if not spots:
        return
    with storage.open_read(place) as source, storage.open_atomic(place) as target:
        at = 0
        for offset, size in sorted(spots):
            _copy(source, target, offset - at)
            target.write(bytes(size))
            source.seek(offset + size)
            at = offset + size
        _copy(source, target, None)


def _copy(source: Any, target: Any, count: int | None) -> None:
    """Copy `count` bytes, or all that are left."""
    while count is None or count > 0:
        piece = source.read(_COPY_BYTES if count is None else min(count, _COPY_BYTES))
        if not piece:
            return
        target.write(piece)
        count = None if count is None else count - len(piece)


def _clear_candidates(
    uri: str, entry: Entry, text: Entry | None, downloads: dict[str, Entry], taken: Takedowns
) -> None:
    """Remove texts and findings of the candidates of one partition."""
    gone = {
        row["url"]
        for name, unit in downloads.items()
        if name.partition("-")[0] == entry.name
        for row in pq_rows(storage.join(folder_of(uri, unit), "images.parquet"), ["url", "reason"])
        if row["reason"] == FORGOTTEN
    }
    place = storage.join(folder_of(uri, entry), "candidates.parquet")
    numbers = {
        number
        for number, row in enumerate(pq_rows(place, ["url", "page", "reason"]))
        if row["url"] in gone or taken.take_address(row["url"], row["page"])
    }
    if not numbers:
        return
    if text is not None:
        texts = storage.join(folder_of(uri, text), "texts.parquet")
        _rewrite(texts, lambda row: None if row["row"] in numbers else row)
    count = iter(range(1 << 62))
    _rewrite(place, lambda row: forgotten_candidate(row) if next(count) in numbers else row)


def _clear_gallery(uri: str, taken: Takedowns) -> None:
    """Remove the thumbnails of what is taken down from the report's store."""
    place = storage.join(uri, *PLACE)
    if not storage.exists(place):
        return
    lines = storage.read_text(place).splitlines(keepends=True)
    left = [line for line in lines if not _is_taken(json.loads(line), taken)]
    if len(left) < len(lines):
        storage.write_text(place, "".join(left))


def _is_taken(row: Row, taken: Takedowns) -> bool:
    return taken.take_address(row["url"], row["page"]) or taken.take_image(row["sha256"])


def pq_rows(place: str, columns: list[str] | None = None) -> list[Row]:
    """Return all rows of a table of one unit."""
    with storage.open_read(place) as file:
        return pq.ParquetFile(file).read(columns=columns).to_pylist()  # type: ignore[no-any-return]


def _rewrite(place: str, change: Callable[[Row], Row | None]) -> None:
    """Rewrite a table row by row, None dropping one, with the row groups that it had."""
    with storage.open_read(place) as file, storage.open_atomic(place) as target:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for number in range(parquet.num_row_groups):
                rows = parquet.read_row_group(number).to_pylist()
                changed = [new for row in rows if (new := change(row)) is not None]
                writer.write_table(pa.Table.from_pylist(changed, schema=schema))

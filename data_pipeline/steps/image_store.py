"""What comes of the addresses of one download unit: bytes in one file, and a row an address."""

import collections
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from data_pipeline.images import Header, ImageError, read_header, shrunk, sniff
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.collect import OPT_OUT
from data_pipeline.steps.tables import Row
from data_pipeline.takedowns import FORGOTTEN, Takedowns

# After these another address of the same picture may be tried; a refusal is final.
_MENDABLE = frozenset(
    ("http-error", "not-in-warc", "not-an-image", "bad-header", "timeout", "connection")
    + ("too-large", "too-many-redirects", "truncated", "bad-url")
)


@dataclass(slots=True)
class Arrival:
    """What came of one address: bytes, or a reason why there are none."""

    body: bytes | None
    reason: str = ""
    status: int = 0
    robots: tuple[str, ...] = ()
    passing: bool = False  # the reason may be gone on another day
    sha256: str = ""  # of the bytes, where they may be an image

    def work_out_hash(self) -> None:
        """Set the hash, unless the first bytes tell that there is no image."""
        if self.body is not None and sniff(self.body):
            self.sha256 = hashlib.sha256(self.body).hexdigest()


class ImageStore:
    """Writes image bytes one after the other, equal bytes once, and keeps a row an address."""

    def __init__(self, file: BinaryIO, recipe: CorpusRecipe, taken: Takedowns) -> None:
        self._file = file
        self._taken = taken
        self._respect_opt_out = recipe.collect.respect_opt_out
        self._min_side = recipe.image_filter.min_side
        self._max_side = recipe.download.max_side
        self._max_pixels = recipe.image_filter.max_pixels
        self._offset = 0
        self._unwritten: list[bytes] = []
        self._known: dict[str, Row] = {}
        self._rows: dict[str, Row] = {}
        self._passing: dict[str, bool] = {}

    def add(self, url: str, arrival: Arrival) -> None:
        """Take what came for `url`; a second arrival replaces a first that was no good."""
        self.add_all([(arrival, [url])])

    def add_all(self, arrivals: Sequence[tuple[Arrival, Sequence[str]]]) -> None:
        """Take arrivals with the addresses that each came for, as `add` does.

        To hash some, then to write them, takes less than to do both with one after the other: each
        image passes through the processor's cache and leaves none of the code and rows there.
        """
        for arrival, _ in arrivals:
            arrival.work_out_hash()
        for arrival, urls in arrivals:
            for url in urls:
                self._take(url, arrival)
        self._file.writelines(self._unwritten)
        self._unwritten.clear()

    def _take(self, url: str, arrival: Arrival) -> None:
        row = self._row(url, arrival)
        self._passing[url] = self._passing.get(url, False) or arrival.passing
        if url not in self._rows or self._is_good(row):
            self._rows[url] = row

    def wants_more(self, url: str) -> bool:
        """Say whether another address of the same picture may bring a better image."""
        row = self._rows.get(url)
        return row is None or row["reason"] in _MENDABLE or not (row["reason"] or self._fits(row))

    def rows(self) -> list[Row]:
        """Return the rows, sorted by address."""
        return [{**self._rows[url], "passing": self._passing[url]} for url in sorted(self._rows)]

    def counts(self) -> dict[str, int]:
        """Count the images and the reasons why there are none."""
        counts = collections.Counter(row["reason"] or "images" for row in self._rows.values())
        return {**counts, "bytes": self._offset}

    def _is_good(self, row: Row) -> bool:
        return not row["reason"] and self._fits(row)

    def _fits(self, row: Row) -> bool:
        return min(row["width"], row["height"]) >= self._min_side  # type: ignore[no-any-return]

    def _row(self, url: str, arrival: Arrival) -> Row:
        """Return the row of an arrival, whose bytes are to be written if they are a new image."""
        row: Row = {
            "url": url,
            "reason": arrival.reason,
            "sha256": "",
            "kind": "",
            "width": 0,
            "height": 0,
            "offset": 0,
            "size": 0,
            "robots": _robots_text(arrival.robots),
            "notes": _notes_text(arrival.status),
        }
        if arrival.body is None:
            return row
        if self._respect_opt_out and any(signal in OPT_OUT for signal in arrival.robots):
            return {**row, "reason": "opt-out"}
        try:
            header, body, digest = self._taken_in(arrival.body, arrival.sha256)
        except ImageError as error:
            return {**row, "reason": error.reason}
        row.update(kind=header.kind, width=header.width, height=header.height)
        row.update(self._place(body, digest))
        return row

    def _taken_in(self, body: bytes, digest: str) -> tuple[Header, bytes, str]:
        """Return header, bytes and hash of an image as it is kept; ImageError if it is not."""
        header = read_header(body)
        taken = self._taken.take_image(digest)
        if self._max_side and max(header.width, header.height) > self._max_side and not taken:
            body = shrunk(body, self._max_side, self._max_pixels)
            header = read_header(body)
            digest = hashlib.sha256(body).hexdigest()
            taken = self._taken.take_image(digest)
        if taken:
            raise ImageError(FORGOTTEN)
        return header, body, digest

    def _place(self, body: bytes, digest: str) -> Row:
        """Have bytes written unless they lie there already; return hash, offset and size."""
        if digest not in self._known:
            self._known[digest] = {"sha256": digest, "offset": self._offset, "size": len(body)}
            self._unwritten.append(body)
            self._offset += len(body)
        return self._known[digest]


@functools.lru_cache(maxsize=1024)
def _robots_text(robots: tuple[str, ...]) -> str:
    return json.dumps(list(robots))


@functools.lru_cache(maxsize=1024)
def _notes_text(status: int) -> str:
    return json.dumps({"status": status} if status else {})

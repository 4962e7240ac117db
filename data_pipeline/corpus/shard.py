"""One shard, memory-mapped through its index, and the samples in it.

Nothing here takes offsets on trust: an index that points outside its shard is an error, never a
read elsewhere.
"""

import mmap
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from data_pipeline.corpus import index
from data_pipeline.corpus.regions import FIELDS, Regions
from trawl.errors import WorkError

Bytes = npt.NDArray[np.uint8]


class Sample:
    """One sample: its key, the content of `KEY.json`, and its regions as views of the shard.

    What is not asked for is not read.
    """

    __slots__ = ("__dict__", "row", "shard")

    def __init__(self, shard: "Shard", row: Any) -> None:
        self.shard = shard
        self.row = row

    @cached_property
    def key(self) -> str:
        """The sample's key."""
        key: str = self.row["key"].decode()
        return key

    @property
    def region_count(self) -> int:
        """How many regions the sample has."""
        return int(self.row["count"])

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The content of `KEY.json`; WorkError if it cannot be read."""
        data = self.shard.member(self.row, "json")
        try:
            # The parser that checked it when it was written, and twice as fast as json's.
            meta = from_json(bytes(data))
        except ValueError as error:
            raise WorkError(f"{self.shard.path}: {self.key}.json is not JSON ({error})") from error
        if not isinstance(meta, dict):
            raise WorkError(f"{self.shard.path}: {self.key}.json is not an object")
        return meta

    @cached_property
    def regions(self) -> Regions:
        """The regions as read-only views, without copying; WorkError if they cannot be read."""
        arrays: dict[str, Any] = dict.fromkeys(FIELDS)
        try:
            for name, place in index.placements_in(self.row).items():
                arrays[name] = place.view(self.shard.view)
        except ValueError as error:
            raise self.shard.past_the_end(str(error)) from error
        return Regions(**arrays)


class Shard:
    """One shard, memory-mapped."""

    def __init__(self, tar: Path, table: Path) -> None:
        self.path = tar
        # A memmap's own indexing takes several times as long as that of the array under it.
        self.rows: npt.NDArray[Any] = np.asarray(index.open_index(table))
        with tar.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view = memoryview(self._mapped)
        self.bytes: Bytes = np.frombuffer(self.view, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def past_the_end(self, what: str) -> WorkError:
        """Return the error that says that the index points outside the shard."""
        return WorkError(f"{self.path}: the index points past the end ({what})")

    def member(self, row: Any, name: str) -> memoryview:
        """Return the bytes of a member of the sample in `row`: json, image or regions."""
        start, size = int(row[name]), int(row[f"{name}_size"])
        if start + size > len(self.view):
            raise self.past_the_end(f"{name} at {start}")
        return self.view[start : start + size]

    def sample(self, number: int) -> Sample:
        """Return sample `number` of this shard."""
        return Sample(self, self.rows[number])

    def image(self, number: int) -> bytes | None:
        """Return the image bytes of sample `number`, None if the corpus was built without."""
        row = self.rows[number]
        return bytes(self.member(row, "image")) if row["image"] else None

    def will_need(self, number: int) -> None:
        """Ask the kernel to read the regions and the JSON of sample `number` ahead of their use."""
        row = self.rows[number]
        start = min(int(row["json"]), int(row["regions"])) // mmap.PAGESIZE * mmap.PAGESIZE
        stop = max(int(row["json"] + row["json_size"]), int(row["regions"] + row["regions_size"]))
        if start < stop <= len(self.view):
            self._mapped.madvise(mmap.MADV_WILLNEED, start, stop - start)

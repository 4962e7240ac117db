"""Reads a corpus by sample number, without unpacking: shards are memory-mapped through their index.

Remote shards are fetched once, whole, into a cache folder. Nothing here takes offsets on trust:
an index that points outside its shard is an error, never a read elsewhere.
"""

import bisect
import itertools
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from data_pipeline.corpus import index
from data_pipeline.corpus.manifest import Manifest, read_manifest
from data_pipeline.corpus.regions import FIELDS, Regions
from data_pipeline.corpus.writer import FOLDER, index_name
from trawl import storage
from trawl.errors import WorkError

CACHE_VARIABLE = "TRAWL_CACHE"


def default_cache() -> Path:
    """Return the folder for copies of remote shards: $TRAWL_CACHE, else ~/.cache/trawl."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "trawl")


@dataclass(frozen=True)
class Sample:
    """One sample: its key, the content of `KEY.json`, and its regions as views of the shard."""

    key: str
    meta: dict[str, Any]
    regions: Regions


class Shard:
    """One shard, memory-mapped."""

    def __init__(self, tar: Path, table: Path) -> None:
        self.path = tar
        self.rows: npt.NDArray[Any] = index.open_index(table)
        with tar.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(mapped)

    def __len__(self) -> int:
        return len(self.rows)

    def _slice(self, row: Any, name: str) -> memoryview:
        start, size = int(row[name]), int(row[f"{name}_size"])
        if start + size > len(self._view):
            raise WorkError(f"{self.path}: the index points past the end ({name} at {start})")
        return self._view[start : start + size]

    def sample(self, number: int) -> Sample:
        """Return sample `number` of this shard."""
        row = self.rows[number]
        key = row["key"].decode()
        try:
            meta = json.loads(bytes(self._slice(row, "json")))
        except ValueError as error:
            raise WorkError(f"{self.path}: {key}.json is not JSON ({error})") from error
        return Sample(key, meta, self.regions(number))

    def regions(self, number: int) -> Regions:
        """Return the regions of sample `number` as read-only views, without copying."""
        arrays: dict[str, Any] = dict.fromkeys(FIELDS)
        try:
            for name, place in index.placements_in(self.rows[number]).items():
                arrays[name] = place.view(self._view)
        except ValueError as error:
            raise WorkError(f"{self.path}: the index points past the end ({error})") from error
        return Regions(**arrays)

    def image(self, number: int) -> bytes | None:
        """Return the image bytes of sample `number`, None if the corpus was built without."""
        row = self.rows[number]
        return bytes(self._slice(row, "image")) if row["image"] else None


class Corpus:
    """A corpus as a sequence of samples, in the order of its shards.

    Shards are opened when first touched, so that opening a corpus costs one read of its manifest.
    `Corpus(uri)[i]` is a Sample; negative numbers count from the end.
    """

    def __init__(self, uri: str | Path, cache: Path | None = None) -> None:
        self.uri = str(uri)
        self.manifest: Manifest = read_manifest(self.uri)
        self._cache = cache or default_cache()
        self._ends = list(itertools.accumulate(shard.samples for shard in self.manifest.shards))
        self._shards: dict[int, Shard] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Sample:
        shard, inside = self._locate(number)
        return shard.sample(inside)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped shards behind when the corpus goes to another process."""
        return {**self.__dict__, "_shards": {}}

    def regions(self, number: int) -> Regions:
        """Return the regions of a sample without parsing its JSON."""
        shard, inside = self._locate(number)
        return shard.regions(inside)

    def image(self, number: int) -> bytes | None:
        """Return the image bytes of a sample, None if the corpus was built without images."""
        shard, inside = self._locate(number)
        return shard.image(inside)

    def _locate(self, number: int) -> tuple[Shard, int]:
        """Return the shard that holds sample `number` of the corpus, and its number in there."""
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"{self.uri}: no sample {number} among {len(self)}")
        position = bisect.bisect_right(self._ends, number)
        shard = self.shard(position)
        return shard, number - (self._ends[position] - self.manifest.shards[position].samples)

    def shard(self, position: int) -> Shard:
        """Return shard `position`, opened; WorkError if its size is not the manifest's."""
        if position not in self._shards:
            record = self.manifest.shards[position]
            tar = self._local(record.name, record.sha256)
            table = self._local(index_name(record.name), record.index_sha256)
            if not tar.exists() or tar.stat().st_size != record.bytes:
                raise WorkError(f"{tar}: missing or not {record.bytes} bytes; run corpus verify")
            opened = Shard(tar, table)
            if len(opened) != record.samples:
                raise WorkError(f"{table}: {len(opened)} samples, {record.samples} in the manifest")
            self._shards[position] = opened
        return self._shards[position]

    def _local(self, name: str, sha256: str) -> Path:
        """Return a local path of a file in `shards/`; the cache is keyed by content."""
        return storage.local_path(storage.join(self.uri, FOLDER, name), self._cache / sha256[:16])

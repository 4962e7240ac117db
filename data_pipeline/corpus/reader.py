"""Reads a corpus by sample number, without unpacking: shards are memory-mapped through their index.

Remote shards are fetched whole into a bounded cache when first touched, or ahead of that. A bad
shard ends the reading, or its samples are replaced by others of the corpus: which ones is a
function of the sample's number and of the bad shards alone, the same for every reader.
"""

import bisect
import hashlib
import itertools
import logging
import os
import resource
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.cache import FileCache
from data_pipeline.corpus.faults import BadShardError
from data_pipeline.corpus.gather import RegionBlock, gather
from data_pipeline.corpus.index import ROW
from data_pipeline.corpus.manifest import Manifest, ShardRecord, read_manifest
from data_pipeline.corpus.reading import Reading
from data_pipeline.corpus.regions import Regions
from data_pipeline.corpus.shard import Sample as Sample
from data_pipeline.corpus.shard import Shard
from data_pipeline.corpus.writer import FOLDER, index_name
from trawl import storage
from trawl.errors import WorkError

CACHE_VARIABLE = "TRAWL_CACHE"
_TRIES = 1000
_GOLDEN = 0x9E3779B97F4A7C15
_LOG = logging.getLogger("data_pipeline")

Numbers = npt.NDArray[np.int64]


def default_cache() -> Path:
    """Return the folder for copies of remote shards: $TRAWL_CACHE, else ~/.cache/trawl."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "trawl")


class Corpus:
    """A corpus as a sequence of samples, in the order of its shards.

    Shards are opened when first touched, so that opening a corpus costs one read of its manifest.
    `Corpus(uri)[i]` is a Sample; negative numbers count from the end.
    """

    def __init__(self, uri: str | Path, reading: Reading | None = None) -> None:
        self.uri = str(uri)
        self.reading = reading or Reading()
        self.manifest: Manifest = read_manifest(self.uri)
        self.cache = FileCache(self.reading.cache or default_cache(), self.reading.cache_bytes)
        counts = [shard.samples for shard in self.manifest.shards]
        self._ends = list(itertools.accumulate(counts))
        self._starts = np.array([0, *self._ends[:-1]], dtype=np.int64)
        self._open = _OpenShards()
        self.bad: dict[int, str] = {}
        """Shards that are passed over, by position, and why."""

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Sample:
        shard, inside = self._locate(number)
        return shard.sample(inside)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    @property
    def remote(self) -> bool:
        """Whether the shards lie in an object store."""
        return storage.is_remote(self.uri)

    def regions(self, number: int) -> Regions:
        """Return the regions of a sample without parsing its JSON."""
        return self[number].regions

    def image(self, number: int) -> bytes | None:
        """Return the image bytes of a sample, None if the corpus was built without images."""
        shard, inside = self._locate(number)
        return shard.image(inside)

    def rows(self, numbers: Sequence[int] | Numbers) -> tuple[list[Shard], npt.NDArray[Any]]:
        """Return the shard of each sample of `numbers`, and their rows of the index [samples]."""
        wanted = np.asarray(numbers, dtype=np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"{self.uri}: no sample {wanted.max()} among {len(self)}")
        shards: list[Any] = [None] * len(wanted)
        rows = np.empty(len(wanted), dtype=ROW)
        positions = self._positions(wanted)
        arranged = np.argsort(positions, kind="stable")
        (cuts,) = np.nonzero(np.diff(positions[arranged]))
        for group in np.split(arranged, cuts + 1) if len(wanted) else []:
            position = int(positions[group[0]])
            shard = self._shard(position)
            if shard is None:
                for place in group.tolist():
                    shards[place], inside = self._locate(int(wanted[place]))
                    rows[place] = shards[place].rows[inside]
                continue
            rows[group] = shard.rows[wanted[group] - self._starts[position]]
            for place in group.tolist():
                shards[place] = shard
        return shards, rows

    def samples(self, numbers: Sequence[int] | Numbers) -> list[Sample]:
        """Return the samples of `numbers`, located together."""
        return list(map(Sample, *self.rows(numbers)))

    def read_into(self, numbers: Sequence[int] | Numbers, block: RegionBlock) -> list[Sample]:
        """Fill the rows of `block` [batch, width] with the first regions of samples; return these.

        Row i holds sample `numbers[i]`; a block with more rows keeps what it has in them. Raises
        what `gather` does.
        """
        shards, rows = self.rows(numbers)
        width = block.features.shape[1]
        starts = np.arange(len(rows), dtype=np.int64) * width
        gather(shards, rows, block, starts, starts + width)
        return list(map(Sample, shards, rows))

    def replaced(self, numbers: Sequence[int] | Numbers) -> int:
        """Return how many of the samples of `numbers` are replaced, their shards being bad."""
        if self.reading.bad_shards == "fail":
            return 0
        return sum(self._shard(int(position)) is None for position in self._positions(numbers))

    def shards_of(self, numbers: Sequence[int] | Numbers) -> list[int]:
        """Return the positions of the shards that hold the samples of `numbers`, in that order."""
        return list(dict.fromkeys(self._positions(numbers).tolist()))

    def _positions(self, numbers: Sequence[int] | Numbers) -> Numbers:
        """Return the position of the shard of each sample of `numbers`."""
        wanted = np.asarray(numbers, dtype=np.int64)
        # The last start that is not above a sample; shards without samples share their start.
        return np.searchsorted(self._starts, wanted, side="right") - 1

    def read_ahead(self, position: int) -> None:
        """Have the copy of the remote shard `position` here, and marked as used just now.

        A fault is kept for the one who opens the shard.
        """
        record = self.manifest.shards[position]
        try:
            self._local(record.name, record.sha256, record.bytes)
        except BadShardError:
            return

    def will_need(self, numbers: Sequence[int]) -> None:
        """Ask the kernel to read the samples of `numbers` from disk ahead of their use."""
        for number in numbers:
            shard, inside = self._locate(number)
            shard.will_need(inside)

    def release_evicted(self) -> None:
        """Let go of mapped copies that the cache has removed, so that their bytes become free."""
        if self.remote:
            self._open.drop_missing()

    def _locate(self, number: int) -> tuple[Shard, int]:
        """Return the shard that holds sample `number` of the corpus, and its number in there.

        For a sample of a bad shard, those of the sample that stands for it.
        """
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"{self.uri}: no sample {number} among {len(self)}")
        for tried in range(_TRIES):
            chosen = (number + tried * _GOLDEN) % len(self)
            position = bisect.bisect_right(self._ends, chosen)
            shard = self._shard(position)
            if shard is not None:
                return shard, chosen - int(self._starts[position])
        raise WorkError(
            f"{self.uri}: {len(self.bad)} of {len(self.manifest.shards)} shards are bad, first "
            f"{self._first_fault()}; run `trawl corpus verify`"
        )

    def _first_fault(self) -> str:
        position = min(self.bad)
        return f"{self.manifest.shards[position].name}: {self.bad[position]}"

    def _shard(self, position: int) -> Shard | None:
        """Return shard `position`, opened; None if it is bad and bad ones are passed over."""
        if (found := self._open.get(position)) is not None:
            return found
        if position in self.bad:
            return None
        try:
            opened = self._opened(self.manifest.shards[position])
        except BadShardError as error:
            if self.reading.bad_shards == "fail":
                raise
            _LOG.warning("%s: %s; its samples are replaced", error.place, error.fault)
            self.bad[position] = error.fault
            return None
        self._open.put(position, opened)
        return opened

    def shard(self, position: int) -> Shard:
        """Return shard `position`, opened; BadShardError if it is not as the manifest says."""
        return self._open.get(position) or self._opened(self.manifest.shards[position])

    def _opened(self, record: ShardRecord) -> Shard:
        """Open a shard; BadShardError if it is not as `record` says."""
        for attempt in range(_TRIES):
            table = self._local(index_name(record.name), record.index_sha256, None)
            tar = self._local(record.name, record.sha256, record.bytes)
            try:
                return self._checked(record, tar, table)
            except FileNotFoundError as error:
                if not self.remote:
                    raise BadShardError(str(error.filename), "missing") from error
                # Another process needed the room between the two lines.
            except BadShardError:
                if not self.remote or attempt:
                    raise
                # A copy that was damaged here says nothing of the shard.
                storage.remove(tar)
                storage.remove(table)
        raise WorkError(
            f"{self.cache.folder}: {record.name} is removed as soon as it is fetched; raise "
            "feeding.cache_bytes"
        )

    def _checked(self, record: ShardRecord, tar: Path, table: Path) -> Shard:
        """Open the local files of a shard; BadShardError if they are not as `record` says."""
        if tar.stat().st_size != record.bytes:
            raise BadShardError(
                str(tar), f"{tar.stat().st_size} bytes, the manifest says {record.bytes}"
            )
        if self.reading.check == "always":
            for place, sha256 in ((tar, record.sha256), (table, record.index_sha256)):
                with place.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                        raise BadShardError(str(place), "the checksum is not the manifest's")
        try:
            opened = Shard(tar, table)
        except (WorkError, ValueError) as error:
            fault = str(error).removeprefix(f"{table}: ")
            raise BadShardError(str(table), fault) from error
        if len(opened) != record.samples:
            raise BadShardError(
                str(table), f"{len(opened)} samples, the manifest says {record.samples}"
            )
        return opened

    def _local(self, name: str, sha256: str, size: int | None) -> Path:
        """Return a local path of a file in `shards/`, fetched if it is remote and not here."""
        place = storage.join(self.uri, FOLDER, name)
        if not self.remote:
            return Path(place)
        return self.cache.get(place, sha256, size, self.reading.check != "never")


class _OpenShards:
    """The mapped shards, the most recently used of them: each takes two open files.

    A copy for another process is empty.
    """

    def __init__(self) -> None:
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = Lock()
        self._most = _file_limit() // 8

    def __reduce__(self) -> tuple[type["_OpenShards"], tuple[()]]:
        return _OpenShards, ()

    def get(self, position: int) -> Shard | None:
        shard = self._shards.get(position)
        if shard is not None and len(self._shards) * 2 > self._most:
            with self._lock:
                self._shards.pop(position, None)
                self._shards[position] = shard
        return shard

    def put(self, position: int, shard: Shard) -> None:
        with self._lock:
            self._shards[position] = shard
            while len(self._shards) > self._most:
                self._shards.popitem(last=False)

    def drop_missing(self) -> None:
        with self._lock:
            for position, shard in list(self._shards.items()):
                if not shard.path.exists():
                    del self._shards[position]


def _file_limit() -> int:
    """Return how many files this process may open, after raising the limit to what is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most

"""A folder of copies of remote files, bounded in bytes, that several processes share.

Files are named by content and appear whole. The least recently used go first when room is needed;
one that a process has mapped goes all the same, and its bytes are free once that process lets go.
A file being fetched is locked by its fetcher and counted at its full size, so the bound holds
while many fetch; the lock of a killed fetcher dies with it, and what it left is swept up.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO

from data_pipeline.corpus.faults import BadShardError
from trawl import storage
from trawl.errors import RequestError, WorkError

_PART = ".part"
_ROOM_LOCK = "room.lock"
_WAIT_SECONDS = 0.1
_PIECE_BYTES = 16 << 20


class FileCache:
    """Copies of remote files in `folder`, `limit` bytes of them at most."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder / "files"
        self.limit = limit

    def path(self, sha256: str, name: str) -> Path:
        """Return where the copy of a file lies, if it lies here."""
        return self.folder / f"{sha256[:32]}{Path(name).suffix}"

    def touch(self, copy: Path) -> bool:
        """Mark `copy` as used just now; False if it is not there."""
        try:
            os.utime(copy)
        except FileNotFoundError:
            return False
        return True

    def get(self, uri: str, sha256: str, size: int | None, check: bool) -> Path:
        """Return a copy of the file at `uri`, fetched unless it is here; `check` its hash then.

        Raises BadShardError if the file is not as `sha256` and `size` say (None: not known),
        RequestError if it is larger than the cache.
        """
        copy = self.path(sha256, uri)
        while not self.touch(copy):
            try:
                found = storage.size(uri)
                if size not in (None, found):
                    raise BadShardError(uri, f"{found} bytes, the manifest says {size}")
                if found > self.limit:
                    raise RequestError(
                        f"{uri}: {found} bytes, and the cache holds {self.limit}; set "
                        "feeding.cache_bytes to many times that"
                    )
                self._fetch(uri, copy, sha256 if check else None, found)
            except storage.NotFoundError as error:
                raise BadShardError(uri, "missing") from error
            except ConnectionError as error:
                raise WorkError(f"{uri}: {error}; is the store up?") from error
            except OSError as error:
                raise WorkError(
                    f"{self.folder}: could not be written ({error.strerror or error}); set "
                    "feeding.cache to a folder with room"
                ) from error
        return copy

    def _fetch(self, uri: str, copy: Path, sha256: str | None, size: int) -> None:
        """Fetch `copy`, or wait for another process that does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = copy.with_name(copy.name + _PART)
        with os.fdopen(os.open(place, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            try:
                # Otherwise another has fetched it, or swept it up, before the lock was got.
                if _is_still(part, place) and not copy.exists():
                    part.truncate(0)
                    self._make_room(part, size)
                    _copy(uri, part, size, sha256)
                    part.flush()
                    os.fsync(part.fileno())
                    place.replace(copy)
            finally:
                if _is_still(part, place):
                    place.unlink()

    def _make_room(self, part: BinaryIO, size: int) -> None:
        """Remove the least recently used files until `size` more bytes fit, and take them."""
        while True:
            with (self.folder / _ROOM_LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._evict(size):
                    # Counted from now on; written over from the start.
                    part.truncate(size)
                    part.seek(0)
                    return
            # What is in the way is being fetched by others, and can go once they have it.
            time.sleep(_WAIT_SECONDS)

    def _evict(self, size: int) -> bool:
        """Remove files until `size` more bytes fit; False where fetches under way are in the way.

        Only while the lock on the room is held.
        """
        kept, taken = [], 0
        for entry in os.scandir(self.folder):
            if entry.name == _ROOM_LOCK:
                continue
            if entry.name.endswith(_PART) and _sweep(Path(entry.path)):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                taken += status.st_size
                if not entry.name.endswith(_PART):
                    kept.append((status.st_mtime_ns, status.st_size, entry.path))
        for _, freed, place in sorted(kept):
            if taken + size <= self.limit:
                break
            storage.remove(place)
            taken -= freed
        return taken + size <= self.limit


def _copy(uri: str, target: BinaryIO, size: int, sha256: str | None) -> None:
    """Copy the object at `uri` piece by piece; BadShardError if its hash is not `sha256`."""
    digest = hashlib.sha256()
    for start in range(0, size, _PIECE_BYTES):
        piece = storage.read_range(uri, start, min(size, start + _PIECE_BYTES))
        target.write(piece)
        if sha256 is not None:
            digest.update(piece)
    if sha256 is not None and digest.hexdigest() != sha256:
        raise BadShardError(uri, "the checksum is not the manifest's")


def _is_still(file: BinaryIO, place: Path) -> bool:
    """Say whether the open `file` is the one that lies at `place`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        return False


def _sweep(part: Path) -> bool:
    """Remove an unfinished file that a killed process left, which no one has locked."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True

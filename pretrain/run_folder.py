"""The folder of a run: where its parts lie, and its twin in an object store.

A run at an s3:// URI is worked on in a local folder, whose path follows from the URI, and mirrored:
checkpoints and published stages when they are whole, the small files with each of them. The store
is what counts: `run.id`, drawn when a run begins there, tells what another run at the same URI,
long removed, may have left in the local folder.
"""

import fcntl
import hashlib
import os
import secrets
import time
from pathlib import Path

from trawl import fence as fences
from trawl import storage
from trawl.errors import RequestError
from trawl.fence import Attempt, Fence

COMPLETE = "COMPLETE"
"""The file of a checkpoint that is written last."""

_LOCK_SECONDS = 30.0
_LOCK = "run.lock"
_IDENTITY = "run.id"
_SMALL_FILES = ("recipe.yaml", "metrics.jsonl", "events.jsonl")


class RunFolder:
    """The run at `uri`; `local` is the folder that this machine works in."""

    def __init__(self, uri: str, work: Path | None = None) -> None:
        self.uri = uri.rstrip("/")
        self.remote = storage.is_remote(uri)
        self.fence: Fence | None = None
        if not self.remote:
            self.local = Path(self.uri.removeprefix("file://")).absolute()
        else:
            digest = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
            self.local = (work or _cache_folder() / "runs") / f"{Path(self.uri).name}-{digest}"

    @property
    def metrics(self) -> Path:
        """The file of the metrics."""
        return self.local / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """The file of the events."""
        return self.local / "events.jsonl"

    def checkpoints(self, stage: str) -> Path:
        """The folder of the checkpoints of `stage`."""
        return self.local / "checkpoints" / stage

    def published(self, stage: str) -> Path:
        """The folder of the published form of `stage`."""
        return self.local / "stages" / stage

    def logs(self, rank: int) -> Path:
        """The log of `rank`."""
        return self.local / "logs" / f"{rank}.log"

    def twin(self, path: Path) -> str:
        """The URI under which the local `path` of this run is mirrored."""
        return storage.join(self.uri, path.relative_to(self.local).as_posix())

    def newest(self, path: Path) -> str:
        """Return where a reader finds `path`: here if the run is worked on here, else its twin."""
        if not self.remote:
            return str(path)
        here, there = self.local / _IDENTITY, storage.join(self.uri, _IDENTITY)
        ours = here.exists() and storage.exists(there)
        if ours and here.read_bytes() == storage.read_bytes(there) and path.exists():
            return str(path)
        return self.twin(path)

    def begin(self, attempt: Attempt | None = None) -> None:
        """Take the right to write here from older attempts; for rank 0, which holds the lock.

        Raises StaleError if a newer attempt of the same job has begun.
        """
        self.fence = fences.claim(self.uri, attempt)

    def check(self) -> None:
        """Raise StaleError if a newer attempt has begun; before each commit."""
        if self.fence is not None:
            self.fence.check()

    def lock(self, attempt: Attempt | None = None) -> int:
        """Keep other runs out of the folder while the returned file descriptor is open.

        The kernel gives the lock back when the process dies, so none is ever stale. A run that was
        just killed may still be dying: RequestError only after half a minute. From an older attempt
        of the same job, which may be stopped or cut off, the lock is taken away.
        """
        self.local.mkdir(parents=True, exist_ok=True)
        if fences.takes_over(self.uri, attempt):
            (self.local / _LOCK).unlink(missing_ok=True)
        file = os.open(self.local / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > deadline:
                    os.close(file)
                    raise RequestError(
                        f"{self.uri}: another run is at work there; stop it, or wait for it"
                    ) from error
                time.sleep(0.2)
            else:
                return file

    def claim(self) -> None:
        """Give the run in the object store its name, unless it has one; for rank 0 alone."""
        if self.remote:
            uri = storage.join(self.uri, _IDENTITY)
            storage.create_exclusive(uri, secrets.token_hex(16).encode())

    def discard_leftovers(self) -> None:
        """Empty the local folder if another run at the same URI left it; once a machine."""
        if not self.remote:
            return
        name = storage.read_bytes(storage.join(self.uri, _IDENTITY))
        here = self.local / _IDENTITY
        if here.exists() and here.read_bytes() == name:
            return
        for path in sorted(self.local.glob("*")):
            if path.name != _LOCK:
                storage.remove(path)
        storage.write_bytes(here, name)

    def push(self, path: Path) -> None:
        """Copy the local file `path` to the object store, if the run lies in one."""
        if self.remote and path.exists():
            self.check()
            storage.upload(path, self.twin(path))

    def push_small_files(self) -> None:
        """Mirror recipe, metrics, events and TensorBoard files."""
        if not self.remote:
            return
        board = self.local / "tensorboard"
        for path in [
            *(self.local / name for name in _SMALL_FILES),
            *sorted(board.rglob("events.*")),
        ]:
            self.push(path)

    def fetch(self, path: Path) -> None:
        """Copy the twin of the local file `path` from the object store, if there is one."""
        if not self.remote or not storage.exists(self.twin(path)):
            return
        with storage.open_read(self.twin(path)) as source, storage.open_atomic(path) as target:
            while piece := source.read(8 << 20):
                target.write(piece)

    def fetch_folder(self, path: Path) -> None:
        """Copy the twin of the local folder `path`, file by file; files that are there are kept."""
        prefix = self.twin(path) + "/"
        for uri in storage.list_files(self.twin(path)):
            copy = path / uri.removeprefix(prefix)
            if not copy.exists() or copy.stat().st_size != storage.size(uri):
                self.fetch(copy)


def _cache_folder() -> Path:
    """Return the user's cache folder: $TRAWL_CACHE, else ~/.cache/trawl."""
    return Path(os.environ.get("TRAWL_CACHE") or Path.home() / ".cache" / "trawl")

"""Fetching a release's files: in pieces, several at a time, on from where an earlier pull ended."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.checkpoints import manifest
from trawl import storage
from trawl.errors import RequestError, WorkError

PIECE_BYTES = 32 << 20
_STREAMS = 8


@dataclass(frozen=True)
class _File:
    """One file on its way: its content so far beside a list of the pieces that are in it."""

    source: str
    target: Path
    name: str
    entry: dict[str, Any]

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def journal(self) -> Path:
        return self.target.with_name(self.target.name + ".pieces")

    def missing(self) -> list[int]:
        """Return the starts of the pieces that are not there yet."""
        if manifest.check_file(str(self.target), self.name, self.entry) is None:
            return []
        self.target.unlink(missing_ok=True)
        size = self.entry["bytes"]
        done = set()
        if self.part.exists() and self.part.stat().st_size == size and self.journal.exists():
            # The last line may be torn: it is a piece that is fetched again.
            done = {int(line) for line in self.journal.read_text().split("\n")[:-1]}
        else:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.journal.unlink(missing_ok=True)
            with self.part.open("wb") as file:
                file.truncate(size)
        return [start for start in range(0, size, PIECE_BYTES) if start not in done]

    def take(self, start: int) -> None:
        """Fetch the piece that begins at `start`, and note it once it is on the disk."""
        length = min(PIECE_BYTES, self.entry["bytes"] - start)
        try:
            with storage.open_read(self.source) as source:
                source.seek(start)
                piece = source.read(length)
        except RequestError as error:
            raise WorkError(f"{self.source}: {self.name} is missing") from error
        with self.part.open("r+b") as target:
            target.seek(start)
            target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        with self.journal.open("a") as journal:
            journal.write(f"{start}\n")

    def finish(self) -> None:
        """Give the file its name if its hash is right; WorkError, and nothing is kept, if not."""
        if self.target.exists():
            return
        problem = manifest.check_file(str(self.part), self.name, self.entry)
        self.journal.unlink(missing_ok=True)
        if problem:
            self.part.unlink()
            raise WorkError(f"{self.source}: {problem}")
        self.part.replace(self.target)


def fetch(source: str, folder: Path, files: manifest.Files, fetched: Callable[[], None]) -> None:
    """Fetch `files` of the release at the URI `source` into `folder`, each against its hash.

    `fetched` is called after each file. Raises WorkError that names a file that is missing or
    damaged.
    """
    under_way = [
        _File(storage.join(source, name), folder / name, name, entry)
        for name, entry in files.items()
    ]
    with _pool() as do:
        do((file.take, start) for file in under_way for start in file.missing())
        do((_finished, file, fetched) for file in under_way)


def _finished(file: _File, fetched: Callable[[], None]) -> None:
    file.finish()
    fetched()


@contextlib.contextmanager
def _pool() -> Iterator[Callable[[Iterable[tuple[Any, ...]]], None]]:
    """Give a function that does all of some calls, several at a time, or raises the first error."""
    with ThreadPoolExecutor(_STREAMS, thread_name_prefix="fetch") as pool:

        def do(calls: Iterable[tuple[Any, ...]]) -> None:
            futures = [pool.submit(*call) for call in calls]
            try:
                for future in futures:
                    future.result()
            finally:
                for future in futures:
                    future.cancel()

        yield do

"""Fetches a file from an object store in pieces, through errors of server and network.

A piece that fails is asked for again, from where it began, after a pause that doubles. What is
fetched is hashed on the way.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from data_pipeline.corpus.faults import BadShardError
from trawl import storage
from trawl.errors import TrawlError, WorkError

PIECE_BYTES = 16 << 20
ATTEMPTS = 8
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0
_LOG = logging.getLogger("data_pipeline")

Answer = TypeVar("Answer", bytes, int)


class Fetcher:
    """Fetches files whole; `retries` counts the requests that were made again."""

    def __init__(self, attempts: int = ATTEMPTS, first_pause: float = FIRST_PAUSE) -> None:
        self.retries = 0
        self._attempts = attempts
        self._first_pause = first_pause

    def size(self, uri: str) -> int:
        """Return the bytes of the object at `uri`; BadShardError if it is missing."""
        return self._ask(uri, lambda: storage.size(uri))

    def fetch(self, uri: str, target: BinaryIO, size: int, sha256: str | None) -> None:
        """Copy the object at `uri` into `target`.

        Raises BadShardError if it is missing, has not `size` bytes, or has not the hash `sha256`
        (None: not checked); WorkError if the store goes on failing.
        """
        if (found := self.size(uri)) != size:
            raise BadShardError(uri, f"{found} bytes, the manifest says {size}")
        digest = hashlib.sha256()
        for start in range(0, size, PIECE_BYTES):
            piece = self._ask(uri, _Piece(uri, start, min(size, start + PIECE_BYTES)))
            target.write(piece)
            if sha256 is not None:
                digest.update(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise BadShardError(uri, "the checksum is not the manifest's")

    def _ask(self, uri: str, question: Callable[[], Answer]) -> Answer:
        """Return what `question` returns, asked again after errors that may pass."""
        attempt = 1
        while True:
            try:
                return question()
            except storage.NotFoundError as error:
                raise BadShardError(uri, "missing") from error
            except TrawlError:
                raise
            except PermissionError as error:
                raise WorkError(f"{uri}: may not be read ({error}); check the keys") from error
            except Exception as error:  # clients raise errors of their own beside OSError
                if attempt >= self._attempts:
                    raise WorkError(
                        f"{uri}: {attempt} attempts failed, the last with {type(error).__name__}: "
                        f"{error}; is the store up?"
                    ) from error
                _LOG.warning("%s: attempt %d failed: %r", uri, attempt, error)
            self.retries += 1
            time.sleep(min(LONGEST_PAUSE, self._first_pause * 2 ** (attempt - 1)))
            attempt += 1


class _Piece:
    """The question for one range of bytes of an object; OSError if it comes short."""

    def __init__(self, uri: str, start: int, stop: int) -> None:
        self._uri, self._start, self._stop = uri, start, stop

    def __call__(self) -> bytes:
        piece = storage.read_range(self._uri, self._start, self._stop)
        if len(piece) != self._stop - self._start:
            raise OSError(f"bytes {self._start} to {self._stop} came as {len(piece)} bytes")
        return piece

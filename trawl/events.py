"""The event log: JSON lines that every part writes and `status` reads."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from trawl import storage
from trawl.fence import Fence

_UPLOAD_SECONDS = 10.0


class EventLog:
    """Append events to a JSON-lines file; each line holds `time` (seconds), `kind` and its fields.

    A local line is one write in append mode, so that several processes can share a file and a kill
    loses nothing. An object store cannot append: there the log is kept in memory and put again
    every ten seconds and at the end, and what an earlier run wrote is kept.

    `fence`: nothing is written any more once a newer attempt has begun.
    """

    def __init__(self, uri: str | Path, fence: Fence | None = None) -> None:
        self.uri = str(uri)
        self._fence = fence
        self._remote = storage.is_remote(uri)
        self._lines: list[str] = []
        self._uploaded = time.monotonic()
        if self._remote:
            if storage.exists(uri):
                self._lines = storage.read_text(uri).splitlines(keepends=True)
            return
        path = Path(self.uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event."""
        event = {"time": round(time.time(), 3), "kind": kind, **fields}
        line = json.dumps(event, ensure_ascii=False, default=str) + "\n"
        if not self._remote:
            if self._fence is None or self._fence.stands:
                os.write(self._file, line.encode())
            return
        self._lines.append(line)
        if time.monotonic() - self._uploaded > _UPLOAD_SECONDS:
            self._upload()

    def _upload(self) -> None:
        if self._fence is not None and not self._fence.stands:
            return
        storage.write_text(self.uri, "".join(self._lines))
        self._uploaded = time.monotonic()

    def close(self) -> None:
        """Flush what is pending and close the file."""
        if self._remote:
            self._upload()
        elif self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_events(uri: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the events at `uri` in order; a line torn by a kill is passed over."""
    if not storage.exists(uri):
        return
    for line in storage.read_text(uri).splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            yield event

"""Progress of long work: a bar on a terminal, a line every 30 seconds where there is none."""

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

_LINE_SECONDS = 30.0


class Leg(Protocol):
    """One leg of the work, as seen by the code that does it."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more parts are done."""

    def note(self, text: str) -> None:
        """Show a word about the part at hand."""


class _BarLeg:
    """A leg shown as a bar on a terminal."""

    def __init__(self, bar: "object", task: int) -> None:
        self._bar, self._task = bar, task

    def advance(self, count: int = 1) -> None:
        self._bar.advance(self._task, count)  # type: ignore[attr-defined]

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)  # type: ignore[attr-defined]


class _LineLeg:
    """A leg told in lines, for logs."""

    def __init__(self, name: str, total: int | None) -> None:
        self._name, self._total, self._done, self._text = name, total, 0, ""
        self._started = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if time.monotonic() - self._last >= _LINE_SECONDS:
            self.line()

    def note(self, text: str) -> None:
        self._text = text
        self.advance(0)

    def line(self) -> None:
        self._last = time.monotonic()
        seconds = self._last - self._started
        of = f" of {self._total}" if self._total is not None else ""
        rate = self._done / seconds if seconds > 0 else 0.0
        text = f" {self._text}" if self._text else ""
        # With the time, as our logs have it, so that logs of several machines can be merged.
        moment = datetime.now().isoformat(" ", "milliseconds").replace(".", ",")
        print(
            f"{moment} {self._name}: {self._done}{of}, {rate:.1f}/s, {seconds:.0f} s{text}",
            file=sys.stderr,
            flush=True,
        )


@contextlib.contextmanager
def leg(name: str, total: int | None = None) -> Iterator[Leg]:
    """Show the progress of one leg called `name` with `total` parts (None: unknown) on stderr."""
    if not sys.stderr.isatty():
        told = _LineLeg(name, total)
        try:
            yield told
        finally:
            told.line()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield _BarLeg(bar, bar.add_task(name, total=total, note=""))

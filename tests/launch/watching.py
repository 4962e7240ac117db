"""Watching jobs in tests, and understanding those that fail."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.pretrain import runs
from trawl.events import read_events


def wait_until(seen: Callable[[], bool], folder: Path) -> None:
    """Wait until `seen` says yes; what the job in `folder` told is shown if it never does."""
    deadline = time.monotonic() + runs.PATIENCE
    while not seen():
        assert time.monotonic() < deadline, told(folder)
        time.sleep(0.1)


def told(folder: Path) -> str:
    """Everything that a failure may be understood by: events, and all that was printed."""
    logs = sorted(folder.glob("slurm-*.log")) + sorted(folder.glob("attempt-*/*.log"))
    events = [str(event) for event in read_events(folder / "events.jsonl")]
    return "\n".join([*events, *(path.read_text() for path in logs)])

"""Killing the ranks of a run with -9 at drawn moments, and saying where each kill fell."""

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from tests.pretrain import forked, runs
from trawl.events import read_events

Moment = Literal["writing", "starting", "training", "publishing"]
MOMENTS: tuple[Moment, ...] = (
    "writing", "starting", "writing", "training", "writing",
    "publishing", "training", "writing", "starting", "writing",
)  # fmt: skip
# Longer than ranks need to fork, meet and load.
_START_SECONDS = 3.0
_STEP_SECONDS = 0.1
_WRITE_SECONDS = 0.02


@dataclass(frozen=True)
class Kill:
    """One kill of all ranks."""

    moment: Moment
    """What the run was to be at."""
    seconds: float
    """From the start of the ranks."""
    steps: int
    """Lines of the metrics, which are steps that were taken."""
    last: list[str]
    """The kind of the newest event before it, if there was one."""
    torn: str | None
    """The checkpoint that was being written, if one was."""


def kill(path: Path, run: Path, moment: Moment, draws: random.Random) -> Kill:
    """Start two ranks on the recipe at `path`, and kill them at a drawn time within `moment`."""
    done = len(runs.lines(run))
    before, whole, prepared = _unfinished(run), _whole(run), _prepared(run)
    began = time.monotonic()
    ranks = forked.Ranks(path, 2)
    if moment == "starting":
        time.sleep(draws.uniform(0.0, _START_SECONDS))
    elif moment == "training":
        steps = done + draws.randrange(1, 5)
        ranks.wait_for(lambda: len(runs.lines(run)) >= steps)
        time.sleep(draws.uniform(0.0, _STEP_SECONDS))
    elif moment == "publishing":
        _stop_when(
            ranks, lambda: bool(_prepared(run) - prepared), draws.uniform(0.0, _STEP_SECONDS)
        )
    else:
        passed, delay = draws.randrange(2), draws.uniform(0.0, _WRITE_SECONDS)
        ranks.wait_for(lambda: _whole(run) >= whole + passed)
        _stop_when(ranks, lambda: bool(_unfinished(run) - before), delay)
    ranks.signal(signal.SIGKILL)
    seconds = time.monotonic() - began
    ranks.wait()
    torn = [Path(folder) for folder, _ in _unfinished(run) - before]
    return Kill(
        moment=moment,
        seconds=round(seconds, 2),
        steps=len(runs.lines(run)),
        last=[event["kind"] for event in read_events(run / "events.jsonl")][-1:],
        torn="/".join(torn[0].parts[-2:]) if torn else None,
    )


def _stop_when(ranks: forked.Ranks, seen: Callable[[], bool], delay: float) -> None:
    """Stop all ranks `delay` seconds after `seen` says yes, where it still does so then.

    What is seen is certain once they are stopped, however fast it passes.
    """
    while True:
        ranks.wait_for(seen)
        time.sleep(delay)
        ranks.signal(signal.SIGSTOP)
        while not all(map(_is_stopped, ranks.processes)):
            assert all(process.exitcode is None for process in ranks.processes), ranks.said
        if seen():
            return
        ranks.signal(signal.SIGCONT)


def _is_stopped(process: BaseProcess) -> bool:
    return ") T " in Path(f"/proc/{process.pid}/stat").read_text()


def _unfinished(run: Path) -> set[tuple[str, int]]:
    """The checkpoints that are not whole and newer than all whole ones, each with its change time.

    One that was torn before is another once it is written anew; one that is being deleted is older.
    """
    found = []
    for stage in (run / "checkpoints").glob("*"):
        whole = max((mark.parent.name for mark in stage.glob("step-*/COMPLETE")), default="")
        newer = [folder for folder in stage.glob("step-*") if folder.name > whole]
        found += [folder for folder in newer if not (folder / "COMPLETE").exists()]
    return _dated(found)


def _prepared(run: Path) -> set[tuple[str, int]]:
    """The releases that are being made, each with its change time."""
    return _dated((run / "stages").glob(".*.part"))


def _dated(folders: Iterable[Path]) -> set[tuple[str, int]]:
    found = set()
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            found.add((str(folder), folder.stat().st_ctime_ns))
    return found


def _whole(run: Path) -> int:
    """How many checkpoints became whole since the run began."""
    return sum(event["kind"] == "checkpoint" for event in read_events(run / "events.jsonl"))

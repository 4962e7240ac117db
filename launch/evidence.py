"""What a run's files tell of how an attempt of it went: bad steps, stacks, collectives, events."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trawl import tail

_LOG_LINES = 400
_WATCHDOG = "watchdog: no progress while "
_TRACEBACK = "Traceback (most recent call last):"
_MISSING = ("lost another rank", "closed by peer", "reset by peer")
_COLLECTIVES = "*.collectives.json"


@dataclass(frozen=True)
class Window:
    """The time of an attempt, in seconds since the epoch."""

    began: float
    ended: float

    def holds(self, moment: float) -> bool:
        """Whether `moment` lies in it; what is written at the very end may come a little later."""
        return self.began <= moment <= self.ended + 5.0


def within(events: Iterable[dict[str, Any]], window: Window) -> list[dict[str, Any]]:
    """Return the events of the window."""
    return [event for event in events if window.holds(event["time"])]


def of_kind(events: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind."""
    return [event for event in events if event["kind"] == kind]


def bad_step(events: list[dict[str, Any]], run: str) -> str:
    """Tell of the last bad step: rank, machine, samples, and how to look at them; "" if none."""
    found = of_kind(events, "bad-step")
    if not found:
        return ""
    last = found[-1]
    ranks = " and ".join(map(str, last["ranks"])) or "unknown"
    keys = ", ".join(last["keys"][:4])
    file = Path(last["file"])
    text = (
        f"In step {last['step']} of stage {last['stage']} {last['problem']}, on rank {ranks} "
        f"({', '.join(last['hosts'])}), {last['samples']} samples at positions "
        f"{last['positions']}, keys {keys}{', ...' if last['samples'] > 4 else ''}"
    )
    if len(found) > 1:
        text = f"{len(found)} steps were bad. {text}"
    if last["again"] == "transient":
        return f"{text}; computed again it was good, so suspect that machine."
    return (
        f"{text}; it is {last['again']}, so suspect the samples: {file} lists them, "
        f"`trawl pretrain replay {run} {file.stem}` computes them again."
    )


def stacks(run: Path, window: Window) -> list[Path]:
    """Return the logs of ranks into which the watchdog wrote stacks during the window."""
    found = []
    for log in sorted(run.glob("logs/*.log")):
        if log.stat().st_mtime < window.began:
            continue
        if any(_WATCHDOG.encode() in line for line in tail.last_lines(log, _LOG_LINES)):
            found.append(log)
    return found


def traceback_of(run: Path, window: Window) -> tuple[str, str]:
    """Return the last error in the log of a rank of the window, and that log; "" if there is none.

    Ranks that only miss another one are passed over.
    """
    for log in sorted(run.glob("logs/*.log")):
        if log.stat().st_mtime < window.began:
            continue
        lines = [line.decode("utf-8", "replace") for line in tail.last_lines(log, _LOG_LINES)]
        for error in reversed(_errors(lines)):
            if not any(words in error for words in _MISSING):
                return error, str(log)
    return "", ""


def _errors(lines: list[str]) -> list[str]:
    """Return the line that each traceback among `lines` ends in: the first that is not indented."""
    found, inside = [], False
    for line in lines:
        if line.endswith(_TRACEBACK):
            inside = True
        elif inside and line and not line.startswith((" ", "\t")):
            found.append(line)
            inside = False
    return found


def collectives(run: Path, window: Window) -> str:
    """Tell in which collective the ranks parted, by their flight recorders; "" if they do not say.

    Of each group the ranks' newest collectives are compared: those behind hold up the others.
    """
    newest: dict[str, dict[int, dict[str, Any]]] = {}
    for file in run.glob(f"logs/{_COLLECTIVES}"):
        if file.stat().st_mtime < window.began:
            continue
        for entry in json.loads(file.read_text(encoding="utf-8")):
            ranks = newest.setdefault(entry["group"], {})
            ranks[int(file.name.split(".")[0])] = entry
    for last in newest.values():
        open_ones = {rank: entry for rank, entry in last.items() if not entry["done"]}
        if not open_ones:
            continue
        rank, entry = min(open_ones.items())
        behind = sorted(r for r, other in last.items() if other["number"] < entry["number"])
        sizes = "x".join(map(str, entry["sizes"][0])) if entry["sizes"] else "?"
        text = f"rank {rank} waits in {entry['name']} number {entry['number']} ({sizes} values)"
        others = f", which rank {', '.join(map(str, behind))} has not begun" if behind else ""
        return text + others
    return ""

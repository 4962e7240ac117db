"""What an attempt's machines and ranks wrote, merged by time and filtered."""

import heapq
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from launch import attempts, kubernetes, output
from launch.state import state_of
from launch.status import RUNNING
from trawl import stamped
from trawl.errors import RequestError

_POLL_SECONDS = 0.5
_STATE_SECONDS = 5.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Chosen:
    """Which lines are wanted; None: all."""

    node: int | None = None
    rank: int | None = None
    pattern: re.Pattern[str] | None = None
    since: float | None = None
    """Seconds since the epoch."""

    @classmethod
    def of(
        cls,
        node: int | None = None,
        rank: int | None = None,
        grep: str | None = None,
        since: str | None = None,
    ) -> Self:
        """Return the choice that a command line makes; RequestError for what cannot be read."""
        try:
            pattern = re.compile(grep) if grep is not None else None
        except re.error as error:
            raise RequestError(f"--grep {grep}: no regular expression ({error})") from error
        return cls(node, rank, pattern, time.time() - _seconds(since) if since else None)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise RequestError(f"--since {text}: give a number with s, m, h or d, such as 15m")
    return float(found.group(1)) * _UNITS[found.group(2)]


@dataclass(frozen=True)
class Source:
    """One file, and the moment at which the attempt began."""

    name: str
    path: Path
    begin: float
    own: bool = True
    """Whether the attempt alone writes into it: then a clock that goes wrong loses no line."""


def sources(folder: Path, attempt: int, chosen: Chosen) -> list[Source]:
    """Return the files that machines and ranks of an attempt wrote into."""
    begin = _began(folder, attempt)
    found: list[Source] = []
    if chosen.rank is None:
        for path in sorted(attempts.folder_of(folder, attempt).glob("*.log"), key=_numbered):
            kind, number = path.stem.split("-")[:2]  # node-0.log, ssh-0-HOST.log
            if chosen.node in (None, int(number)):
                found.append(Source(f"{kind} {number}", path, begin))
    if chosen.node is None:
        found += [
            Source(f"rank {path.stem}", path, begin, own=False)
            for path in sorted(_run_logs(folder), key=_numbered)
            if chosen.rank in (None, int(path.stem))
        ]
    if not found:
        # Nobody came to write anything: what the batch script or the supervisor said.
        own = sorted(folder.glob("slurm-*.log")) + sorted(folder.glob("supervisor.log"))
        found = [Source(path.stem.split("-")[0], path, begin) for path in own]
    return found


def _numbered(path: Path) -> tuple[str, int]:
    words = path.stem.split("-")
    number = words[1] if len(words) > 1 else words[0]
    return words[0] if len(words) > 1 else "", int(number) if number.isdigit() else -1


def _run_logs(folder: Path) -> list[Path]:
    try:
        found = output.training_of(attempts.job_of(folder), folder)
    except RequestError:
        return []
    logs = found[1].local.glob("logs/*.log") if found else []
    return [path for path in logs if path.stem.isdigit()]


def _began(folder: Path, attempt: int) -> float:
    return float(attempts.beginning(folder, attempt).get("time", 0.0))


def _ended(folder: Path, attempt: int) -> float:
    """Return when the attempt ended; rank logs go on with those after it."""
    for event in attempts.since_submission(folder):
        if event["kind"] == "attempt-ended" and event["attempt"] == attempt:
            return float(event["time"])
    return float("inf")


def lines(
    folder: Path, attempt: int | None, chosen: Chosen, *, follow: bool = False
) -> Iterator[str]:
    """Yield the lines of `attempt` (None: the newest) that are `chosen`, by time.

    With `follow`, go on with what comes, of later attempts too, until the job ends.
    """
    _fetch(folder)
    number = attempt or attempts.newest(folder)
    last = _ended(folder, number) if attempt is not None else float("inf")
    places: dict[Path, int] = {}
    yield from _merged(sources(folder, number, chosen), chosen, places, last)
    while follow:
        goes_on = state_of(folder).now in (*RUNNING, "pending", "requeued")
        _fetch(folder)
        until = time.monotonic() + _STATE_SECONDS
        while True:
            found = sources(folder, attempt or attempts.newest(folder), chosen)
            yield from _merged(found, chosen, places, last)
            if not goes_on or time.monotonic() > until:
                break
            if attempts.was_told(folder, "job-ended"):
                break
            time.sleep(_POLL_SECONDS)
        follow = goes_on


def _fetch(folder: Path) -> None:
    """Have logs that lie elsewhere copied into the job's folder."""
    job = attempts.job_of(folder)
    if job.place.backend == "kubernetes":
        kubernetes.fetch_logs(folder)


def _merged(
    found: list[Source], chosen: Chosen, places: dict[Path, int], last: float
) -> Iterator[str]:
    """Yield the lines behind `places`, which are moved on, as they are shown."""
    width = max((len(source.name) for source in found), default=0)
    for seconds, _, name, text in heapq.merge(
        *(_read(source, number, places, chosen) for number, source in enumerate(found))
    ):
        if seconds > last + 1 or (chosen.since and seconds < chosen.since):
            continue
        if chosen.pattern is None or chosen.pattern.search(text):
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
            yield f"{moment} {name:{width}} | {text}"


def _read(
    source: Source, order: int, places: dict[Path, int], chosen: Chosen
) -> Iterator[tuple[float, int, str, str]]:
    """Yield what is new in a file: its time, the file's order, its name, and the text."""
    known = source.path in places
    if not known:
        first = max(source.begin, chosen.since or 0.0)
        places[source.path] = stamped.offset_of(source.path, first)
    # In a rank's log, which goes on through attempts, what stands before the beginning of this one
    # is an earlier one's. What is new in a file that is followed came just now.
    begun = known or places[source.path] == 0
    before = time.time() if known else 0.0
    for seconds, text, end in stamped.timed_lines(source.path, places[source.path], before):
        places[source.path] = end
        begun = source.own or seconds >= source.begin - 1 or (begun and seconds == 0.0)
        if begun:
            yield max(seconds, source.begin), order, source.name, text

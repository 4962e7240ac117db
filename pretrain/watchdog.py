"""Watches that every rank lives and gets on, and ends the run when one does not.

A thread of each rank puts a beat into the store in which the ranks met: a count that shows that the
process runs, and one that shows that its training gets on. Rank 0 looks at all beats, the others at
rank 0's, so that nobody waits for hours in a collective for one who never comes.
"""

import faulthandler
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import distributed

from pretrain import flight_recorder
from pretrain.ranks import PATIENCE, Ranks
from pretrain.stacks import position

_ALARM = "alarm"
# How long the others may take to say where they are, once there is an alarm.
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself, again and again."""

    rank: int
    ticks: int
    """Grows while the process runs."""
    progress: int
    """Grows while its work gets on."""
    doing: str
    limit: float
    """Seconds for which `progress` may stand still."""
    host: str
    pid: int
    parent: int
    left: bool = False
    """The rank has ended by itself."""


@dataclass(frozen=True)
class Place:
    """Where a rank stood when the alarm came."""

    rank: int
    collective: str | None
    """The collective that its main thread was in."""
    where: str


class _Seen:
    """When the counts of another rank last changed, by this rank's clock."""

    def __init__(self, beat: Beat) -> None:
        self.beat = beat
        self.ticked = self.moved = time.monotonic()

    def update(self, beat: Beat) -> None:
        now = time.monotonic()
        if beat.ticks != self.beat.ticks:
            self.ticked = now
        if (beat.progress, beat.limit) != (self.beat.progress, self.beat.limit):
            self.moved = now
        self.beat = beat


GiveUp = Callable[[str, list[Beat], bool], None]
"""Told the cause, the ranks that are silent, and whether this rank speaks for all; ends it."""


class Watchdog:
    """The watch of one rank; `beat` is called by its main thread."""

    def __init__(self, ranks: Ranks, silent_seconds: float, log: Path, give_up: GiveUp) -> None:
        self._ranks, self._silent_seconds = ranks, silent_seconds
        self._log, self._give_up = log, give_up
        self._interval = min(5.0, silent_seconds / 8)
        self._ticks = self._progress = 0
        self._doing, self._limit = "starting", PATIENCE.total_seconds()
        self._closed = threading.Event()
        self._store = _client(silent_seconds) if ranks.size > 1 else distributed.HashStore()
        self._main = threading.main_thread().ident
        self._put()
        ranks.barrier()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def beat(self, doing: str) -> None:
        """Note that the work gets on, and what comes now."""
        self._doing = doing
        self._progress += 1

    @contextmanager
    def expecting(self, seconds: float) -> Iterator[None]:
        """Expect a beat every so many seconds, instead of the patience of the collectives."""
        before, self._limit = self._limit, seconds
        try:
            yield
        finally:
            self._limit = before

    def close(self) -> None:
        """Stop watching, and tell the others that this rank ends by itself."""
        self._closed.set()
        self._thread.join()
        # The store may have ended before us.
        with suppress(RuntimeError, ValueError):
            self._put(left=True)

    def _put(self, left: bool = False) -> None:
        self._ticks += 1
        beat = Beat(
            rank=self._ranks.rank,
            ticks=self._ticks,
            progress=self._progress,
            doing=self._doing,
            limit=self._limit,
            host=platform.node(),
            pid=os.getpid(),
            parent=os.getppid(),
            left=left,
        )
        self._store.set(f"beat/{self._ranks.rank}", json.dumps(asdict(beat)))

    def _beats(self, ranks: list[int]) -> list[Beat]:
        values = [self._store.get(f"beat/{rank}") for rank in ranks]
        return [Beat(**json.loads(value)) for value in values]

    def _watch(self) -> None:
        """Beat, and look at the others, until this rank ends or another does not answer."""
        watched = list(range(self._ranks.size)) if self._ranks.first else [0]
        seen = {beat.rank: _Seen(beat) for beat in self._beats(watched)}
        answered = time.monotonic()
        while not self._closed.wait(self._interval):
            try:
                self._put()
                for beat in self._beats(watched):
                    seen[beat.rank].update(beat)
                alarm = self._store.check([_ALARM])
            except (RuntimeError, ValueError) as error:
                if time.monotonic() - answered > self._silent_seconds:
                    self._give_up(f"the store of the rendezvous is gone: {error}", [], True)
                continue
            answered = time.monotonic()
            silent = [each.beat for each in seen.values() if self._silent(each)]
            stuck = [each.beat for each in seen.values() if self._stuck(each)]
            if alarm or silent or stuck:
                self._end(silent, max((each.limit for each in stuck), default=0.0))

    def _silent(self, seen: _Seen) -> bool:
        return not seen.beat.left and time.monotonic() - seen.ticked > self._silent_seconds

    def _stuck(self, seen: _Seen) -> bool:
        return not seen.beat.left and time.monotonic() - seen.moved > seen.beat.limit

    def _end(self, silent: list[Beat], waited: float) -> None:
        """Dump the stacks of this rank, learn where the others are, and give up."""
        finding = {"silent": [asdict(beat) for beat in silent], "waited": waited}
        alarm = json.loads(self._store.compare_set(_ALARM, "", json.dumps(finding)))
        silent = [Beat(**beat) for beat in alarm["silent"]]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"watchdog: no progress while {self._doing}\n")
            log.flush()
            faulthandler.dump_traceback(log)
        flight_recorder.dump(self._log)
        mine = Place(self._ranks.rank, *position(self._main))
        self._store.set(f"place/{mine.rank}", json.dumps(asdict(mine)))
        places = self._places({beat.rank for beat in silent})
        beats = {beat.rank: beat for beat in self._beats([place.rank for place in places])}
        cause = explain(silent, places, beats, alarm["waited"], self._silent_seconds)
        speaks = min(place.rank for place in places) == mine.rank
        self._give_up(cause, silent, speaks)

    def _places(self, silent: set[int]) -> list[Place]:
        """Return where the ranks are that answer in time."""
        wanted = [rank for rank in range(self._ranks.size) if rank not in silent]
        deadline = time.monotonic() + _ANSWER_SECONDS + 2 * self._interval
        while time.monotonic() < deadline:
            if self._store.check([f"place/{rank}" for rank in wanted]):
                break
            time.sleep(0.1)
        there = [rank for rank in wanted if self._store.check([f"place/{rank}"])]
        return [Place(**json.loads(self._store.get(f"place/{rank}"))) for rank in there]


def _client(seconds: float) -> distributed.Store:
    """Return a connection of the watchdog's own to the store in which the ranks met."""
    from datetime import timedelta

    store = distributed.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=max(30.0, seconds)),
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return distributed.PrefixStore(f"trawl-watchdog-{attempt}", store)


def explain(
    silent: list[Beat],
    places: list[Place],
    beats: dict[int, Beat],
    waited: float,
    silent_seconds: float,
) -> str:
    """Return in one line which rank holds up the others, and in what they wait for it."""
    inside = [place for place in places if place.collective]
    waiting = "; ".join(
        f"{_ranks([p.rank for p in inside if p.collective == name])} in {name}"
        for name in sorted({str(place.collective) for place in inside})
    )
    waiting = f"; waiting for it: {waiting}" if waiting else ""
    if silent:
        first = silent[0]
        return (
            f"{_ranks([beat.rank for beat in silent])} gave no sign of life for "
            f"{silent_seconds:g} s ({first.host}, process {first.pid}, while {first.doing}): "
            f"stopped, or its machine is gone{waiting}"
        )
    outside = [place for place in places if not place.collective]
    if outside:
        first_place = outside[0]
        return (
            f"{_ranks([place.rank for place in outside])} made no progress for {waited:g} s at "
            f"{first_place.where} ({beats[first_place.rank].host}, while "
            f"{beats[first_place.rank].doing}){waiting}; the stacks are in the logs"
        )
    names = {place.collective for place in inside}
    what = "the same collective: network or device" if len(names) == 1 else "different collectives"
    at = "; ".join(
        f"rank {place.rank} in {place.collective}, {place.where}" for place in inside[:4]
    )
    return f"no rank made progress for {waited:g} s, all are in {what} ({at})"


def _ranks(numbers: list[int]) -> str:
    several = "s" if len(numbers) > 1 else ""
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"rank{several} {shown}"


def is_sibling(beat: Beat) -> bool:
    """Return whether the launcher on this machine that started us started the rank of `beat`."""
    return (beat.host, beat.parent) == (platform.node(), os.getppid()) and beat.pid != os.getpid()


def end_process(beat: Beat) -> None:
    """Kill the silent rank of `beat`, a sibling: stopped, it obeys no other signal."""
    with suppress(ProcessLookupError):
        os.kill(beat.pid, signal.SIGKILL)

"""Runs the units of one phase on Ray: a bounded window in flight, lanes, retries, the ledger."""

import collections
import importlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import worker_memory
from data_pipeline.cluster import cpus_of
from data_pipeline.plugged_in import is_clip
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.units import (
    Entry,
    Ledger,
    Result,
    Unit,
    Work,
    check_inputs,
    finish_phase,
    new_attempt,
)
from trawl.errors import RequestError, StaleError, WorkError
from trawl.events import EventLog
from trawl.fence import Fence
from trawl.progress import leg

# The function that does a unit of each phase: module and name, imported where the unit runs.
PHASES = {
    "collect": "data_pipeline.steps.collect:run",
    "crawl": "data_pipeline.steps.crawl_round:run",
    "frontier": "data_pipeline.steps.crawl_round:plan",
    "locate": "data_pipeline.steps.locate:run",
    "lend": "data_pipeline.steps.locate:lend",
    "gather": "data_pipeline.steps.gather:run",
    "download": "data_pipeline.steps.download:run",
    "retry": "data_pipeline.steps.retry:run",
    "image_filter": "data_pipeline.steps.image_filter:run",
    "sentences": "data_pipeline.steps.sentences:run",
    "route": "data_pipeline.steps.route:run",
    "select": "data_pipeline.steps.select:run",
    "detect": "data_pipeline.steps.detect:run",
    "score": "data_pipeline.steps.score:run",
    "count_texts": "data_pipeline.steps.common_texts:count",
    "common_texts": "data_pipeline.steps.common_texts:find",
    "choose": "data_pipeline.steps.choose:run",
    "near": "data_pipeline.steps.near_pairs:run",
    "components": "data_pipeline.steps.components:join",
    "large_star": "data_pipeline.steps.components:large_star",
    "small_star": "data_pipeline.steps.components:small_star",
    "name_best": "data_pipeline.steps.leaders:name",
    "leaders": "data_pipeline.steps.leaders:choose",
    "follow": "data_pipeline.steps.leaders:follow",
    "aggregate": "data_pipeline.steps.aggregate:run",
    "decisions": "data_pipeline.steps.write:write_decisions",
    "shards": "data_pipeline.steps.write:write_shards",
    "gallery": "data_pipeline.steps.gallery:run",
}
_UNITS_PER_CPU = 2  # in flight: one that runs and one that waits for its turn
_SIZE_SECONDS = 5.0  # after which the cluster is measured anew: machines come and go
_MACHINES = 20  # that a unit may lose before it is taken for what kills them


@dataclass(frozen=True)
class Driver:
    """The process that runs a build, as its workers know it."""

    host: str
    pid: int
    fence: Fence | None = None
    """Its right to write, where it has one of its own."""

    @classmethod
    def of_this_process(cls, fence: Fence | None = None) -> "Driver":
        """Return this process as a driver."""
        return cls(socket.gethostname(), os.getpid(), fence)

    def is_gone(self) -> bool:
        """Say whether the driver is known to have ended; of another host nothing is known."""
        if self.host != socket.gethostname() or not Path("/proc/self/stat").exists():
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state in "ZX"


def attempt(
    out: str, recipe: CorpusRecipe, unit: Unit, target: str, driver: Driver
) -> dict[str, Any]:
    """Do a unit once, in whatever process this is, and enter it in the ledger.

    target is the function that does it, "module:name". A worker that outlives its driver commits
    nothing: what killed the one may have taken down what the other was talking to.

    Returns the entry, or the error as text with its nature, so that no exception of a step has to
    travel between processes.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    worker_memory.give_back()
    worker_memory.forget_peak()
    work = Work(out, recipe, unit, new_attempt())
    try:
        module, name = target.split(":")
        function: Callable[[Work], Result] = getattr(importlib.import_module(module), name)
        result = function(work)
        if driver.is_gone():
            raise WorkError("the driver of the build has ended")
        if driver.fence is not None:
            driver.fence.check()
        entry = Ledger(out).commit(unit, work.attempt, result)
    except RequestError as error:
        return {"error": str(error), "nature": "request"}
    except StaleError as error:
        return {"error": str(error), "nature": "stale"}
    except WorkError as error:
        return {"error": str(error), "nature": "work"}
    except Exception as error:
        lines = traceback.format_exc().splitlines()
        place = " ".join(line.strip() for line in lines[-3:-1])
        return {"error": f"{type(error).__name__}: {error} ({place})", "nature": "fault"}
    return {
        "entry": entry,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "peak_mib": worker_memory.peak_mib(),
    }


class _Lanes:
    """The units that wait, handed out in order, never two of one lane at a time."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._lanes: dict[str, collections.deque[Unit]] = {}
        self._free: collections.deque[str] = collections.deque()
        for number, unit in enumerate(units):
            lane = unit.lane or f"unit {number}"
            if lane not in self._lanes:
                self._lanes[lane] = collections.deque()
                self._free.append(lane)
            self._lanes[lane].append(unit)

    def take(self) -> tuple[str, Unit] | None:
        """Return the next unit of a free lane and occupy the lane; None if there is none."""
        if not self._free:
            return None
        lane = self._free.popleft()
        return lane, self._lanes[lane].popleft()

    def give_back(self, lane: str, again: Unit | None = None) -> None:
        """Free a lane; `again` is its unit, if it has to be done once more."""
        if again is not None:
            self._lanes[lane].appendleft(again)
        if self._lanes[lane]:
            self._free.append(lane)


def computes_on_gpu(recipe: CorpusRecipe, phase: str) -> bool:
    """Say whether the units of a phase compute with a network that a GPU speeds up."""
    filters = recipe.image_filter
    return {
        "detect": True,
        "score": is_clip(recipe),
        "image_filter": bool(filters.unsafe.model or filters.watermark.model),
    }.get(phase, False)


class Scheduler:
    """Runs phases of one build on the running Ray."""

    def __init__(
        self,
        out: str,
        recipe: CorpusRecipe,
        cpus: int,
        log: EventLog,
        fence: Fence | None = None,
    ) -> None:
        self.out, self.recipe, self.cpus, self.log, self.fence = out, recipe, cpus, log, fence
        self.ledger = Ledger(out)
        self._measured_at = time.monotonic()

    def run(self, phase: str, units: list[Unit]) -> dict[str, Entry]:
        """Do the units of a phase that are not done, and return the entries of all of them.

        RequestError from a unit ends the build at once; any other failure, a crashed worker among
        them, is tried again up to `compute.attempts` times, then WorkError names unit and cause.
        That its machine was lost is no failure of a unit.
        """
        started = time.monotonic()
        done = self.ledger.done(phase)
        for unit in units:
            if unit.name in done:
                check_inputs(unit, done[unit.name])
        left = [unit for unit in units if unit.name not in done]
        self.log.write("phase", phase=phase, units=len(units), done=len(units) - len(left))
        if left:
            with leg(phase, len(units)) as progress:
                progress.advance(len(units) - len(left))
                for entry in self._do(left):
                    done[entry.name] = entry
                    progress.advance()
        entries = {unit.name: done[unit.name] for unit in units}
        self.check_fence()
        finish_phase(self.out, phase, entries)
        seconds = round(time.monotonic() - started, 3)
        self.log.write("phase-done", phase=phase, units=len(units), seconds=seconds)
        return entries

    def check_fence(self) -> None:
        """Raise StaleError if a newer attempt at this build has begun."""
        if self.fence is not None:
            self.fence.check()

    def _do(self, units: list[Unit]) -> Iterable[Entry]:
        """Yield the entry of each unit as it is done."""
        import ray

        remote = ray.remote(max_retries=0)(attempt)
        gpus = self.recipe.compute.gpus and computes_on_gpu(self.recipe, units[0].phase)
        options = {"num_cpus": 1, "num_gpus": 1 if gpus else 0}
        target, driver = PHASES[units[0].phase], Driver.of_this_process(self.fence)
        lanes = _Lanes(units)
        running: dict[Any, tuple[str, Unit]] = {}
        failures: collections.Counter[tuple[str, bool]] = collections.Counter()
        while True:
            most = self._measured(ray) * _UNITS_PER_CPU
            while len(running) < most and (taken := lanes.take()):
                handle = remote.options(**options).remote(
                    self.out, self.recipe, taken[1], target, driver
                )
                running[handle] = taken
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=_SIZE_SECONDS)
            if not done:
                continue
            (ready,) = done
            lane, unit = running.pop(ready)
            outcome = self._outcome(ray, ready)
            self._tell(unit, outcome)
            if "entry" in outcome:
                lanes.give_back(lane)
                yield outcome["entry"]
                continue
            lost = outcome["nature"] == "lost"
            failures[unit.name, lost] += 1
            self._stop_if_hopeless(unit, outcome, failures[unit.name, lost])
            lanes.give_back(lane, again=unit)

    def _measured(self, ray: Any) -> int:
        """Return the number of CPUs of the cluster, as it was at most some seconds ago."""
        now = time.monotonic()
        if now - self._measured_at > _SIZE_SECONDS:
            self.cpus, self._measured_at = cpus_of(ray), now
        return self.cpus

    def _outcome(self, ray: Any, handle: Any) -> dict[str, Any]:
        """Return what an attempt returned; the death of its worker becomes an error like others."""
        try:
            return ray.get(handle)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            lost = isinstance(error, ray.exceptions.NodeDiedError)
            nature = "lost" if lost else "crash"
            return {"error": f"{type(error).__name__}: {first}", "nature": nature}

    def _tell(self, unit: Unit, outcome: dict[str, Any]) -> None:
        """Write an attempt into the event log."""
        if "entry" not in outcome:
            self.log.write("unit-failed", phase=unit.phase, unit=unit.name, **outcome)
            return
        self.log.write(
            "unit",
            phase=unit.phase,
            unit=unit.name,
            seconds=round(outcome["seconds"], 3),
            cpu_seconds=round(outcome["cpu_seconds"], 3),
            peak_mib=outcome["peak_mib"],
            counts=outcome["entry"].result.get("counts", {}),
        )

    def _stop_if_hopeless(self, unit: Unit, outcome: dict[str, Any], failures: int) -> None:
        """Raise if the unit must not be tried again."""
        name = f"{unit.phase}/{unit.name}"
        if outcome["nature"] == "stale":
            raise StaleError(outcome["error"])
        if outcome["nature"] == "request":
            raise RequestError(outcome["error"])
        limit = _MACHINES if outcome["nature"] == "lost" else self.recipe.compute.attempts
        if failures >= limit:
            raise WorkError(f"unit {name} failed {failures} times: {outcome['error']}")

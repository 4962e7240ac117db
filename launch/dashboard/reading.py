"""What the page and the metrics show: jobs' statuses and charts, read anew every few seconds."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch import attempts, output
from launch.corpus_status import Corpus
from launch.explain import explanation
from launch.jobs import folder_of, folders_in
from launch.status import JobStatus, status_of
from launch.status_table import content
from launch.training_status import Training
from trawl import tail
from trawl.errors import TrawlError
from trawl.report import funnel, line_chart

_FRESH_SECONDS = 2.0
_POINTS = 240
_LOSSES = 5


@dataclass(frozen=True)
class Seen:
    """One job as it was read, or why it could not be."""

    name: str
    folder: Path
    status: JobStatus | None = None
    fault: str = ""


@dataclass
class Reading:
    """The jobs that are watched: those that were named, or all in `state`."""

    state: Path
    named: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read_at: float = -_FRESH_SECONDS
    _seen: list[Seen] = field(default_factory=list)
    _content: list[dict[str, Any]] = field(default_factory=list)

    def jobs(self) -> list[Seen]:
        """Return the jobs as they were at most two seconds ago; one reader at a time reads."""
        with self._lock:
            self._read()
            return self._seen

    def content(self) -> list[dict[str, Any]]:
        """Return what the page shows of these jobs; it is made once for all who ask."""
        with self._lock:
            self._read()
            if not self._content:
                self._content = [page_content(seen) for seen in self._seen]
            return self._content

    def _read(self) -> None:
        if time.monotonic() - self._read_at >= _FRESH_SECONDS:
            folders = [folder_of(name, self.state) for name in self.named]
            self._seen = [_seen(folder) for folder in folders or folders_in(self.state)]
            self._content = []
            self._read_at = time.monotonic()


def _seen(folder: Path) -> Seen:
    try:
        status = status_of(folder)
    except (TrawlError, OSError, ValueError, KeyError) as error:
        # A folder that is half written or half removed must not hide the other jobs.
        return Seen(folder.name, folder, fault=f"{folder}: cannot be read: {error}")
    return Seen(status.name, folder, status)


def page_content(seen: Seen) -> dict[str, Any]:
    """Return what the page shows of a job, as JSON values; charts are markup of trawl.report."""
    if seen.status is None:
        return {"name": seen.name, "fault": seen.fault}
    values = content(seen.status)
    charts: dict[str, str] = {}
    if seen.status.training is not None:
        charts |= _curves(seen.folder, seen.status.training)
    if seen.status.corpus is not None:
        charts |= _corpus_charts(seen.status.corpus)
    last = seen.status.attempts[-1] if seen.status.attempts else None
    ended = last is not None and last.cause is not None and not seen.status.runs
    return values | {
        "charts": charts,
        "runs": seen.status.runs,
        "why": explanation(seen.folder) if ended or seen.status.now == "lost" else "",
    }


def _curves(folder: Path, training: Training) -> dict[str, str]:
    """Draw loss, its parts, and rate over the steps of all stages, one after the other."""
    found = output.training_of(attempts.job_of(folder), folder)
    if found is None:
        return {}
    run = found[1]
    starts = {
        name: sum(steps for _, steps in training.plan[:number])
        for number, (name, _) in enumerate(training.plan)
    }
    losses: dict[str, list[tuple[float, float]]] = {}
    parts: dict[str, list[tuple[float, float]]] = {}
    rates: dict[str, list[tuple[float, float]]] = {}
    for line in tail.parsed(tail.spread_lines(run.newest(run.metrics), _POINTS)):
        step = float(starts.get(line["stage"], 0) + line["step"])
        rates.setdefault(line["stage"], []).append((step, line["samples_per_second"]))
        if line["loss"] is not None:
            losses.setdefault(line["stage"], []).append((step, line["loss"]))
        for name, loss in line["losses"].items():
            if loss is not None:
                parts.setdefault(name, []).append((step, loss))
    if not rates:
        return {}
    charts = {"loss": line_chart(losses, "step", "loss", from_zero=False)}
    if 1 < len(parts) <= _LOSSES:
        charts["objectives"] = line_chart(parts, "step", "before weighting")
    return charts | {"rate": line_chart(rates, "step", "samples a second")}


def _corpus_charts(corpus: Corpus) -> dict[str, str]:
    if not corpus.funnel:
        return {}
    steps, before = [], 0
    for name, count in corpus.funnel:
        note = f"{count / before:.1%} of those above" if before else ""
        steps.append((name, count, note))
        before = count
    return {"funnel": funnel(steps)}

"""How a job is: its state, its attempts and machines, how far its work is, and what is wrong."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from launch import attempts, output
from launch.corpus_status import Corpus, corpus_status
from launch.job import Job
from launch.node_status import Node, nodes_of
from launch.state import State, state_of
from launch.training_status import Training, training_status
from trawl.errors import RequestError

# States in which a job's place runs it, in the words of all places.
RUNNING = ("running", "completing", "configuring")
_SILENT_SECONDS = 60.0
_NAMED = 4
# A checkpoint or an evaluation may take as long as many steps.
_STEPS_OF_PATIENCE = 100
_LEAST_PATIENCE = 120.0
_WAITING_FOR_DATA = 0.2
_TRAINING_EVENTS = {
    "bad-step": "step {step} of {stage}: {problem}",
    "rolled-back": "stage {stage} went back past the steps {first} to {last}",
    "stragglers": "ranks {ranks} of {stage} are slower than the others",
    "checkpoint-torn": "checkpoint {folder} is torn and was passed over",
    "shard-passed-over": "shard {shard} is left out: {fault}",
    "metrics-incomplete": "the metrics of {stage} before step {step} are lost",
}


@dataclass(frozen=True)
class AttemptStatus:
    """One attempt since the job was submitted."""

    number: int
    began: float
    ended: float | None = None
    code: int | None = None
    cause: str | None = None
    progress: int | None = None
    """Steps of checkpoints, or units, that were safe when it ended."""


@dataclass(frozen=True)
class Trouble:
    """Something that a person should know."""

    level: Literal["warning", "bad"]
    text: str


@dataclass(frozen=True)
class JobStatus:
    """Everything that `status`, the dashboard and the metrics tell of a job."""

    name: str
    kind: Literal["training", "corpus", "evaluation"]
    backend: str
    now: str
    """As in launch.state.State."""
    read_at: float
    attempts: list[AttemptStatus] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    training: Training | None = None
    corpus: Corpus | None = None
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        """Whether the job's place runs it."""
        return self.now in RUNNING

    @property
    def health(self) -> Literal["good", "warning", "bad"]:
        """The worst of the troubles."""
        levels = {trouble.level for trouble in self.troubles}
        return "bad" if "bad" in levels else "warning" if "warning" in levels else "good"


def status_of(folder: Path, state: State | None = None) -> JobStatus:
    """Return how the job in `folder` is; RequestError if there is none.

    state: what its place says, where that is known. Long files are read from their ends alone.
    """
    job = attempts.job_of(folder)
    state = state or state_of(folder)
    training = corpus = None
    troubles: list[Trouble] = []
    try:
        if found := output.training_of(job, folder):
            training = training_status(*found)
        elif place := output.corpus_of(job, folder):
            corpus = corpus_status(place)
    except RequestError as error:
        troubles.append(Trouble("bad", f"how far it is cannot be told: {error}"))
    tried = attempts_of(folder)
    status = JobStatus(
        name=job.name,
        kind=_kind(job),
        backend=job.place.backend,
        now=state.now,
        read_at=time.time(),
        attempts=tried,
        nodes=nodes_of(job, folder, state.attempt) if state.attempt else [],
        training=training,
        corpus=corpus,
        troubles=troubles,
    )
    troubles += _troubles(status)
    return status


def _kind(job: Job) -> Literal["training", "corpus", "evaluation"]:
    if job.run.evaluate is not None:
        return "evaluation"
    return "training" if job.run.pretrain is not None else "corpus"


def attempts_of(folder: Path) -> list[AttemptStatus]:
    """Return the attempts since the job was submitted, oldest first."""
    found: dict[int, AttemptStatus] = {}
    for event in attempts.since_submission(folder):
        if event["kind"] == "attempt-started":
            found[event["attempt"]] = AttemptStatus(event["attempt"], event["time"])
        elif event["kind"] == "attempt-ended" and event["attempt"] in found:
            found[event["attempt"]] = AttemptStatus(
                number=event["attempt"],
                began=found[event["attempt"]].began,
                ended=event["time"],
                code=event["code"],
                cause=event["cause"],
                progress=event.get("progress"),
            )
    return [found[number] for number in sorted(found)]


def _troubles(status: JobStatus) -> Iterator[Trouble]:
    """Yield what a person should know, the state of the job first."""
    last = status.attempts[-1] if status.attempts else None
    if status.now == "lost":
        yield Trouble("bad", "its place knows nothing of it, and nobody wrote of its end")
    elif last and last.cause not in (None, "done") and not status.runs:
        level: Literal["warning", "bad"] = "warning" if last.cause == "preempted" else "bad"
        yield Trouble(level, f"attempt {last.number} ended: {last.cause}")
    failed = [each for each in status.attempts[:-1] if each.cause not in ("done", "preempted")]
    if failed:
        earlier = "an earlier attempt" if len(failed) == 1 else f"{len(failed)} earlier attempts"
        yield Trouble("warning", f"{earlier} ended: {_causes(failed)}")
    if status.runs:
        yield from _silent(status)
    since = status.attempts[0].began if status.attempts else 0.0
    if status.training is not None:
        yield from _training_troubles(status, status.training, since)
    if status.corpus is not None:
        yield from _corpus_troubles(status.corpus, since)


def _causes(failed: list[AttemptStatus]) -> str:
    counts: dict[str, int] = {}
    for each in failed:
        counts[str(each.cause)] = counts.get(str(each.cause), 0) + 1
    return ", ".join(f"{count} {cause}" for cause, count in counts.items())


def _silent(status: JobStatus) -> Iterator[Trouble]:
    """Tell of machines that gave no sign of life; of many in one line."""
    began = status.attempts[-1].began if status.attempts else 0.0
    ages = {
        f"{node.node} ({node.host or '?'})": status.read_at - (node.sign_at or began)
        for node in status.nodes
        if node.code is None
    }
    silent = {name: age for name, age in ages.items() if age > _SILENT_SECONDS}
    if len(silent) > _NAMED:
        names = ", ".join(list(silent)[:_NAMED])
        text = f"{len(silent)} of {len(status.nodes)} machines gave no sign of life for over"
        yield Trouble("bad", f"{text} {min(silent.values()):.0f} s: {names}, ...")
        return
    for name, age in silent.items():
        yield Trouble("bad", f"node {name} gave no sign of life for {age:.0f} s")


def _training_troubles(status: JobStatus, training: Training, since: float) -> Iterator[Trouble]:
    if status.runs and training.last_step_at is not None and training.seconds_per_step:
        patience = max(_LEAST_PATIENCE, _STEPS_OF_PATIENCE * training.seconds_per_step)
        began = status.attempts[-1].began if status.attempts else since
        age = status.read_at - max(began, training.last_step_at)
        if age > patience and not training.done:
            yield Trouble("warning", f"no step for {age:.0f} s")
    if (training.data_wait or 0.0) > _WAITING_FOR_DATA:
        yield Trouble("warning", f"waits for data {training.data_wait:.0%} of the time")
    recent = [event for event in training.events if event["time"] >= since]
    for kind, told in _TRAINING_EVENTS.items():
        found = [event for event in recent if event["kind"] == kind]
        if found:
            times = f", {len(found)} times" if len(found) > 1 else ""
            yield Trouble("warning", told.format_map(defaultdict(lambda: "?", found[-1])) + times)


def _corpus_troubles(corpus: Corpus, since: float) -> Iterator[Trouble]:
    recent = [event for event in corpus.events if event["time"] >= since]
    failed = [event for event in recent if event["kind"] == "unit-failed"]
    if failed:
        last = failed[-1]
        text = f"{len(failed)} tries of units failed, the last {last['phase']}/{last['unit']}"
        yield Trouble("warning", f"{text}: {last.get('error', '')}")

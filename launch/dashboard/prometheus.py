"""Jobs' statuses in the text format of Prometheus (version 0.0.4)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from launch.corpus_status import Corpus
from launch.dashboard.reading import Seen
from launch.status import JobStatus
from launch.training_status import Training

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HEALTH = {"good": 0, "warning": 1, "bad": 2}
Labels = dict[str, object]


@dataclass
class _Metric:
    """One metric: what it is, and its samples."""

    help: str
    kind: str
    samples: list[tuple[Labels, float]] = field(default_factory=list)


def exposition(jobs: Iterable[Seen]) -> str:
    """Return the metrics of `jobs`; all names begin with `trawl_`."""
    metrics: dict[str, _Metric] = {}
    for seen in jobs:
        for name, help_text, kind, labels, value in _samples(seen):
            if value is not None:
                metric = metrics.setdefault(f"trawl_{name}", _Metric(help_text, kind))
                metric.samples.append(({"job": seen.name, **labels}, float(value)))
    lines = []
    for name, metric in metrics.items():
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
        lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in metric.samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escape(str(value))}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


Sample = tuple[str, str, str, Labels, float | None]


def _samples(seen: Seen) -> Iterator[Sample]:
    """Yield name, help, kind, labels and value of what is known of a job."""
    status = seen.status
    yield "job_readable", "Whether the job's folder can be read.", "gauge", {}, status is not None
    if status is None:
        return
    labels: Labels = {"kind": status.kind, "backend": status.backend, "state": status.now}
    yield "job_info", "What the job is and how it is.", "gauge", labels, 1
    yield "job_running", "Whether its place runs the job.", "gauge", {}, status.runs
    health = _HEALTH[status.health]
    yield "job_health", "0 good, 1 look at it, 2 bad.", "gauge", {}, health
    number = status.attempts[-1].number if status.attempts else 0
    yield "job_attempt", "Number of the newest attempt.", "gauge", {}, number
    yield from _nodes(status)
    if status.training is not None:
        yield from _training(status.training)
    if status.corpus is not None:
        yield from _corpus(status.corpus)


def _nodes(status: JobStatus) -> Iterator[Sample]:
    for node in status.nodes:
        labels: Labels = {"node": node.node, "host": node.host}
        text = "When a machine last gave a sign of life, in seconds since the epoch."
        yield "node_sign_timestamp_seconds", text, "gauge", labels, node.sign_at
        text = "How a machine's part of the newest attempt ended."
        yield "node_exit_code", text, "gauge", labels, node.code


def _training(training: Training) -> Iterator[Sample]:
    stage: Labels = {"stage": training.stage or ""}
    if training.stage is not None:
        yield "step", "Steps of the stage that are done.", "gauge", stage, training.step
        yield "steps", "Steps of the stage.", "gauge", stage, training.steps
        yield "loss", "Loss of the last step that has one.", "gauge", stage, training.loss
        yield "gradient_norm", "Of the last step.", "gauge", stage, training.grad_norm
        yield "learning_rate", "Of the last step.", "gauge", stage, training.lr
    rates = (
        ("step_seconds", "Seconds a step, over the last ones.", training.seconds_per_step),
        ("samples_per_second", "Of all ranks.", training.samples_per_second),
        ("tokens_per_second", "Without padding, of all ranks.", training.tokens_per_second),
        ("mfu_ratio", "Share of the devices' dense peak.", training.mfu),
        ("data_wait_ratio", "Share of the time waiting for data.", training.data_wait),
        ("seconds_left", "Seconds that all stages still take.", training.seconds_left),
        ("last_step_timestamp_seconds", "When the last step was.", training.last_step_at),
        ("stages_published", "Stages that are published.", len(training.published)),
    )
    for name, text, value in rates:
        yield name, text, "gauge", {}, value
    if (saved := training.checkpoint) is not None:
        labels: Labels = {"stage": saved.stage}
        yield "checkpoint_step", "Step of the newest checkpoint.", "gauge", labels, saved.step
        text = "When the newest checkpoint was made."
        yield "checkpoint_timestamp_seconds", text, "gauge", labels, saved.time


def _corpus(corpus: Corpus) -> Iterator[Sample]:
    phase: Labels = {"phase": corpus.phase or ""}
    yield "corpus_complete", "Whether the corpus is whole.", "gauge", {}, corpus.complete
    yield "corpus_units_done", "Units done, in all phases.", "gauge", {}, corpus.units_done
    if corpus.phase is not None:
        done, units = corpus.phase_units_done, corpus.phase_units
        yield "corpus_phase_units_done", "Units done of the phase.", "gauge", phase, done
        yield "corpus_phase_units", "Units of the phase.", "gauge", phase, units
    rate, left = corpus.units_per_second, corpus.seconds_left
    yield "corpus_units_per_second", "Of the phase.", "gauge", {}, rate
    yield "corpus_seconds_left", "Of the phase.", "gauge", {}, left
    for name, count in corpus.funnel:
        yield "corpus_left", "What each step left.", "gauge", {"step": name}, count
    for reason, count in corpus.drops:
        yield "corpus_dropped", "What was dropped, by reason.", "gauge", {"reason": reason}, count

"""What a run says about itself: metrics.jsonl, its curves, and the way back on a resume."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain.trackers import Tracker

_LOG = logging.getLogger("pretrain")
_CURVES = (
    "loss",
    "lr",
    "grad_norm",
    "samples_per_second",
    "tokens_per_second",
    "mfu",
    "memory",
    "data_wait",
    "slowest_seconds",
    "median_seconds",
)


@dataclass(frozen=True)
class StepMetrics:
    """One line of metrics.jsonl. Up to `held_out`, all is the same on every repetition."""

    stage: str
    step: int
    """Steps of the stage that are done, this one included."""
    samples: int
    """Samples of the stage that are used up."""
    loss: float | None
    """None where it is not finite, or was not computed."""
    losses: dict[str, float | None]
    """Loss by objective, before weighting."""
    lr: float
    grad_norm: float | None
    skipped: str | None
    """Why the step did not change the model; None: it did."""
    batch: str | None
    """Hash of the step's samples, the same however the ranks divide them."""
    parameters: str | None
    """Checksum of all parameters after the step, every `watch.checksum_steps`."""
    held_out: dict[str, float] | None
    """Losses on the held-out corpus after the step, every `watch.evaluate_steps`."""
    seconds: float
    samples_per_second: float
    tokens_per_second: float
    """Tokens and regions without padding, of all ranks."""
    mfu: float | None
    """Share of the devices' dense peak; None where that is not known (see pretrain.flops)."""
    memory: int
    """Most bytes used so far on rank 0: of the GPU, without one of the process."""
    data_wait: float
    """Share of the step's time in which rank 0 waited for data."""
    slowest_rank: int
    slowest_seconds: float
    """Time of its forward passes; of all ranks these alone hold no waiting for another."""
    median_seconds: float
    replaced: int = 0
    """Samples of the step that stood for those of bad shards."""
    storage_retries: int = 0
    """Requests to object stores that had to be made again, by all ranks since they began."""


def scalars(metrics: StepMetrics) -> dict[str, float]:
    """Return what is drawn as curves of one step, by name."""
    values = {name: getattr(metrics, name) for name in _CURVES}
    values |= {f"losses/{name}": value for name, value in metrics.losses.items()}
    values |= {f"held_out/{name}": value for name, value in (metrics.held_out or {}).items()}
    return {name: value for name, value in values.items() if value is not None}


class MetricsLog:
    """Writes the metrics of one stage; rank 0 alone has one."""

    def __init__(self, run: Path, trackers: Sequence[Tracker]) -> None:
        self._file = (run / "metrics.jsonl").open("a", encoding="utf-8")
        self._trackers = trackers

    def write(self, metrics: StepMetrics) -> None:
        """Append one step; a line is one write, so a kill tears none."""
        self._file.write(json.dumps(asdict(metrics)) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            try:
                tracker.write(scalars(metrics), metrics.step)
            except Exception as error:
                # A server of curves that is away must not end a training.
                _LOG.warning("step %d is not drawn: %s", metrics.step, error)

    def sync(self) -> None:
        """Force what is written to the disk, before a checkpoint that counts on it."""
        os.fsync(self._file.fileno())
        for tracker in self._trackers:
            tracker.sync()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl; one torn by a kill is passed over."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return lines


def upto(lines: list[dict[str, Any]], stages: list[str], stage: str, step: int) -> list[Any] | None:
    """Return the lines up to `step` of `stage`, or None when that step's line is not among them.

    `stages` is the order of the stages; lines of later stages and of unknown ones fall away.
    """
    place = stages.index(stage)
    kept = [
        line
        for line in lines
        if line["stage"] in stages[:place] or (line["stage"] == stage and line["step"] <= step)
    ]
    present = sum(line["stage"] == stage for line in kept)
    return kept if present == step else None


def rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replace the file at `path` by `lines`, at once."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    aside.replace(path)

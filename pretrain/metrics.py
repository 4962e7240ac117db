"""What a run says about itself: metrics.jsonl, TensorBoard, and the way back on a resume."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepMetrics:
    """One line of metrics.jsonl. Up to `grad_norm`, all is the same on every repetition."""

    stage: str
    step: int
    """Steps of the stage that are done, this one included."""
    samples: int
    """Samples of the stage that are used up."""
    loss: float
    losses: dict[str, float]
    """Loss by objective, before weighting."""
    lr: float
    grad_norm: float | None
    seconds: float
    samples_per_second: float
    data_wait: float
    """Share of the step's time in which rank 0 waited for data."""
    replaced: int = 0
    """Samples of the step that stood for those of bad shards."""
    storage_retries: int = 0
    """Requests to object stores that had to be made again, by all ranks since they began."""


class MetricsLog:
    """Writes the metrics of one stage from step `start` on; rank 0 alone has one."""

    def __init__(self, run: Path, stage: str, start: int) -> None:
        # TensorBoard's writer takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        self._file = (run / "metrics.jsonl").open("a", encoding="utf-8")
        # A folder for each stage: what is purged on a resume is purged in the whole folder.
        self._board = SummaryWriter(
            str(run / "tensorboard" / stage), purge_step=start + 1, flush_secs=30
        )

    def write(self, metrics: StepMetrics) -> None:
        """Append one step; a line is one write, so a kill tears none."""
        self._file.write(json.dumps(asdict(metrics)) + "\n")
        self._file.flush()
        values = {"loss": metrics.loss, "lr": metrics.lr, "data_wait": metrics.data_wait}
        values |= {"samples_per_second": metrics.samples_per_second}
        values |= {f"losses/{name}": value for name, value in metrics.losses.items()}
        if metrics.grad_norm is not None:
            values["grad_norm"] = metrics.grad_norm
        for name, value in values.items():
            self._board.add_scalar(name, value, metrics.step)

    def sync(self) -> None:
        """Force what is written to the disk, before a checkpoint that counts on it."""
        os.fsync(self._file.fileno())
        self._board.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()


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

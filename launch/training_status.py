"""How far a pretraining is, from the ends of its run's files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.checkpoints import manifest
from pretrain.recipe import PretrainRecipe
from pretrain.run_folder import RunFolder
from trawl import storage, tail

# Steps over which rates are taken, and events of the run that are looked at.
_STEPS = 50
_EVENTS = 5000


@dataclass(frozen=True)
class SavedStep:
    """The newest checkpoint."""

    stage: str
    step: int
    time: float
    """Seconds since the epoch, as all times here."""


@dataclass(frozen=True)
class Training:
    """How far a pretraining is."""

    run: str
    stage: str | None = None
    """The stage that trains or trained last; None: none has begun."""
    number: int = 0
    stages: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    seconds_per_step: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None
    data_wait: float | None = None
    stage_seconds_left: float | None = None
    seconds_left: float | None = None
    last_step_at: float | None = None
    """None also where the run lies in an object store and goes on elsewhere."""
    checkpoint: SavedStep | None = None
    published: list[str] = field(default_factory=list)
    plan: list[tuple[str, int]] = field(default_factory=list)
    """Name and steps of each stage, in order."""
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """The run's last events, oldest first."""

    @property
    def done(self) -> bool:
        """Whether every stage is published."""
        return 0 < self.stages == len(self.published)


def training_status(recipe: PretrainRecipe, run: RunFolder) -> Training:
    """Return how far the pretraining of `recipe` in `run` is."""
    metrics = run.newest(run.metrics)
    events = list(tail.parsed(tail.last_lines(run.newest(run.events), _EVENTS)))
    published = [
        stage.name
        for stage in recipe.stages
        if storage.exists(run.newest(run.published(stage.name) / manifest.NAME))
    ]
    base = Training(
        run=run.uri,
        stages=len(recipe.stages),
        published=published,
        plan=[(stage.name, stage.steps) for stage in recipe.stages],
        checkpoint=_checkpoint(events),
        events=events,
    )
    lines = list(tail.parsed(tail.last_lines(metrics, _STEPS)))
    if not lines:
        return base
    return _at(base, recipe, lines, None if storage.is_remote(metrics) else Path(metrics))


def _at(
    base: Training, recipe: PretrainRecipe, lines: Sequence[dict[str, Any]], file: Path | None
) -> Training:
    """Return `base` with what the last `lines` of the metrics say."""
    newest = lines[-1]
    names = [stage.name for stage in recipe.stages]
    lines = [line for line in lines if line["stage"] == newest["stage"]]
    number = names.index(newest["stage"]) if newest["stage"] in names else 0
    stage = recipe.stages[number]
    seconds = sum(line["seconds"] for line in lines)
    per_step = seconds / len(lines)
    samples = len(lines) * stage.batch.samples / seconds if seconds > 0 else None
    left = max(0, stage.steps - newest["step"]) * per_step
    later = sum(each.steps * each.batch.samples for each in recipe.stages[number + 1 :])
    losses = [line["loss"] for line in lines if line["loss"] is not None]
    return Training(
        run=base.run,
        stage=newest["stage"],
        number=number + 1,
        stages=base.stages,
        step=newest["step"],
        steps=stage.steps,
        loss=losses[-1] if losses else None,
        grad_norm=newest["grad_norm"],
        lr=newest["lr"],
        seconds_per_step=per_step,
        samples_per_second=samples,
        tokens_per_second=_mean(lines, "tokens_per_second"),
        mfu=_mean(lines, "mfu"),
        data_wait=_mean(lines, "data_wait"),
        stage_seconds_left=left,
        seconds_left=left + (later / samples if samples else 0.0),
        last_step_at=file.stat().st_mtime if file else None,
        checkpoint=base.checkpoint,
        published=base.published,
        plan=base.plan,
        events=base.events,
    )


def _mean(lines: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [line[name] for line in lines if line.get(name) is not None]
    return sum(values) / len(values) if values else None


def _checkpoint(events: Sequence[dict[str, Any]]) -> SavedStep | None:
    for event in reversed(events):
        if event["kind"] == "checkpoint":
            return SavedStep(event["stage"], event["step"], event["time"])
    return None

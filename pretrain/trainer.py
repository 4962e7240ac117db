"""The training loop of one stage."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pretrain import engine as deepspeed_engine
from pretrain.batches.stored import placed
from pretrain.exit_codes import NumericsError, PreemptionError
from pretrain.feeding import Batch, Portion
from pretrain.metrics import StepMetrics
from pretrain.obedience import Source
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe
from pretrain.schedules import learning_rate
from pretrain.stopping import StopSignal
from trawl import chance

Losses = Callable[[Any, Batch, dict[str, float]], tuple[torch.Tensor, dict[str, torch.Tensor]]]


@dataclass
class Measured:
    """What one rank measured in the passes of one step, and then what all of them did."""

    names: list[str]
    passes: list[torch.Tensor] = field(default_factory=list)
    """Of each pass the loss and its parts, on the device: read once a step, not once a pass."""
    positions: list[int] = field(default_factory=list)
    """Of each pass the position of its first sample."""
    bad: list[int] = field(default_factory=list)
    """Positions of this rank's passes whose loss is not finite."""
    any_bad: bool = False
    stop: bool = False
    grad_norm: float | None = None
    loss: float = 0.0
    losses: list[float] = field(default_factory=list)

    def add(self, loss: torch.Tensor, losses: dict[str, torch.Tensor], position: int) -> None:
        """Take in one pass."""
        values = [loss.detach(), *(losses[name] for name in self.names)]
        self.passes.append(torch.stack([value.double() for value in values]))
        self.positions.append(position)

    def agree(self, ranks: Ranks, stop: bool) -> None:
        """Fill in the means over all ranks and their common verdicts."""
        rows = torch.stack(self.passes).tolist()
        self.bad = [
            position
            for position, row in zip(self.positions, rows, strict=True)
            if not all(map(math.isfinite, row))
        ]
        # A NaN would hide the other figures from all ranks.
        sums = [sum(filter(math.isfinite, column)) for column in zip(*rows, strict=True)]
        passes, bad, stops, *sums = ranks.total([len(rows), len(self.bad), stop, *sums])
        self.any_bad, self.stop = bad > 0, stops > 0
        self.loss, *self.losses = (value / passes for value in sums)


@dataclass
class Trainer:
    """Trains one stage: the loop, and what it needs."""

    seed: int
    stage: StageRecipe
    engine: Any
    feed: Source
    compute_losses: Losses
    ranks: Ranks
    stop: StopSignal
    record: Callable[[StepMetrics], None]
    """Called on every rank after each step."""
    save: Callable[[int], None]
    """Called on every rank with the count of steps done; the checkpoint is written behind."""
    every_steps: int

    def train(self, start: int) -> None:
        """Train from step `start` to the end of the stage; the last step makes a checkpoint.

        Raises PreemptionError after a signal (and a checkpoint), NumericsError on a loss or
        gradient that is not finite on any rank, DataError on a sample that cannot be read.
        """
        self.engine.train()
        began = time.monotonic()
        for portion in self.feed.portions(start, self.stage.steps):
            measured = self._step(portion)
            done = portion.step + 1
            self.record(self._metrics(portion, measured, time.monotonic() - began))
            if measured.stop or done == self.stage.steps or done % self.every_steps == 0:
                self.save(done)
            if measured.stop and done < self.stage.steps:
                raise PreemptionError(f"stage {self.stage.name}: told to stop, saved step {done}")
            began = time.monotonic()

    def _step(self, portion: Portion) -> Measured:
        """Pass the micro-batches through the model, agree with the other ranks, take the step."""
        deepspeed_engine.set_rate(self.engine, self._rate(portion.step))
        measured = Measured(list(self.stage.objectives))
        for index, (number, batch) in enumerate(portion.passes):
            # Dropout is keyed by the place in the data, so no resume and no other count of ranks
            # changes it.
            torch.manual_seed(
                chance.seed_of(self.seed, "dropout", self.stage.name, portion.step, number)
            )
            read = placed(batch, self.ranks.device)
            outputs = self.engine(**read)
            loss, losses = self.compute_losses(outputs, read, self.stage.objectives)
            self.engine.backward(loss)
            measured.add(loss, losses, self.feed.first(portion.step, number))
            if index == len(portion.passes) - 1:
                measured.agree(self.ranks, self.stop.came)
                self._check(portion.step, measured)
                measured.grad_norm = deepspeed_engine.undivided_gradient_norm(self.engine)
            self.engine.step()
        if measured.grad_norm is None:
            measured.grad_norm = deepspeed_engine.divided_gradient_norm(self.engine)
        return measured

    def _rate(self, step: int) -> float:
        """Return the learning rate of `step`, before the scales of single parameters."""
        settings = self.stage.optimizer
        return learning_rate(
            step,
            settings.lr,
            settings.warmup_steps,
            self.stage.steps,
            settings.decay,
            settings.milestones,
            settings.gamma,
        )

    def _check(self, step: int, measured: Measured) -> None:
        """Stop all ranks together when one has a loss that is not finite, before the step."""
        if not measured.any_bad:
            return
        bad = sorted(position for part in self.ranks.gather(measured.bad) for position in part)
        raise NumericsError(
            f"stage {self.stage.name}, step {step + 1}: the loss is not finite in the "
            f"micro-batches that begin at positions {', '.join(map(str, bad))} of the stage's data"
        )

    def _metrics(self, portion: Portion, measured: Measured, seconds: float) -> StepMetrics:
        """Return the step's metrics; NumericsError if its gradient was not finite."""
        norm = measured.grad_norm
        samples = self.stage.batch.samples
        if norm is not None and not math.isfinite(norm):
            first = portion.step * samples
            raise NumericsError(
                f"stage {self.stage.name}, step {portion.step + 1}: the gradient of the samples at "
                f"positions {first} to {first + samples - 1} is not finite"
            )
        return StepMetrics(
            stage=self.stage.name,
            step=portion.step + 1,
            samples=(portion.step + 1) * samples,
            loss=measured.loss,
            losses=dict(zip(measured.names, measured.losses, strict=True)),
            lr=self._rate(portion.step),
            grad_norm=norm,
            seconds=round(seconds, 4),
            samples_per_second=round(samples / seconds, 2),
            data_wait=round(portion.waited / seconds, 4),
        )

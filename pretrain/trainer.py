"""The training loop of one stage."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pretrain import engine as deepspeed_engine
from pretrain.batches.row_batches import SAMPLE_NUMBERS
from pretrain.batches.stored import placed
from pretrain.exit_codes import NumericsError, PreemptionError
from pretrain.feeding import Batch, Portion
from pretrain.guards import PASSED, Guard
from pretrain.kernels.counter_dropout import CountedDropout
from pretrain.measured import Measured
from pretrain.obedience import Source
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe
from pretrain.schedules import learning_rate
from pretrain.stopping import StopSignal
from trawl import chance

Losses = Callable[[Any, Batch, dict[str, float]], tuple[torch.Tensor, dict[str, torch.Tensor]]]


@dataclass(frozen=True)
class BadStep:
    """A step that must not change the model, as every rank learns of it."""

    step: int
    """Its number, from 1."""
    problem: str
    measured: Measured
    again: str
    """What came of it when it was computed a second time: "reproducible" or "transient"."""
    bounds: dict[str, float]
    """The loss and the gradient norm above which the guard saw a spike, where it knew."""


class Watch(Protocol):
    """Who is told of what the training does, on every rank."""

    def beat(self, doing: str, /) -> None:
        """Hear what comes next, as a sign that the training gets on."""

    def ids(self, step: int, number: int) -> int:
        """Return the sum of the hashes of the samples of micro-batch `number` of `step`."""

    def bad(self, bad: BadStep, /) -> None:
        """Hear of a bad step; return when it is written down."""

    def step(
        self, portion: Portion, measured: Measured, skipped: str | None, rate: float, seconds: float
    ) -> None:
        """Hear of a step that is done, and why it was skipped if it was."""


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
    guard: Guard
    watch: Watch
    save: Callable[[int], None]
    """Called on every rank with the count of steps done; the checkpoint is written behind."""
    every_steps: int

    def train(self, start: int) -> None:
        """Train from step `start` to the end of the stage; the last step makes a checkpoint.

        Raises PreemptionError after a signal (and a checkpoint), RollbackError or NumericsError
        when too many steps are bad, DataError on a sample that cannot be read.
        """
        self.engine.train()
        began = time.monotonic()
        for portion in self.feed.portions(start, self.stage.steps):
            done = portion.step + 1
            self.watch.beat(f"computing step {done}")
            measured, skipped = self._guarded(portion)
            seconds = time.monotonic() - began
            self.watch.step(portion, measured, skipped, self._rate(portion.step), seconds)
            last = done == self.stage.steps
            if last and skipped is not None:
                self._prove(self.guard.last_good)
            # After a bad step the model may be bad too, and what is as good was saved before.
            if last or (skipped is None and (measured.stop or done % self.every_steps == 0)):
                self.watch.beat(f"saving step {done}")
                self.save(done)
            if measured.stop and not last:
                kept = "saved step" if skipped is None else "without saving the bad step"
                raise PreemptionError(f"stage {self.stage.name}: told to stop, {kept} {done}")
            began = time.monotonic()
            self.watch.beat(f"waiting for the data of step {done + 1}")

    def _guarded(self, portion: Portion) -> tuple[Measured, str | None]:
        """Take the step unless it is bad; return what was measured, and why it was skipped."""
        step = portion.step + 1
        if self.guard.left_out(step):
            idle = Measured(list(self.stage.objectives))
            idle.stop = self.ranks.total([self.stop.came])[0] > 0
            return idle, PASSED
        measured, problem = self._attempt(portion)
        if problem is not None:
            # Arithmetic is the same each time: where this is not, the machine was at fault.
            deepspeed_engine.discard_step(self.engine)
            again, still = self._attempt(portion)
            outcome = "transient" if still is None else "reproducible"
            self.watch.bad(BadStep(step, problem, measured, outcome, self.guard.bounds()))
            measured, problem = again, still
        if problem is not None:
            deepspeed_engine.discard_step(self.engine)
            self.guard.skip(step, problem)
        else:
            measured.grad_norm = deepspeed_engine.take_step(self.engine, measured.norm)
            self._refuse_late(step, measured.grad_norm)
            self.guard.accept(step, measured.loss, measured.grad_norm)
        return measured, problem

    def _refuse_late(self, step: int, grad_norm: float | None) -> None:
        """Raise NumericsError where DeepSpeed tells only after the step that it was bad."""
        if grad_norm is not None and not math.isfinite(grad_norm):
            raise NumericsError(
                f"stage {self.stage.name}, step {step}: the gradient is not finite, which this "
                "preset tells only after the step; take zero1 to zero3 without grad_accum_dtype"
            )

    def _attempt(self, portion: Portion) -> tuple[Measured, str | None]:
        """Compute the gradient of a step and agree with the other ranks on it; no update yet."""
        deepspeed_engine.set_rate(self.engine, self._rate(portion.step))
        measured = Measured(list(self.stage.objectives))
        for index, (number, batch) in enumerate(portion.passes):
            with measured.forward(self.ranks.device):
                loss, losses = self._losses(portion.step, number, batch)
            self.engine.backward(loss)
            measured.add(loss, losses, number)
            measured.count(batch)
            measured.ids += self.watch.ids(portion.step, number)
            self.watch.beat(f"computing step {portion.step + 1}")
            if index < len(portion.passes) - 1:
                self.engine.step()
        measured.norm = deepspeed_engine.gradient_norm(self.engine)
        measured.agree(self.ranks, self.stop.came)
        return measured, self.guard.problem(measured.finite, measured.loss, measured.grad_norm)

    def _losses(
        self, step: int, number: int, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of micro-batch `number` of `step`, and its parts."""
        # Dropout is keyed by the place in the data, so no resume and no other count of ranks
        # changes it.
        torch.manual_seed(chance.seed_of(self.seed, "dropout", self.stage.name, step, number))
        read = placed(batch, self.ranks.device)
        samples = read.pop(SAMPLE_NUMBERS, None)
        counted = {}
        if samples is not None:
            seed = chance.seed_of(self.seed, "dropout", self.stage.name, step)
            counted["counted"] = CountedDropout.of(samples, seed)
        return self.compute_losses(self.engine(**read, **counted), read, self.stage.objectives)

    def _prove(self, step: int) -> None:
        """Raise NumericsError if the loss of `step`, the last that changed the model, is no more.

        For a stage that ends in bad steps: nothing else would show that the model is not broken.
        """
        if step == 0:
            return
        measured = Measured(list(self.stage.objectives))
        with torch.no_grad():
            for portion in self.feed.portions(step - 1, step):
                for number, batch in portion.passes:
                    measured.add(*self._losses(portion.step, number, batch), number)
        measured.agree(self.ranks, self.stop.came)
        if not measured.finite:
            raise NumericsError(
                f"stage {self.stage.name} ends in bad steps, and the model is broken: the loss of "
                f"step {step}, which was the last good one, is not finite; lower the learning rate"
            )

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

"""Watching the steps of one stage: what each leaves in the metrics, and who is slow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pretrain import devices, ledger
from pretrain.feeding import Feed, Portion
from pretrain.flops import Meter
from pretrain.guards import PASSED
from pretrain.held_out import HeldOut
from pretrain.measured import Measured
from pretrain.metrics import StepMetrics
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe
from pretrain.trainer import BadStep

# A rank is a straggler whose forward passes take this many times the median's, over so many steps.
_SLOW = 1.3
_SLOW_STEPS = 50


@dataclass
class StepWatch:
    """Sees each step of a stage, on every rank."""

    stage: StageRecipe
    ranks: Ranks
    engine: Any
    feed: Feed
    meter: Meter
    checksum_steps: int
    held_out: HeldOut | None
    beat: Callable[[str], None]
    """Told what comes next, as a sign that the training gets on."""
    record: Callable[[StepMetrics], None]
    bad: Callable[[BadStep], None]
    """Told of each bad step; returns when it is written down."""
    event: Callable[..., None]
    _slow: list[list[float]] = field(default_factory=list)

    def ids(self, step: int, number: int) -> int:
        """Return the sum of the hashes of the samples of micro-batch `number` of `step`."""
        return ledger.ids_sum(self.feed.places(step, number))

    def step(
        self, portion: Portion, measured: Measured, skipped: str | None, rate: float, seconds: float
    ) -> None:
        """Write down a step that took `seconds`, after its update."""
        done = portion.step + 1
        samples = self.stage.batch.samples
        computed = skipped != PASSED
        losses = measured.losses if measured.finite and computed else [None] * len(measured.names)
        slowest, slow_seconds, median_seconds = measured.slowest()
        norm = measured.grad_norm
        metrics = StepMetrics(
            stage=self.stage.name,
            step=done,
            samples=done * samples,
            loss=measured.loss if measured.finite and computed else None,
            losses=dict(zip(measured.names, losses, strict=True)),
            lr=rate,
            grad_norm=norm if norm is not None and norm == norm else None,
            skipped=skipped,
            batch=f"{measured.ids:013x}" if computed else None,
            parameters=self._checksum(done),
            held_out=self.held_out.after(done, self.beat) if self.held_out else None,
            seconds=round(seconds, 4),
            samples_per_second=round(samples / seconds, 2),
            tokens_per_second=round(measured.tokens / seconds, 2),
            mfu=self.meter.share(measured, samples, seconds),
            memory=devices.peak_memory(self.ranks.device),
            data_wait=round(portion.waited / seconds, 4),
            slowest_rank=slowest,
            slowest_seconds=round(slow_seconds, 4),
            median_seconds=round(median_seconds, 4),
        )
        self.record(metrics)
        if computed:
            self._look_for_stragglers(done, measured.rank_seconds)

    def _checksum(self, done: int) -> str | None:
        """Return the checksum of the parameters after the steps where it is due."""
        every = self.checksum_steps
        if not every or (done % every and done != self.stage.steps):
            return None
        divided = self.engine.zero_optimization_stage() == 3
        if not divided and not self.ranks.first:
            return None
        return ledger.checksum(self.engine.module, divided)

    def _look_for_stragglers(self, done: int, seconds: list[float]) -> None:
        """Tell of ranks that were slower than the others through many steps."""
        self._slow.append(seconds)
        if len(self._slow) < _SLOW_STEPS:
            return
        times = [sum(column) for column in zip(*self._slow, strict=True)]
        self._slow.clear()
        middle = sorted(times)[len(times) // 2 - (len(times) % 2 == 0)]
        slow = [rank for rank, time in enumerate(times) if time > _SLOW * middle]
        if slow:
            self.event(
                "stragglers",
                stage=self.stage.name,
                step=done,
                ranks=slow,
                times_the_median=[round(times[rank] / middle, 2) for rank in slow],
            )

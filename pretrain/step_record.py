"""Where the steps of a stage are written down, on rank 0: metrics, curves, progress."""

from collections.abc import Iterator
from contextlib import contextmanager

from pretrain import metrics, trackers
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import progress


class Record:
    """Metrics and progress of one stage on rank 0, nothing on the others."""

    def __init__(self, log: metrics.MetricsLog | None, leg: progress.Leg | None) -> None:
        self._log, self._leg = log, leg

    def write(self, step: metrics.StepMetrics) -> None:
        """Take in one step."""
        if self._log and self._leg:
            self._log.write(step)
            self._leg.note("skipped" if step.loss is None else f"loss {step.loss:.4f}")
            self._leg.advance()

    def sync(self) -> None:
        """Force the metrics to the disk."""
        if self._log:
            self._log.sync()


@contextmanager
def recorded(
    recipe: PretrainRecipe, stage: StageRecipe, folder: RunFolder, ranks: Ranks, start: int
) -> Iterator[Record]:
    """Yield the record of `stage`, which begins after `start` steps."""
    if not ranks.first:
        yield Record(None, None)
        return
    with progress.leg(f"stage {stage.name}", stage.steps) as leg:
        leg.advance(start)
        place = trackers.Place(folder.local, recipe.name, stage.name, start)
        log = metrics.MetricsLog(folder.local, trackers.opened(recipe.watch, place))
        try:
            yield Record(log, leg)
        finally:
            log.close()

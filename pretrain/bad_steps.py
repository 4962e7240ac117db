"""Bad steps written down: RUN/bad-steps/STAGE-STEP.json names every sample, for a replay.

The run's events name the file; a rollback is an event too, and the guard is made again from both.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_pipeline.corpus.reader import Corpus
from pretrain import metrics
from pretrain.feeding import Feed
from pretrain.guard_recipe import GuardRecipe
from pretrain.guards import WINDOW, Guard
from pretrain.ranks import Ranks
from pretrain.run_folder import RunFolder
from pretrain.trainer import BadStep
from trawl import storage
from trawl.events import read_events

ROLLED_BACK = "rolled-back"
BAD_STEP = "bad-step"
# Keys that the event itself names; the file has them all.
_NAMED = 16


def guard_of(run: RunFolder, recipe: GuardRecipe, stage: str, ranks: Ranks) -> Guard:
    """Return the guard of `stage` as the run's metrics and events leave it, on every rank."""
    known: tuple[list[dict[str, Any]], list[tuple[int, int]]] = ([], [])
    if ranks.first:
        length = max(WINDOW, recipe.spike.window if recipe.spike else 0)
        fields = ("step", "loss", "grad_norm", "skipped")
        # A window of good steps, with the skipped ones between them.
        lines = [line for line in metrics.read(run.metrics) if line["stage"] == stage]
        taken = [index for index, line in enumerate(lines) if line.get("skipped") is None]
        first = taken[-length] if len(taken) >= length else 0
        known = (
            [{name: line.get(name) for name in fields} for line in lines[first:]],
            [
                (event["first"], event["last"])
                for event in read_events(run.events)
                if event["kind"] == ROLLED_BACK and event["stage"] == stage
            ],
        )
    lines, passed = ranks.from_first(known)
    guard = Guard(recipe, stage, len(passed), [range(first, last + 1) for first, last in passed])
    guard.restore(lines)
    return guard


@dataclass(frozen=True)
class Reporter:
    """Writes down the bad steps of one stage; every rank calls it."""

    run: RunFolder
    stage: str
    ranks: Ranks
    corpora: Sequence[Corpus]
    feed: Feed

    def write(self, bad: BadStep) -> dict[str, Any]:
        """Write the file of `bad` and return the fields of its event, both whole on rank 0 alone.

        Names the samples of the micro-batches whose loss is not finite, or those of the whole step
        where the gradient or a spike is the problem.
        """
        measured = bad.measured
        numbers = measured.numbers if measured.finite else measured.bad
        mine = [record for number in numbers for record in self._samples(bad.step - 1, number)]
        gathered = [each for part in self.ranks.gather(mine) for each in part]
        samples = sorted(gathered, key=lambda each: int(each["position"]))
        fields: dict[str, Any] = {
            "stage": self.stage,
            "step": bad.step,
            "problem": bad.problem,
            "again": bad.again,
            "loss": measured.loss if measured.finite else None,
            "bounds": bad.bounds,
            "ranks": sorted({record["rank"] for record in samples}),
            "hosts": sorted({record["host"] for record in samples}),
        }
        path = self.run.local / "bad-steps" / f"{self.stage}-{bad.step:08d}.json"
        if self.ranks.first:
            storage.write_json(path, {**fields, "samples": samples})
            self.run.push(path)
        keys = [record["key"] for record in samples[:_NAMED]]
        return {
            **fields,
            "samples": len(samples),
            "positions": _runs([record["position"] for record in samples]),
            "keys": keys,
            "file": path.relative_to(self.run.local).as_posix(),
        }

    def _samples(self, step: int, number: int) -> list[dict[str, Any]]:
        """Return what names each sample of micro-batch `number` of `step`."""
        return [
            {
                "position": position,
                "corpus": self.corpora[corpus].uri,
                "number": sample,
                "key": self.corpora[corpus][sample].key,
                "micro_batch": number,
                "rank": self.ranks.rank,
                "host": platform.node(),
            }
            for corpus, sample, _, position in self.feed.own_places(step, number)
        ]


def _runs(numbers: Sequence[int]) -> str:
    """Return numbers as runs, for example "8-11, 20-23"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" for first, last in runs)

"""What is seen of the steps: ranks that are slower than the others."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pretrain.flops import Meter
from pretrain.measured import Measured
from pretrain.metrics import StepMetrics
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe
from pretrain.step_watch import StepWatch

QUIET = [1.0, 1.1, 0.9, 1.0]
ONE_SLOW = [1.0, 1.1, 1.5, 1.0]


def told(steps: list[list[float]]) -> tuple[list[dict[str, Any]], list[StepMetrics]]:
    """Return the events and the metrics of `steps`, of each the seconds of four ranks."""
    stage = StageRecipe.model_validate(
        {
            "name": "s",
            "data": [{"corpus": "c"}],
            "objectives": {"mlm": 1.0},
            "steps": 1000,
            "batch": {"samples": 8},
        }
    )
    events: list[dict[str, Any]] = []
    lines: list[StepMetrics] = []
    watch = StepWatch(
        stage=stage,
        ranks=Ranks(0, 0, 4, torch.device("cpu")),
        engine=None,
        feed=cast(Any, None),
        meter=cast(Meter, SimpleNamespace(share=lambda *_: None)),
        checksum_steps=0,
        held_out=None,
        beat=lambda _: None,
        record=lines.append,
        bad=lambda _: None,
        event=lambda kind, **fields: events.append({"kind": kind, **fields}),
    )
    for step, seconds in enumerate(steps):
        measured = Measured(["mlm"], losses=[1.0], rank_seconds=seconds)
        portion = cast(Any, SimpleNamespace(step=step, waited=0.0))
        watch.step(portion, measured, None, 1e-3, 2.0)
    return events, lines


def test_the_slowest_rank_of_each_step_stands_in_the_metrics() -> None:
    _, lines = told([QUIET, ONE_SLOW])
    found = [(line.slowest_rank, line.slowest_seconds, line.median_seconds) for line in lines]
    assert found == [(1, 1.1, 1.0), (2, 1.5, 1.05)]


@pytest.mark.parametrize("ranks", [[2], []])
def test_a_rank_that_stays_slow_is_a_straggler(ranks: list[int]) -> None:
    # Slow at times it is none.
    steps = [ONE_SLOW if ranks or step % 5 == 0 else QUIET for step in range(100)]
    events, _ = told(steps)
    assert [event["ranks"] for event in events] == [ranks] * (2 if ranks else 0)
    for event, step in zip(events, (50, 100), strict=False):
        assert event["kind"] == "stragglers"
        assert (event["stage"], event["step"]) == ("s", step)
        assert event["times_the_median"] == [1.5]

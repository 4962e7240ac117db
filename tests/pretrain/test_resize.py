"""A run goes on with another count of ranks: the same samples in the same order, the same curve."""

import signal
from pathlib import Path
from typing import Any

import pytest

from pretrain.exit_codes import ExitCode
from tests.pretrain import built_operators, forked, runs
from tests.pretrain.conftest import Corpora

STEPS = 9
STOPS = (3, 6)


def one_stage(corpora: Corpora, run: Path, preset: str, **changes: Any) -> dict[str, Any]:
    """A recipe of one stage, checkpoints after every third step."""
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    stage = {**content["stages"][0], "steps": STEPS, "deepspeed": preset, **changes}
    content["stages"] = [stage]
    content["checkpoint"] = {"uri": str(run), "every_steps": 3, "keep_last": 9}
    return content


def run_until(path: Path, run: Path, ranks: int, step: int) -> None:
    """Run on `ranks` ranks and kill them once the checkpoint after `step` is whole."""
    process = forked.Ranks(path, ranks, environment=built_operators.ENVIRONMENT)
    complete = run / "checkpoints" / "out" / f"step-{step:08d}" / "COMPLETE"
    process.wait_for(complete.exists)
    process.signal(signal.SIGKILL)
    process.wait()
    for later in (run / "checkpoints" / "out").glob("step-*"):
        if later.name > complete.parent.name:
            (later / "COMPLETE").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "preset",
    [
        "zero2",
        *(pytest.param(name, marks=pytest.mark.soak) for name in ("zero0", "zero1", "zero3")),
    ],
)
def test_two_ranks_become_one_and_two_again(corpora: Corpora, tmp_path: Path, preset: str) -> None:
    check_moves(corpora, tmp_path, preset)


@pytest.mark.soak
@pytest.mark.parametrize("preset", ["zero2-offload", "zero3-offload"])
def test_so_they_do_with_another_optimizers_kernel(
    corpora: Corpora, tmp_path: Path, preset: str
) -> None:
    if (problem := built_operators.obstacle()) is not None:
        pytest.skip(problem)
    check_moves(corpora, tmp_path, preset, kernels={"adamw": "deepspeed-cpu"})


def check_moves(corpora: Corpora, tmp_path: Path, preset: str, **changes: Any) -> None:
    steady, moved = tmp_path / "steady", tmp_path / "moved"
    content = one_stage(corpora, steady, preset, **changes)
    built = built_operators.ENVIRONMENT
    forked.run(runs.write_recipe(tmp_path / "s.yaml", content), 2, environment=built)
    content = one_stage(corpora, moved, preset, **changes)
    path = runs.write_recipe(tmp_path / "m.yaml", content)
    run_until(path, moved, 2, STOPS[0])
    run_until(path, moved, 1, STOPS[1])
    forked.run(path, 2, environment=built)
    found = [
        (event["step"], event["ranks_before"], event["ranks"])
        for event in runs.events(moved, "resumed")
    ]
    assert found == [(3, 2, 1), (6, 1, 2)]
    assert forked.losses(moved) == pytest.approx(forked.losses(steady), abs=1e-3)
    # Up to the first change of ranks the curve is the same bit for bit.
    assert runs.exact(moved)[: STOPS[0]] == runs.exact(steady)[: STOPS[0]]
    assert not (moved / "universal").exists()


def test_a_batch_that_another_count_does_not_divide_is_refused(
    corpora: Corpora, tmp_path: Path
) -> None:
    path = runs.write_recipe(tmp_path / "r.yaml", one_stage(corpora, tmp_path / "run", "zero1"))
    ranks = forked.Ranks(path, 1, "--set", "stages.0.batch.micro_batch=3")
    assert ranks.wait() == [ExitCode.USER_ERROR]
    assert "does not divide by 1 ranks of micro-batches of 3" in ranks.said

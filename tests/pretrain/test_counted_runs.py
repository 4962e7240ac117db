"""Runs whose dropout is counted: the same curve on other ranks, packed or not, with the kernels.

Losses agree within 1e-4, as those of ZeRO's stages do.
"""

from pathlib import Path
from typing import Any

import pytest

from pretrain.exit_codes import ExitCode
from tests.pretrain import forked, runs
from tests.pretrain.conftest import Corpora
from tests.pretrain.kernels.interpreter import needs_triton

STEPS = 4


def recipe(corpora: Corpora, run: Path, **changes: Any) -> dict[str, Any]:
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    stage = {**content["stages"][0], "steps": STEPS, "dropout": "counted", **changes}
    stage["batch"] = {"samples": 8, **changes.get("batch", {"micro_batch": 4})}
    return {**content, "stages": [stage]}


@pytest.fixture(scope="module")
def alone(corpora: Corpora, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of a padded run of one rank."""
    folder = tmp_path_factory.mktemp("counted")
    run = folder / "run"
    forked.run(runs.write_recipe(folder / "r.yaml", recipe(corpora, run)), 1)
    return forked.losses(run)


@pytest.mark.parametrize("preset", ["zero1", "zero3"])
def test_packed_on_two_ranks_it_learns_the_same(
    alone: list[float], corpora: Corpora, tmp_path: Path, preset: str
) -> None:
    batch = {"micro_batch": 4, "packing": "packed"}
    content = recipe(corpora, tmp_path / "run", batch=batch, deepspeed=preset)
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    assert forked.losses(tmp_path / "run") == pytest.approx(alone, abs=1e-4)


def test_drawn_masks_are_others(alone: list[float], corpora: Corpora, tmp_path: Path) -> None:
    content = recipe(corpora, tmp_path / "run", dropout="drawn")
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 1)
    apart = [abs(a - b) for a, b in zip(forked.losses(tmp_path / "run"), alone, strict=True)]
    assert max(apart) > 1e-3


@needs_triton
@pytest.mark.slow
def test_with_the_kernels_it_learns_the_same(corpora: Corpora, tmp_path: Path) -> None:
    """The kernels are interpreted, which takes seconds a step: a few steps of few samples."""
    losses = []
    for name in ("plain", "triton"):
        content = recipe(
            corpora,
            tmp_path / name,
            steps=3,
            optimizer={"lr": 1e-3},
            batch={"samples": 2, "micro_batch": 2, "packing": "packed"},
            kernels={"dropout_residual_norm": name, "packed_attention": name},
        )
        path = runs.write_recipe(tmp_path / f"{name}.yaml", content)
        process = runs.Process(path, environment={"TRITON_INTERPRET": "1"})
        assert process.wait() == ExitCode.DONE, process.said
        losses.append(forked.losses(tmp_path / name))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_kernel_that_cannot_run_here_is_a_wrong_request(corpora: Corpora, tmp_path: Path) -> None:
    content = recipe(corpora, tmp_path / "run", kernels={"dropout_residual_norm": "triton"})
    process = runs.Process(runs.write_recipe(tmp_path / "r.yaml", content))
    assert process.wait() == ExitCode.USER_ERROR
    assert "kernels.dropout_residual_norm: triton needs" in process.said

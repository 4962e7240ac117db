"""Whole runs of the trainer with region embedding and masked prediction by kernels, under ZeRO-3.

Losses agree within 1e-4 with a run without kernels, as those of ZeRO's stages do.
"""

from pathlib import Path

import pytest

from pretrain.exit_codes import ExitCode
from tests.pretrain import forked, runs
from tests.pretrain.conftest import Corpora
from tests.pretrain.kernels.interpreter import needs_triton

OWN = ("region_embedding", "masked_prediction")


@needs_triton
@pytest.mark.slow
def test_with_kernels_a_run_learns_the_same(corpora: Corpora, tmp_path: Path) -> None:
    """The decoder and the projection are read outside of their layers, which gather them."""
    losses = []
    for name in ("plain", "triton"):
        content = runs.recipe(corpora.web, corpora.clean, str(tmp_path / name))
        stage = content["stages"][0] | {
            "steps": 3,
            "deepspeed": "zero3",
            "optimizer": {"lr": 1e-3},
            "batch": {"samples": 4, "micro_batch": 2, "packing": "packed"},
            "kernels": dict.fromkeys(OWN, name),
        }
        path = runs.write_recipe(tmp_path / f"{name}.yaml", {**content, "stages": [stage]})
        process = runs.Process(path, environment={"TRITON_INTERPRET": "1"})
        assert process.wait() == ExitCode.DONE, process.said
        losses.append(forked.losses(tmp_path / name))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)

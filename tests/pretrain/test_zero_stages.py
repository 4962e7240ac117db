"""Two stages on two ranks under each preset: the same curve."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pretrain.exit_codes import ExitCode
from tests.pretrain import forked, runs
from tests.pretrain.conftest import Corpora


def recipe(corpora: Corpora, run: Path, preset: str, **changes: Any) -> dict[str, Any]:
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    for stage in content["stages"]:
        stage |= {"deepspeed": preset, **changes}
    return content


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("zero2", {"activation_checkpointing": True}),
        ("zero3", {}),
        ("zero2-offload", {}),
        *(
            pytest.param(preset, changes, marks=pytest.mark.soak)
            for preset, changes in (
                ("zero0", {}),
                ("zero2", {}),
                ("zero3", {"activation_checkpointing": True}),
                ("zero1-offload", {}),
                ("zero3-offload", {}),
                ("zero2-bf16", {}),
            )
        ),
    ],
)
def test_every_preset_gives_the_losses_of_zero1(
    undisturbed: Path, corpora: Corpora, tmp_path: Path, preset: str, changes: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    content = recipe(corpora, run, preset, **changes)
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    assert forked.losses(run) == pytest.approx(forked.losses(undisturbed), abs=1e-4)


@pytest.mark.soak
@pytest.mark.parametrize("preset", ["zero1", "zero2", "zero2-bf16", "zero2-offload"])
def test_bf16_learns(corpora: Corpora, tmp_path: Path, preset: str) -> None:
    run = tmp_path / "run"
    content = recipe(corpora, run, preset, precision="bf16")
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    assert forked.losses(run)[-1] < forked.losses(run)[0]


@pytest.mark.soak
def test_compiled_layers_give_the_same_losses(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = recipe(corpora, run, "zero1", compile=True)
    # Compiled layers draw dropout in another way.
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    content["model"]["config"] |= still
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    plain = recipe(corpora, tmp_path / "plain", "zero1")
    plain["model"]["config"] |= still
    forked.run(runs.write_recipe(tmp_path / "p.yaml", plain), 2)
    assert forked.losses(run) == pytest.approx(forked.losses(tmp_path / "plain"), abs=1e-4)


@pytest.mark.soak
def test_the_launcher_of_deepspeed_starts_a_run_too(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    command = [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", "2"]
    done = subprocess.run(
        [*command, "--module", "pretrain", "run", str(path), "--stage", "out"],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.DONE, done.stderr
    assert runs.exact(run) == runs.exact(undisturbed)[:8]


def test_zero3_gathers_the_decoder_for_masked_prediction_by_chunks(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = recipe(corpora, run, "zero3", kernels={"masked_prediction": "chunked"})
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    assert forked.losses(run) == pytest.approx(forked.losses(undisturbed), abs=1e-4)

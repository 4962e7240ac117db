"""Which implementation runs: the table, what a recipe wants, and what `trawl doctor` says."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from pretrain.kernels import selection
from pretrain.recipe import StageRecipe
from trawl import recipe as recipes
from trawl.errors import RequestError

LAST = {"adamw": "torch"}
"""What runs everywhere, where it is not called plain."""
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = selection.overrides()
    yield
    selection.override(before)


@pytest.fixture
def _everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_installed", lambda module: True)


@pytest.mark.parametrize("operation", selection.TABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_a_gpu_the_plain_twin_runs(operation: str, dtype: torch.dtype) -> None:
    assert selection.chosen(operation, CPU, dtype) == LAST.get(operation, "plain")


@pytest.mark.usefixtures("_everything_installed")
def test_on_a_gpu_the_first_runs_that_can() -> None:
    def attention(dtype: torch.dtype, **unable: str) -> str:
        return selection.chosen("packed_attention", CUDA, dtype, unable)

    assert attention(torch.bfloat16) == "varlen"
    assert attention(torch.bfloat16, varlen="varlen has no dropout") == "triton"
    assert attention(torch.float32) == "triton"
    assert attention(torch.float64) == "plain"


def test_without_triton_the_plain_twin_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_installed", lambda module: module != "triton")
    assert selection.chosen("dropout_residual_norm", CUDA, torch.bfloat16) == "plain"


@pytest.mark.usefixtures("_everything_installed")
def test_what_the_recipe_wants_runs() -> None:
    selection.override({"packed_attention": "plain"})
    assert selection.chosen("packed_attention", CUDA, torch.bfloat16) == "plain"
    selection.override({})
    assert selection.chosen("packed_attention", CUDA, torch.bfloat16) == "varlen"


def test_what_the_recipe_wants_and_cannot_run_is_told() -> None:
    selection.override({"dropout_residual_norm": "triton"})
    with pytest.raises(RequestError, match=r"kernels\.dropout_residual_norm: triton needs"):
        selection.chosen("dropout_residual_norm", CPU, torch.float32)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"packed_atention": "plain"}, "no kernel packed_atention; there are dropout_residual"),
        ({"packed_attention": "fast"}, "no implementation fast; take varlen, triton, plain"),
    ],
)
def test_a_recipe_cannot_name_what_there_is_not(wanted: dict[str, str], told: str) -> None:
    stage = {
        "name": "a",
        "data": [{"corpus": "c"}],
        "objectives": {"mlm": 1.0},
        "steps": 1,
        "batch": {"samples": 1},
        "kernels": wanted,
    }
    with pytest.raises(RequestError, match=told):
        recipes.parse(stage, StageRecipe, "r.yaml")


def test_the_doctor_prints_the_table() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trawl", "doctor"], capture_output=True, text=True, check=True
    )
    assert "suppression             cpu     words" in done.stdout
    rows = [line.split(maxsplit=4) for line in done.stdout.split("\nkernels\n")[1].splitlines()]
    cpu = {(row[0], row[2]): row[3] for row in rows if len(row) == 5 and row[1] == "cpu"}
    assert cpu == {
        (operation, numbers): LAST.get(operation, "plain")
        for operation in selection.TABLE
        for numbers in selection.FLOATS
    }

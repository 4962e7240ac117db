"""The benchmark of the kernels: it runs without a GPU, and its cases compute the same."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretrain.kernels.interpreter import interpreted, needs_triton

BENCH = Path(__file__).parents[3] / "bench"


def cases() -> Any:
    """The module of the cases, whose home is beside the program."""
    if str(BENCH) not in sys.path:
        sys.path.append(str(BENCH))
    from parts import kernel_cases  # type: ignore[import-not-found]

    return kernel_cases


def small() -> Any:
    return cases().Sizes(
        rows=2, tokens=5, regions=4, masked=3, hidden=32, heads=2, feature=48, words=130
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures where there is a GPU")
def test_without_a_gpu_formulas_are_printed_and_nothing_is_estimated() -> None:
    done = subprocess.run(
        [sys.executable, "bench/kernels.py", "--rows", "2"],
        cwd=BENCH.parent,
        env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = done.stdout.splitlines()
    formulas = [line for line in told if " = " in line]
    assert len(formulas) == 4
    # 2 rows of 10 predicted tokens: 6 * 20 * 30522 * 768 operations.
    assert "2.81 GFLOP" in formulas[1]
    rows = [line for line in told if line not in formulas]
    assert len(rows) > 12
    assert all(line.endswith("no GPU here") for line in rows)


def _agree(steps: dict[str, Any], names: list[str]) -> None:
    right = steps["eager"]()
    for name in names:
        for one, other in zip(steps[name](), right, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_is_compared_computes_the_same() -> None:
    made = cases().prediction_case(small(), torch.device("cpu"))
    _agree(made.steps, [name for name in made.steps if name not in ("kernel", "compile", "liger")])


def check_kernels() -> None:
    for make in (cases().prediction_case, cases().attention_case):
        _agree(make(small(), torch.device("cpu")).steps, ["kernel"])
    for make in (cases().region_case, cases().residual_case):  # with dropout of their own
        steps = make(small(), torch.device("cpu")).steps
        for one, other in zip(steps["kernel"](), steps["eager"](), strict=True):
            assert one.shape == other.shape
            assert one.dtype == other.dtype


@needs_triton
def test_in_tritons_interpreter_the_kernels_are_what_is_measured() -> None:
    interpreted(check_kernels)

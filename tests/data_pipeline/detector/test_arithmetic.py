"""A number that the processor only imitates is told beforehand, and only such a one."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from data_pipeline.detector.arithmetic import is_imitated, slow_number
from data_pipeline.regions_cli import regions

# Whichever of these a processor has, oneDNN computes bfloat16 with it.
_INSTRUCTIONS = ("avx512_bw", "amx_bf16", "avx_ne_convert")


@pytest.mark.parametrize(("number", "device"), [("float32", "cpu"), ("bfloat16", "cuda")])
def test_float32_and_gpus_are_never_imitated(number: str, device: str) -> None:
    assert not is_imitated(number, device)
    assert slow_number(number, device, "number") == []


def test_a_cpu_imitates_bfloat16_that_has_no_instructions_for_it() -> None:
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch does not tell the processor's instructions")
    has = torch.cpu.get_capabilities()
    assert is_imitated("bfloat16", "cpu") == (not any(has.get(name) for name in _INSTRUCTIONS))


def test_another_number_is_refused(tmp_path: Path) -> None:
    asked = ["train", "--world", "0", "--out", str(tmp_path / "out"), "--number", "float16"]
    done = CliRunner().invoke(regions, asked)
    assert done.exit_code != 0
    assert "choose float32 or bfloat16" in str(done.exception)

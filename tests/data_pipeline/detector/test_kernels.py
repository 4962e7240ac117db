"""The Triton kernels without a GPU: interpreted against their plain twins, and built for Hopper."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_pipeline.detector.suppression import Suppression, suppress, suppress_by_loop
from tests.data_pipeline.detector.test_suppression import crowded
from tests.pretrain.kernels.ahead_of_time import Budget, assert_within, built

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, the extra gpu"
)

_TWINS = """
import torch
from data_pipeline.detector.roi_pool import bins, pool_plain
from data_pipeline.detector.roi_pool_kernel import pool_by_kernel
from tests.data_pipeline.detector.test_roi_pool import STRIDE, drawn, maps

for number in (torch.float32, torch.bfloat16):
    cells, boxes = maps(9, 5, 9, 12).to(number), drawn(10, 3, 9, 12)
    edges = bins(boxes, 5, STRIDE, 9, 12)
    pooled = pool_by_kernel(cells.permute(1, 2, 0).contiguous(), edges)
    assert pooled.dtype == number
    assert torch.equal(pooled, pool_plain(cells, boxes, 5, STRIDE)), number
none = bins(boxes[:0], 5, STRIDE, 9, 12)
assert pool_by_kernel(cells.permute(1, 2, 0).contiguous(), none).shape == (0, 5, 5, 5)

from data_pipeline.detector.suppression import Suppression, _bits, removals, suppress_by_loop
from data_pipeline.detector.suppression_kernel import walk_by_kernel
from tests.data_pipeline.detector.test_suppression import crowded

for count, threshold in ((1, 0.0), (70, 0.0), (70, 0.1)):
    boxes, scores = crowded(count, count=count, classes=2)
    for rule in (Suppression(0.3), Suppression(0.3, 1.0, True)):
        ranked, order = scores.sort(dim=0, descending=True, stable=True)
        lengths = (scores >= threshold).sum(dim=0)
        kept = walk_by_kernel(_bits(removals(boxes, rule)), order, lengths)
        found = torch.zeros_like(scores).scatter_(0, order, ranked * kept)
        loop = suppress_by_loop(boxes, scores, rule)
        assert torch.equal(found, torch.where(loop >= threshold, loop, 0.0)), (count, rule)
assert walk_by_kernel(torch.zeros(0, 0).long(), order[:0], lengths * 0).shape == (0, 2)
print("equal")
"""


def test_in_tritons_interpreter_the_kernels_are_their_plain_twins() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    found = subprocess.run(
        [sys.executable, "-c", _TWINS], env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.stdout.strip() == "equal", found.stderr


@pytest.mark.parametrize("number", ["bf16", "fp32"])
def test_pooling_is_built_for_hopper_and_spills_nothing(number: str, tmp_path: Path) -> None:
    from data_pipeline.detector.roi_pool_kernel import maximum_kernel

    edges = dict.fromkeys(("top", "bottom", "left", "right"), "*i32")
    types = {"cells": f"*{number}", "pooled": f"*{number}", **edges, "width": "i32"}
    types["channels"] = "i32"
    made = built(maximum_kernel, types, {"side": 14, "block": 1024}, num_warps=4)
    assert_within(made, Budget(registers=64), tmp_path)


def test_suppression_is_built_for_hopper_and_spills_nothing(tmp_path: Path) -> None:
    from data_pipeline.detector.suppression_kernel import walk_kernel

    types = {"bits": "*i64", "order": "*i64", "lengths": "*i64", "kept": "*i8", "classes": "i32"}
    made = built(walk_kernel, types, {"words": 8}, num_warps=1)
    assert_within(made, Budget(registers=64), tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("count", [1, 65, 300])
def test_suppression_on_a_gpu_is_the_loop(count: int) -> None:
    boxes, scores = crowded(count, count=count)
    for rule in (Suppression(0.3), Suppression(0.5)):
        found = suppress(boxes.cuda(), scores.cuda(), rule, 0.0).cpu()
        assert torch.equal(found, suppress_by_loop(boxes, scores, rule))

"""The Triton kernels without a GPU: interpreted against their plain twins, and built for three.

Both are equal to their twins bit for bit.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.detector.roi_pool import bins, pool_plain
from data_pipeline.detector.suppression import (
    Suppression,
    _bits,
    removals,
    suppress,
    suppress_by_loop,
)
from tests.data_pipeline.detector.test_roi_pool import STRIDE, drawn, maps
from tests.data_pipeline.detector.test_suppression import crowded
from tests.pretrain.kernels.ahead_of_time import TARGETS, Budget, assert_within, built
from tests.pretrain.kernels.interpreter import interpreted, needs_triton

NUMBERS = (torch.float32, torch.float16, torch.bfloat16)
RULES = (Suppression(0.3), Suppression(0.3, 1.0, True))
DRAWN = settings(max_examples=10, deadline=None, database=None, derandomize=True)


def compare_pooling(
    channels: int, height: int, width: int, regions: int, side: int, number: torch.dtype
) -> None:
    from data_pipeline.detector.roi_pool_kernel import pool_by_kernel

    cells = maps(height, channels, height, width).to(number)
    boxes = drawn(width, regions, height, width)
    edges = bins(boxes, side, STRIDE, height, width)
    pooled = pool_by_kernel(cells.permute(1, 2, 0).contiguous(), edges)
    assert pooled.dtype == number
    assert torch.equal(pooled, pool_plain(cells, boxes, side, STRIDE)), number


def compare_suppression(count: int, classes: int, threshold: float, rule: Suppression) -> None:
    from data_pipeline.detector.suppression_kernel import walk_by_kernel

    boxes, scores = crowded(count, count=count, classes=classes)
    ranked, order = scores.sort(dim=0, descending=True, stable=True)
    lengths = (scores >= threshold).sum(dim=0)
    kept = walk_by_kernel(_bits(removals(boxes, rule)), order, lengths)
    found = torch.zeros_like(scores).scatter_(0, order, ranked * kept)
    loop = suppress_by_loop(boxes, scores, rule)
    assert torch.equal(found, torch.where(loop >= threshold, loop, 0.0)), (count, rule)


def check_pooling() -> None:
    from data_pipeline.detector.roi_pool_kernel import pool_by_kernel

    for number in NUMBERS:
        compare_pooling(5, 9, 12, 3, 5, number)
    compare_pooling(1023, 1, 1, 1, 1, torch.bfloat16)
    none = bins(drawn(10, 3, 9, 12)[:0], 5, STRIDE, 9, 12)
    assert pool_by_kernel(torch.zeros(9, 12, 5), none).shape == (0, 5, 5, 5)


def check_pooling_of_drawn_shapes() -> None:
    sides, few = st.integers(1, 12), st.integers(1, 3)

    @DRAWN
    @given(st.integers(1, 150), sides, sides, few, few, st.sampled_from(NUMBERS))
    def same(
        channels: int, height: int, width: int, regions: int, side: int, number: torch.dtype
    ) -> None:
        compare_pooling(channels, height, width, regions, side, number)

    same()


def check_suppression() -> None:
    from data_pipeline.detector.suppression_kernel import walk_by_kernel

    for count, threshold in ((1, 0.0), (70, 0.0), (70, 0.1)):
        for rule in RULES:
            compare_suppression(count, 2, threshold, rule)
    nothing = torch.zeros(0, 2).long()
    assert walk_by_kernel(torch.zeros(0, 0).long(), nothing, torch.zeros(2).long()).shape == (0, 2)


def check_suppression_of_drawn_shapes() -> None:
    @DRAWN
    @given(
        st.integers(1, 90),
        st.integers(1, 3),
        st.sampled_from([0.0, 0.1, 0.5]),
        st.sampled_from(RULES),
    )
    def same(count: int, classes: int, threshold: float, rule: Suppression) -> None:
        compare_suppression(count, classes, threshold, rule)

    same()


@needs_triton
def test_in_tritons_interpreter_the_kernels_are_their_plain_twins() -> None:
    interpreted(
        check_pooling,
        check_pooling_of_drawn_shapes,
        check_suppression,
        check_suppression_of_drawn_shapes,
    )


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", ["bf16", "fp16", "fp32"])
def test_pooling_is_built_within_budget(number: str, target: int, tmp_path: Path) -> None:
    from data_pipeline.detector.roi_pool_kernel import maximum_kernel

    edges = dict.fromkeys(("top", "bottom", "left", "right"), "*i32")
    types = {"cells": f"*{number}", "pooled": f"*{number}", **edges, "width": "i32"}
    types["channels"] = "i32"
    constants = {"side": 14, "block": 1024}
    made = built(maximum_kernel, types, constants, num_warps=4, target=target)
    assert_within(made, Budget(registers=64), tmp_path)


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
def test_suppression_is_built_within_budget(target: int, tmp_path: Path) -> None:
    from data_pipeline.detector.suppression_kernel import walk_kernel

    types = {"bits": "*i64", "order": "*i64", "lengths": "*i64", "kept": "*i8", "classes": "i32"}
    made = built(walk_kernel, types, {"words": 8}, num_warps=1, target=target)
    assert_within(made, Budget(registers=64), tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("count", [1, 65, 300])
def test_suppression_on_a_gpu_is_the_loop(count: int) -> None:
    boxes, scores = crowded(count, count=count)
    for rule in (Suppression(0.3), Suppression(0.5)):
        found = suppress(boxes.cuda(), scores.cuda(), rule, 0.0).cpu()
        assert torch.equal(found, suppress_by_loop(boxes, scores, rule))

"""RoI maximum pooling as one Triton kernel: any floating type, any number of regions, no indices.

The plain twin is `roi_pool.pool_plain`. torchvision's kernel takes float32 and float64 only, keeps
an int32 index for every output even at inference, and counts elements in 32 bits, which overflow
above 10,699 regions. Needs triton (the extra "gpu").
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from data_pipeline.detector.roi_pool import Bins

_MOST_CHANNELS = 1024
"""Channels that one program reads together."""


@triton.jit
def maximum_kernel(  # type: ignore[no-untyped-def]
    cells,  # [height, width, channels]
    pooled,  # [regions, side, side, channels]
    top,  # int32 [regions, side], as the next three
    bottom,
    left,
    right,
    width,
    channels,
    side: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One bin of one region, `block` of its channels."""
    place = tl.program_id(0).to(tl.int64)
    region = place // (side * side)
    row = place // side % side
    column = place % side
    first_row = tl.load(top + region * side + row)
    last_row = tl.load(bottom + region * side + row)
    first_column = tl.load(left + region * side + column)
    last_column = tl.load(right + region * side + column)
    channel = tl.program_id(1) * block + tl.arange(0, block)
    inside = channel < channels
    lowest = -float("inf")
    best = tl.full([block], lowest, tl.float32)
    for y in range(first_row, last_row):
        for x in range(first_column, last_column):
            start = (y * width + x).to(tl.int64) * channels
            values = tl.load(cells + start + channel, mask=inside, other=lowest)
            best = tl.maximum(best, values.to(tl.float32))
    empty = (last_row <= first_row) | (last_column <= first_column)
    best = tl.where(empty, 0.0, best)
    target = pooled + place * channels + channel
    tl.store(target, best.to(pooled.dtype.element_ty), mask=inside)


def pool_by_kernel(cells: Tensor, edges: Bins) -> Tensor:
    """Pool one image: contiguous cells [H, W, channels] -> [regions, channels, side, side].

    The result has the cells' type, rounded nowhere (a maximum is one of the cells), and lies
    channels last.
    """
    regions, side = edges.top.shape
    channels = cells.shape[2]
    pooled = torch.empty(regions, side, side, channels, dtype=cells.dtype, device=cells.device)
    if regions:
        block = min(_MOST_CHANNELS, triton.next_power_of_2(channels))
        grid = (regions * side * side, triton.cdiv(channels, block))
        edge_rows = [edge.contiguous() for edge in (edges.top, edges.bottom)]
        edge_columns = [edge.contiguous() for edge in (edges.left, edges.right)]
        maximum_kernel[grid](
            cells, pooled, *edge_rows, *edge_columns, cells.shape[1], channels, side, block
        )
    return pooled.permute(0, 3, 1, 2)

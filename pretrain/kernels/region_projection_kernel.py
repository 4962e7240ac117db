"""The two Triton kernels of the regions' projection: forward, and the gradient of its weight.

Features are read as the corpus stores them, int8 with a scale a region or float16, and become what
`tl.dot` multiplies in registers: a quarter or a half of the bytes of float32. The plain twin is
`region_embedding.project_plain`. Needs triton (the extra "gpu").
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pretrain.kernels.launching import PINNED
from pretrain.kernels.multiplying import multiplied, operand, product


@triton.jit(do_not_specialize=["regions"])
def project_kernel(  # type: ignore[no-untyped-def]
    values,  # [regions, size], int8 or floating
    scales,  # [regions]
    weight,  # [width, size]
    projected,  # [regions, width]
    regions,
    size,
    width,
    scaled: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    compute: tl.constexpr,
) -> None:
    """`rows` regions by `columns` of the width; int8 is exact in any type, the scale comes last."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside, known = row < regions, column < width
    total = product(
        values, weight, row, column, regions, width, size, rows, columns, depth, compute
    )
    if scaled:
        scale = tl.load(scales + row, mask=inside, other=0.0).to(tl.float32)
        total = total * scale[:, None]
    target = projected + row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(target, total.to(projected.dtype.element_ty), mask=inside[:, None] & known[None, :])


@triton.jit(do_not_specialize=["regions"])
def weight_gradient_kernel(  # type: ignore[no-untyped-def]
    incoming,  # [regions, width]
    values,  # [regions, size], int8 or floating
    scales,  # [regions]
    gradient,  # [width, size]
    regions,
    size,
    width,
    scaled: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    compute: tl.constexpr,
) -> None:
    """`rows` of the width by `columns` of the features, summed over all regions in order."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside, known = row < width, column < size
    total = tl.zeros([rows, columns], tl.float32)
    for start in range(0, regions, depth):
        region = start + tl.arange(0, depth)
        there = region < regions
        far = region.to(tl.int64)
        slopes = tl.load(
            incoming + far[None, :] * width + row[:, None],
            mask=inside[:, None] & there[None, :],
            other=0.0,
        )
        seen = tl.load(
            values + far[:, None] * size + column[None, :],
            mask=there[:, None] & known[None, :],
            other=0,
        )
        if scaled:
            scale = tl.load(scales + region, mask=there, other=0.0).to(tl.float32)
            seen = seen.to(tl.float32) * scale[:, None]
        total = tl.dot(
            operand(slopes, compute), operand(seen, compute), total, input_precision="ieee"
        )
    target = gradient + row[:, None] * size + column[None, :]
    tl.store(target, total.to(gradient.dtype.element_ty), mask=inside[:, None] & known[None, :])


def tiles(compute: tl.dtype) -> dict[str, int]:
    """Return the sizes of both kernels' tiles; [768, 2048] are 192 of them, most GPUs' fill.

    float32 is not multiplied by the matrix units, so its tiles are what registers hold.
    """
    if compute == tl.float32:
        return {"rows": 32, "columns": 64, "depth": 32}
    return {"rows": 64, "columns": 128, "depth": 64}


def project_by_kernel(values: Tensor, scales: Tensor | None, weight: Tensor) -> Tensor:
    """Return [regions, width] in the weight's type; all contiguous.

    values [regions, size] int8 or floating, scales [regions] or nothing, weight [width, size].
    """
    (regions, size), width = values.shape, weight.shape[0]
    projected = weight.new_empty(regions, width)
    if regions:
        compute = multiplied(weight.dtype)
        sizes = tiles(compute)
        grid = (triton.cdiv(regions, sizes["rows"]), triton.cdiv(width, sizes["columns"]))
        project_kernel[grid](
            values,
            values if scales is None else scales,
            weight,
            projected,
            regions,
            size,
            width,
            scales is not None,
            **sizes,
            compute=compute,
            num_warps=4,
            **PINNED,
        )
    return projected


def weight_gradient_by_kernel(incoming: Tensor, values: Tensor, scales: Tensor | None) -> Tensor:
    """Return [width, size] in the type of `incoming` [regions, width]; see `project_by_kernel`."""
    (regions, size), width = values.shape, incoming.shape[1]
    gradient = incoming.new_empty(width, size)
    compute = multiplied(incoming.dtype)
    sizes = tiles(compute)
    grid = (triton.cdiv(width, sizes["rows"]), triton.cdiv(size, sizes["columns"]))
    weight_gradient_kernel[grid](
        incoming,
        values,
        values if scales is None else scales,
        gradient,
        regions,
        size,
        width,
        scales is not None,
        **sizes,
        compute=compute,
        num_warps=4,
        **PINNED,
    )
    return gradient

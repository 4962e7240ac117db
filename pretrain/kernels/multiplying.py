"""Products of matrices in our kernels, and the types they multiply. Needs triton (extra "gpu")."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from pretrain.kernels.launching import interpreting

_NUMBERS = {
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


def multiplied(number: torch.dtype) -> tl.dtype:
    """Return the type in which numbers are multiplied: their own.

    Triton's interpreter keeps bf16 as integers and would multiply those: there it is float32.
    """
    return tl.float32 if number is torch.bfloat16 and interpreting() else _NUMBERS[number]


@triton.jit
def operand(values, compute: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return values as `tl.dot` multiplies them; the way to any other type is float32."""
    if values.dtype != compute:
        values = values.to(tl.float32).to(compute)
    return values


@triton.jit
def product(  # type: ignore[no-untyped-def]
    left,
    right,
    row,
    column,
    left_count,
    right_count,
    size,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    compute: tl.constexpr,
):
    """Return float32 [rows, columns]: vectors of `left` times those of `right`, both of `size`.

    left [left_count, size], right [right_count, size]; row, column: which of them. What is beyond
    the counts is 0.
    """
    inside, known = row < left_count, column < right_count
    total = tl.zeros([rows, columns], tl.float32)
    for start in range(0, size, depth):
        place = start + tl.arange(0, depth)
        deep = place < size
        one = tl.load(
            left + row.to(tl.int64)[:, None] * size + place[None, :],
            mask=inside[:, None] & deep[None, :],
            other=0,
        )
        other = tl.load(
            right + column.to(tl.int64)[None, :] * size + place[:, None],
            mask=known[None, :] & deep[:, None],
            other=0,
        )
        total = tl.dot(
            operand(one, compute), operand(other, compute), total, input_precision="ieee"
        )
    return total

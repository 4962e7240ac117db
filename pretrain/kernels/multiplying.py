"""The types that `tl.dot` multiplies in our kernels. Needs triton (the extra "gpu")."""

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

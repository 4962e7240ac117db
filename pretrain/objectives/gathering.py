"""Gathering the rows of all ranks, with the gradient that belongs to them."""

from typing import Any

import torch
from torch import Tensor, distributed


def place() -> tuple[int, int]:
    """Return this process' rank and how many train together: 0 and 1 outside of a group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def gather_rows(rows: Tensor, whole_gradient: bool) -> Tensor:
    """Return the rows [batch, ...] of every rank, in the order of the ranks [all rows, ...].

    Each rank must bring as many rows. With `whole_gradient` a rank's rows get the gradients that
    all ranks' losses send them; averaged over the ranks, as data-parallel training does, W ranks
    then learn what one process learns from the whole batch. Without, they get their own loss's.
    """
    if place()[1] == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows, whole_gradient)
    return gathered


class _Gather(torch.autograd.Function):
    """All ranks' rows forward; back, one's own slice of the gradient, or of its sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, whole_gradient: bool) -> Tensor:
        """Return the rows of all ranks; torch's contract gives `ctx`."""
        ctx.whole_gradient, ctx.rows = whole_gradient, rows.shape[0]
        parts = [torch.empty_like(rows) for _ in range(place()[1])]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of this rank's rows."""
        (gradient,) = gradients
        if ctx.whole_gradient:
            gradient = gradient.clone(memory_format=torch.contiguous_format)
            distributed.all_reduce(gradient)
        first = place()[0] * ctx.rows
        return gradient[first : first + ctx.rows], None

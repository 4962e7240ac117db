"""The walk of greedy suppression through all classes as one Triton kernel, a program a class.

The plain twin is `suppression._walk_together`, which needs a handful of launches for every rank,
thousands an image on a GPU. Here a class walks alone, its removed boxes as bits in registers, and
nothing waits for the host. Needs triton (the extra "gpu").
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def walk_kernel(  # type: ignore[no-untyped-def]
    bits,  # int64 [boxes, words]
    order,  # int64 [boxes, classes]
    lengths,  # int64 [classes]
    kept,  # int8 [boxes, classes], zeros
    classes,
    words: tl.constexpr,
) -> None:
    """One class: its boxes by falling score, each kept unless an earlier kept one removes it."""
    column = tl.program_id(0)
    length = tl.load(lengths + column)
    places = tl.arange(0, words)
    removed = tl.zeros([words], tl.int64)
    for rank in range(0, length):
        cell = rank * classes + column
        box = tl.load(order + cell)
        word = tl.sum(tl.where(places == box // 64, removed, 0), axis=0)
        alive = ((word >> (box % 64)) & 1) == 0
        tl.store(kept + cell, alive.to(tl.int8))
        own = tl.load(bits + box * words + places)
        removed = removed | tl.where(alive, own, 0)


def walk_by_kernel(bits: Tensor, order: Tensor, lengths: Tensor) -> Tensor:
    """Which boxes of each class survive: bool [boxes, classes], by rank.

    Bits int64 [boxes, words] say which boxes a box removes, the lowest first; order int64
    [boxes, classes] are boxes by falling score, of which the first `lengths` [classes] enter.
    """
    boxes, classes = order.shape
    kept = torch.zeros(boxes, classes, dtype=torch.int8, device=order.device)
    if boxes and classes:
        words = triton.next_power_of_2(bits.shape[1])
        padded = torch.nn.functional.pad(bits, (0, words - bits.shape[1])).contiguous()
        walk_kernel[(classes,)](
            padded, order.contiguous(), lengths.contiguous(), kept, classes, words, num_warps=1
        )
    return kept.bool()

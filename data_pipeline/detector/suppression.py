"""Suppression of boxes that overlap better ones, class by class: a plain loop and its exact twin.

The loop (`suppress_by_loop`) calls one suppression a class, 1,600 an image for a detector of Visual
Genome. `suppress` gives the same result and is faster for two reasons. Only pairs (box, class)
above a threshold enter: a box is suppressed by higher scores alone, so what lies below cannot
change what lies above. And boxes are the same for all classes, so which box removes which is
computed once, as rows of bits, and all classes walk through their own orders together: on a GPU as
a kernel of `suppression_cuda` or `suppression_kernel`, for which no threshold is worth a wait of
the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from data_pipeline.detector.kernels import chosen

_WORD = 64
_FALL = 0.25
_LEAST_THRESHOLD = 1e-3


@dataclass(frozen=True)
class Suppression:
    """When a box removes a worse one: their intersection over union lies above `overlap`.

    extra: added to sides, 1 where x2 and y2 name the last pixel. inclusive: removes at `overlap`
    too, as Caffe's suppression on the CPU does.
    """

    overlap: float
    extra: float = 0.0
    inclusive: bool = False


def removals(boxes: Tensor, rule: Suppression) -> Tensor:
    """Which box would remove which: bool [boxes, boxes], in the arithmetic of torchvision's nms."""
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = high - low + rule.extra
    areas = sides[:, 0] * sides[:, 1]  # [boxes]
    shared = torch.minimum(high[:, None], high[None]) - torch.maximum(low[:, None], low[None])
    shared = (shared + rule.extra).clamp(min=0)
    intersection = shared[..., 0] * shared[..., 1]  # [boxes, boxes]
    # The quotient is rounded to float32 and only then compared with a float64, as in torchvision.
    overlaps = (intersection / (areas[:, None] + areas[None] - intersection)).double()
    return overlaps >= rule.overlap if rule.inclusive else overlaps > rule.overlap


def keep_best(boxes: Tensor, scores: Tensor, rule: Suppression) -> Tensor:
    """Rows that one suppression over all boxes [boxes, 4] leaves, by falling score [boxes]."""
    if not rule.extra and not rule.inclusive:
        return nms(boxes, scores, rule.overlap)
    order = scores.argsort(descending=True, stable=True)
    ranks = torch.arange(len(order), 0, -1, device=boxes.device)[:, None]
    return order[suppress(boxes[order], ranks, rule, 0.0)[:, 0] > 0]


def suppress_by_loop(boxes: Tensor, scores: Tensor, rule: Suppression) -> Tensor:
    """Scores [boxes, classes] with those of suppressed (box, class) pairs set to zero: the loop."""
    surviving = torch.zeros_like(scores)
    for column in range(scores.shape[1]):
        if rule.extra or rule.inclusive:
            kept = _walk(boxes, scores[:, column], rule)
        else:
            kept = nms(boxes, scores[:, column], rule.overlap)
        surviving[kept, column] = scores[kept, column]
    return surviving


def _walk(boxes: Tensor, scores: Tensor, rule: Suppression) -> Tensor:
    """One class, box after box: what torchvision's nms has no option for."""
    kept: list[int] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        together = boxes[[row, *kept]]
        if not removals(together, rule)[0, 1:].any():
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def suppress(boxes: Tensor, scores: Tensor, rule: Suppression, threshold: float) -> Tensor:
    """The loop's result at every pair of at least `threshold`, zero elsewhere; exact.

    Boxes [boxes, 4], scores [boxes, classes], none negative. Classes without a score of at least
    the threshold cost nothing; with threshold 0 every pair enters.
    """
    surviving = torch.zeros_like(scores)
    counts = (scores >= threshold).sum(dim=0)  # [classes]
    if boxes.is_cuda:
        ranked, order = scores.sort(dim=0, descending=True, stable=True)
        kept = _walk_on_gpu(boxes, order, counts, rule)
        return surviving.scatter_(0, order, ranked * kept)
    lengths, columns = counts.sort(descending=True, stable=True)
    depth = int(lengths[0]) if len(lengths) else 0
    if not depth:
        return surviving
    # Classes with the longest lists first: those that are done leave at the end, step by step.
    active = (lengths[None] > torch.arange(depth, device=boxes.device)[:, None]).sum(dim=1).tolist()
    columns = columns[: active[0]]
    ranked, order = scores[:, columns].sort(dim=0, descending=True, stable=True)
    kept = _walk_together(_bits(removals(boxes, rule)), order[:depth], active)
    part = torch.zeros_like(ranked).scatter_(0, order[:depth], ranked[:depth] * kept)
    surviving[:, columns] = part
    return surviving


def _walk_on_gpu(boxes: Tensor, order: Tensor, counts: Tensor, rule: Suppression) -> Tensor:
    """Which of `order` [boxes, classes] survive."""
    if chosen("suppression") == "cuda-c++" and boxes.dtype == torch.float32:
        from data_pipeline.detector.suppression_cuda import walk_by_cuda

        return walk_by_cuda(boxes, order, counts, rule.overlap, rule.extra, rule.inclusive)
    from data_pipeline.detector.suppression_kernel import walk_by_kernel

    return walk_by_kernel(_bits(removals(boxes, rule)), order, counts)


def _walk_together(bits: Tensor, order: Tensor, active: list[int]) -> Tensor:
    """Greedy suppression of many classes at once: which of `order` [depth, classes] survive.

    Bits int64 [boxes, words] say which boxes a box removes; of the classes, the first active[rank]
    have a box at that rank.
    """
    removed = bits.new_zeros(order.shape[1], bits.shape[1])  # [classes, words]
    kept = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
    words, places = order // _WORD, order % _WORD
    for rank, count in enumerate(active):
        word = removed[:count].gather(1, words[rank, :count, None])[:, 0]
        alive = (word >> places[rank, :count]) & 1 == 0
        kept[rank, :count] = alive
        removed[:count] |= bits[order[rank, :count]] * alive[:, None]
    return kept


def _bits(flags: Tensor) -> Tensor:
    """Pack bool [rows, columns] into int64 [rows, words], the lowest bit first."""
    rows, columns = flags.shape
    padding = -columns % _WORD
    padded = torch.nn.functional.pad(flags, (0, padding)).view(rows, -1, _WORD).long()
    return (padded << torch.arange(_WORD, device=flags.device)).sum(dim=2)


def suppress_for(
    boxes: Tensor, scores: Tensor, rule: Suppression, threshold: float, wanted: int
) -> Tensor:
    """`suppress` from the highest threshold, at most the given one, that leaves `wanted` boxes.

    Exact for all boxes whose best surviving score reaches that threshold, and so for the best
    `wanted` boxes; where no threshold leaves as many, every pair enters.
    """
    while threshold >= _LEAST_THRESHOLD and not boxes.is_cuda:
        surviving = suppress(boxes, scores, rule, threshold)
        if int((surviving > 0).any(dim=1).sum()) >= wanted:
            return surviving
        threshold *= _FALL
    return suppress(boxes, scores, rule, 0.0)

"""From the proposal head's scores to boxes, in each family's order of operations.

Caffe decodes every anchor, clips, drops what is small, and only then takes the best; detectron2
and maskrcnn-benchmark take the best first. What a box means (`BoxConvention`) differs too. Boxes
are x1, y1, x2, y2 in pixels of the resized image. Everything is float32, on the tensors' device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from data_pipeline.detector.c4_anchors import anchor_grid
from data_pipeline.detector.c4_config import BoxConvention, C4Config, ProposalStage

_PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def decode(
    boxes: Tensor,
    deltas: Tensor,
    weights: tuple[float, float, float, float],
    convention: BoxConvention,
) -> Tensor:
    """Move boxes [R, 4] by deltas [R, 4 * classes]; the boxes are [R, 4 * classes]."""
    width = boxes[:, 2] - boxes[:, 0] + convention.extra
    height = boxes[:, 3] - boxes[:, 1] + convention.extra
    size = torch.stack([width, height], dim=1)[:, None]  # [R, 1, 2]
    centre = boxes[:, None, :2] + 0.5 * size
    coded = deltas.reshape(len(boxes), -1, 4) / deltas.new_tensor(weights)
    growth = coded[..., 2:]
    if math.isfinite(convention.limit):
        growth = growth.clamp(max=convention.limit)
    middle = coded[..., :2] * size + centre
    half = 0.5 * (torch.exp(growth) * size)
    moved = torch.cat([middle - half, middle + half - convention.last_extra], dim=-1)
    return moved.reshape(len(boxes), -1)


def clip(boxes: Tensor, size: tuple[float, float], convention: BoxConvention) -> Tensor:
    """Boxes [..., 4] cut to an image of (height, width): its last pixel, or its edge."""
    height, width = size
    x = boxes[..., 0::2].clamp(0, width - convention.extra)
    y = boxes[..., 1::2].clamp(0, height - convention.extra)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def suppress(boxes: Tensor, scores: Tensor, overlap: float, convention: BoxConvention) -> Tensor:
    """Rows of boxes [R, 4] that survive suppression, by falling score, in the family's convention.

    Adding 1 to x2 and y2 makes the plain overlap the one that counts last pixels. Suppression at
    exactly the threshold is suppression above the number just below it.
    """
    if convention.suppression_extra:
        extra = convention.suppression_extra
        boxes = boxes + boxes.new_tensor([0.0, 0.0, extra, extra])
    return nms(boxes, scores, math.nextafter(overlap, 0.0) if convention.inclusive else overlap)


def propose(
    logits: Tensor,
    deltas: Tensor,
    cell_anchors: Tensor,
    config: C4Config,
    sizes: Sequence[tuple[int, int]],
    scales: Sequence[float],
    valid_cells: Sequence[tuple[int, int]] | None = None,
) -> list[Tensor]:
    """Proposals of every image, each [at most 300, 4], by falling objectness.

    Logits [B, A, h, w], deltas [B, 4 A, h, w], cell anchors [A, 4]. `sizes` are (height, width) of
    the resized images, `scales` resized over own pixels. Of an image padded in the batch only its
    `valid_cells` (rows, columns) count. Where nothing survives, the whole image stands in.
    """
    found = []
    for image, size in enumerate(sizes):
        rows, columns = valid_cells[image] if valid_cells else (logits.shape[2], logits.shape[3])
        scores = logits[image, :, :rows, :columns].permute(1, 2, 0).reshape(-1).float()
        own = deltas[image, :, :rows, :columns].permute(1, 2, 0).reshape(-1, 4).float()
        anchors = anchor_grid(cell_anchors, rows, columns)
        found.append(_propose_image(scores, own, anchors, config, size, scales[image]))
    return found


def _propose_image(
    scores: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    config: C4Config,
    size: tuple[int, int],
    scale: float,
) -> Tensor:
    """Proposals of one image from the scores and deltas of its own anchors, [anchors] rows each."""
    stage, convention = config.proposals, config.boxes
    if not stage.filter_first:
        scores, best = _best(scores, stage.before)
        deltas, anchors = deltas[best], anchors[best]
    boxes = clip(decode(anchors, deltas, _PROPOSAL_WEIGHTS, convention), size, convention)
    large = _large(boxes, stage, convention, scale)
    boxes, scores = boxes[large], scores[large]
    if stage.filter_first:
        scores, best = _best(scores, stage.before)
        boxes = boxes[best]
    boxes = boxes[suppress(boxes, scores, stage.overlap, convention)[: stage.after]]
    if len(boxes):
        return boxes
    height, width = size
    return boxes.new_tensor([[0.0, 0.0, width - convention.extra, height - convention.extra]])


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores and their places; equal scores keep their order."""
    ranked, order = scores.sort(descending=True, stable=True)
    return ranked[:count], order[:count]


def _large(boxes: Tensor, stage: ProposalStage, convention: BoxConvention, scale: float) -> Tensor:
    """Which boxes [R, 4] have both sides of the least length, given in the image's own pixels."""
    sides = boxes[:, 2:] - boxes[:, :2] + convention.extra
    least = stage.min_side * scale
    wide = sides > least if stage.strict else sides >= least
    return wide.all(dim=1)

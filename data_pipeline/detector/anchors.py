"""Anchors, the coding of boxes relative to others, and clipping: pure functions of tensors.

Boxes are x1, y1, x2, y2 in pixels with exclusive ends: width is x2 - x1, nothing is added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DELTA_LIMIT = math.log(1000.0 / 16.0)
"""Largest coded growth of a side, so that exp() never overflows (the published constant)."""

REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scale of the region head's deltas; the proposal head uses 1."""

PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def cell_anchors(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    """Anchors round the origin, [sizes * ratios, 4], size-major; a ratio is height over width."""
    rows = []
    for size in sizes:
        for ratio in ratios:
            width = size / math.sqrt(ratio)
            height = size * math.sqrt(ratio)
            rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(rows, dtype=torch.float32)


def anchor_grid(cells: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """Cell anchors moved to the centre of every cell: [rows * columns * anchors, 4]."""
    x = (torch.arange(columns, dtype=torch.float32, device=cells.device) + 0.5) * stride
    y = (torch.arange(rows, dtype=torch.float32, device=cells.device) + 0.5) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1).reshape(-1, 1, 4)
    return (shifts + cells).reshape(-1, 4)


def encode(references: Tensor, targets: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Deltas [..., 4] that move the reference boxes onto the target boxes."""
    wx, wy, ww, wh = weights
    width, height, x, y = _centres(references)
    target_width, target_height, target_x, target_y = _centres(targets)
    return torch.stack(
        [
            wx * (target_x - x) / width,
            wy * (target_y - y) / height,
            ww * torch.log(target_width / width),
            wh * torch.log(target_height / height),
        ],
        dim=-1,
    )


def decode(references: Tensor, deltas: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Boxes [..., 4] that the deltas make of the references: the inverse of `encode`."""
    wx, wy, ww, wh = weights
    width, height, x, y = _centres(references)
    new_x = x + deltas[..., 0] / wx * width
    new_y = y + deltas[..., 1] / wy * height
    half_width = 0.5 * width * torch.exp((deltas[..., 2] / ww).clamp(max=DELTA_LIMIT))
    half_height = 0.5 * height * torch.exp((deltas[..., 3] / wh).clamp(max=DELTA_LIMIT))
    return torch.stack(
        [new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height], dim=-1
    )


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes [..., 4] cut to the image."""
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = (boxes[..., 2] - boxes[..., 0]).clamp(min=1e-3)
    height = (boxes[..., 3] - boxes[..., 1]).clamp(min=1e-3)
    return width, height, boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height

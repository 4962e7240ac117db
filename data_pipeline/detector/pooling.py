"""RoIAlign as two matrix products, beside the plain operator that it must agree with.

Bilinear sampling on a regular grid is separable: the value of a bin is a weighted sum over rows of
a weighted sum over columns. Written as matrix products it runs at the speed of the matrix units,
takes bfloat16, batches, and has a gradient that uses every thread, where torchvision's gradient on
the CPU is one serial scatter. The plain twin is `pool_plain`; tests hold the two within 1e-5.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

_SAMPLES = 2


def pool_plain(maps: Tensor, boxes: list[Tensor], side: int, stride: int) -> Tensor:
    """torchvision's RoIAlign, half-pixel aligned, 2x2 samples a bin: the reference.

    Maps [batch, width, H, W] and boxes of every image [regions, 4] in pixels of the image give
    [all regions, width, side, side] in float32.
    """
    scale = 1.0 / stride
    plain = maps.float().contiguous()
    return roi_align(plain, boxes, side, scale, sampling_ratio=_SAMPLES, aligned=True)


def pool(maps: Tensor, boxes: list[Tensor], side: int, stride: int) -> Tensor:
    """What `pool_plain` gives, in the maps' own type and channels last."""
    parts = []
    for image, own in enumerate(boxes):
        rows = _weights(own[:, 1], own[:, 3], maps.shape[2], side, stride).to(maps.dtype)
        columns = _weights(own[:, 0], own[:, 2], maps.shape[3], side, stride).to(maps.dtype)
        grid = maps[image].permute(1, 2, 0)  # [H, W, width]
        parts.append(_pool_image(grid, rows, columns))
    return torch.cat(parts).permute(0, 3, 1, 2)


def _pool_image(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pool one image to [regions, side, side, width].

    Grid is [H, W, width]; the weights are rows [regions, side, H] and columns [regions, side, W].
    """
    height, width, channels = grid.shape
    regions, side, _ = rows.shape
    lines = rows.reshape(regions * side, height) @ grid.reshape(height, width * channels)
    lines = lines.reshape(regions, side, width, channels)
    return columns[:, None] @ lines


def _weights(start: Tensor, end: Tensor, cells: int, side: int, stride: int) -> Tensor:
    """Weight of every cell for every bin along one axis: [regions, side, cells] float32."""
    first = start / stride - 0.5
    length = (end - start) / stride
    places = torch.arange(side * _SAMPLES, dtype=torch.float32, device=start.device)
    steps = (places + 0.5) / (side * _SAMPLES)
    points = first[:, None] + length[:, None] * steps  # [regions, side * samples]
    inside = (points >= -1.0) & (points <= cells)
    points = points.clamp(0.0, cells - 1.0)
    centres = torch.arange(cells, dtype=torch.float32, device=start.device)
    distance = (points[..., None] - centres).abs()
    weights = (1.0 - distance).clamp(min=0.0) * inside[..., None]
    return weights.reshape(len(start), side, _SAMPLES, cells).mean(dim=2)

"""Anchors of the published detectors, made by the recipe of each family, ratio-major.

Row `ratio * scales + scale` is the canonical order in all three; the files of detectron2 are
size-major and c4_layouts turns them. A ratio is height over width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from data_pipeline.detector.c4_config import STRIDE
from trawl.errors import RequestError

_RATIOS = (0.5, 1.0, 2.0)
_RECIPES = {"caffe": (4, 8, 16, 32), "d2": (4, 8, 16, 32), "vinvl": (2, 4, 8, 16, 32)}


def cell_anchors(recipe: str) -> Tensor:
    """Anchors of the cell at the origin, float32 [anchors, 4].

    "caffe" and "vinvl" round the sides of a 16-pixel box and centre it on 7.5, with x2 and y2 the
    last pixel; "d2" takes exact sides (64 .. 512 pixels) and centres them on the cell's corner.
    """
    if recipe not in _RECIPES:
        known = ", ".join(_RECIPES)
        raise RequestError(f"anchors: {recipe} is not a recipe; choose one of {known}")
    make = _exact if recipe == "d2" else _rounded
    rows = [make(ratio, scale) for ratio in _RATIOS for scale in _RECIPES[recipe]]
    return torch.tensor(rows, dtype=torch.float32)


def _rounded(ratio: float, scale: int) -> list[float]:
    """Caffe's recipe: Python's round() is the half-to-even rounding of numpy, which it used."""
    base = round(math.sqrt(STRIDE * STRIDE / ratio))
    width, height = base * scale, round(base * ratio) * scale
    centre = (STRIDE - 1) / 2
    across, down = (width - 1) / 2, (height - 1) / 2
    return [centre - across, centre - down, centre + across, centre + down]


def _exact(ratio: float, scale: int) -> list[float]:
    side = float(STRIDE * scale)
    width = math.sqrt(side * side / ratio)
    height = ratio * width
    return [-width / 2, -height / 2, width / 2, height / 2]


def anchor_grid(cells: Tensor, rows: int, columns: int) -> Tensor:
    """Cell anchors moved to every cell, in the order (row, column, anchor): [anchors of all, 4]."""
    x = torch.arange(columns, dtype=torch.float32, device=cells.device) * STRIDE
    y = torch.arange(rows, dtype=torch.float32, device=cells.device) * STRIDE
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([grid_x, grid_y, grid_x, grid_y], dim=-1).reshape(-1, 1, 4)
    return (shifts + cells).reshape(-1, 4)

"""Swin's tables of relative positions for another window, as X-VLM resizes them.

The recipe is BEiT's (Bao et al., ICLR 2022): the old entries are laid out in a geometric
progression, dense in the middle, that reaches as far as the new table, and a cubic spline is read
off at whole steps. The original calls SciPy's interp2d, which is no more; this is the same spline.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]

_LEAST_RATIO, _MOST_RATIO, _TOLERANCE = 1.01, 1.5, 1e-6
_LEAST_SIDE = 4


def resize_position_table(table: Tensor, window: int) -> Tensor:
    """Return `table` [(2 old - 1)², heads] for another window: [(2 window - 1)², heads].

    A table that fits is returned as it is. Raises ValueError if the table is not square, or is
    less than four entries wide, too few for a cubic.
    """
    side, wanted = round(table.shape[0] ** 0.5), 2 * window - 1
    if side * side != table.shape[0]:
        raise ValueError(f"a position table of {table.shape[0]} rows is not square")
    if side == wanted:
        return table
    if side < _LEAST_SIDE:
        raise ValueError(f"a position table {side} entries wide is too small for a cubic spline")
    reach = wanted // 2
    spline = spline_matrix(old_positions(side // 2, reach), np.arange(-reach, reach + 1.0))
    square = table.detach().double().cpu().unflatten(0, (side, side)).numpy()
    resized = np.einsum("yj,xi,jih->yxh", spline, spline, square)  # [wanted, wanted, heads]
    return torch.from_numpy(resized).flatten(0, 1).to(table)


def old_positions(steps: int, reach: int) -> Array:
    """Return where the old entries lie on the new scale: [2 steps + 1], 0 in the middle.

    The distances 1, q, q², ... add up to `reach`; q is found by halving between 1.01 and 1.5.
    """
    low, high = _LEAST_RATIO, _MOST_RATIO
    while high - low > _TOLERANCE:
        ratio = (low + high) / 2
        if (1 - ratio**steps) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    away = np.cumsum(ratio ** np.arange(steps))
    return np.concatenate([-away[::-1], [0.0], away])


def spline_matrix(knots: Array, places: Array) -> Array:
    """Return the matrix [places, knots] that turns values at knots into a cubic spline's at places.

    Interpolating, with the third derivative continuous at the second knot and the last but one
    ("not a knot"). Places outside the knots get the value of the nearest end, as in FITPACK.
    """
    count, step = len(knots), np.diff(knots)
    curvature = np.zeros((count, count))  # system for the second derivatives at the knots
    slopes = np.zeros((count, count))  # its right side, as a matrix on the values
    for row in range(1, count - 1):
        before, after = step[row - 1], step[row]
        curvature[row, row - 1 : row + 2] = before, 2 * (before + after), after
        slopes[row, row - 1 : row + 2] = 6 / before, -6 / before - 6 / after, 6 / after
    curvature[0, :3] = step[1], -step[0] - step[1], step[0]
    curvature[-1, -3:] = step[-1], -step[-1] - step[-2], step[-2]
    second = np.linalg.solve(curvature, slopes)  # [knots, knots]
    inside = np.clip(places, knots[0], knots[-1])
    left = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, count - 2)
    width = step[left]
    one, two = (knots[left + 1] - inside) / width, (inside - knots[left]) / width
    unit = np.eye(count)
    bend = (one**3 - one)[:, None] * second[left] + (two**3 - two)[:, None] * second[left + 1]
    line = one[:, None] * unit[left] + two[:, None] * unit[left + 1]
    matrix: Array = line + bend * (width**2 / 6)[:, None]
    return matrix

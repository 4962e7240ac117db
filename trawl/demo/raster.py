"""From an outline and a pose to pixels: what an object covers and what its pixels are made of."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from trawl.demo.kinds import outline
from trawl.demo.shapes import MATERIALS

_SHIFT = 4  # Bits after the point in the coordinates that OpenCV draws at.
_PADDING = 2
SOLID = 128
"""From this alpha on a pixel belongs to an object: boxes and visible shares are counted from it."""


@dataclass(frozen=True)
class Pose:
    """How one object stands in the image.

    `x` and `y` place the top left corner of its patch in the image, `length` is the longer side of
    its drawing in pixels, `angle` turns it (degrees, clockwise), `stretch` widens it.
    """

    x: int
    y: int
    length: float
    angle: float
    flip: bool
    stretch: float


@dataclass(frozen=True)
class Raster:
    """The pixels of one object, in a patch of its own.

    `paint` is uint8 [height, width, 4]: the weight of the object's own colour, then the red, green
    and blue that its materials add; all are already multiplied by alpha. `alpha` is uint8
    [height, width]. `extent` is the box x, y, width, height of the solid pixels.
    """

    paint: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    extent: tuple[int, int, int, int]


def rasterise(kind: str, pose: Pose) -> Raster:
    """Draw `kind` as `pose` wants it; where in the image it stands does not matter."""
    return _draw(kind, pose.length, pose.angle, pose.flip, pose.stretch)


@lru_cache(maxsize=64)
def _draw(kind: str, length: float, angle: float, flip: bool, stretch: float) -> Raster:
    shape = outline(kind)
    turn = np.deg2rad(angle)
    wide = length * stretch * (-1 if flip else 1)
    matrix = np.array(
        [
            [np.cos(turn) * wide, np.sin(turn) * wide],
            [-np.sin(turn) * length, np.cos(turn) * length],
        ]
    )
    points = shape.points @ matrix
    widths = [_pixels(part.width, length / shape.scale) for part in shape.parts]
    margin = max(widths) / 2 + _PADDING
    low = np.floor(points.min(axis=0) - margin)
    columns, rows = (np.ceil(points.max(axis=0) + margin) - low).astype(int)
    fixed = np.round((points - low) * (1 << _SHIFT)).astype(np.int32)
    paint = np.zeros((rows, columns, 4), dtype=np.uint8)
    alpha = np.zeros((rows, columns), dtype=np.uint8)
    for index, (part, width) in enumerate(zip(shape.parts, widths, strict=True)):
        corners = [fixed[shape.starts[index] : shape.starts[index + 1]]]
        weight, (red, green, blue) = MATERIALS[part.material]
        colour = (round(weight * 255), red, green, blue)
        if width:
            cv2.polylines(paint, corners, part.closed, colour, width, cv2.LINE_AA, _SHIFT)
            cv2.polylines(alpha, corners, part.closed, 255, width, cv2.LINE_AA, _SHIFT)
        else:
            cv2.fillPoly(paint, corners, colour, cv2.LINE_AA, _SHIFT)
            cv2.fillPoly(alpha, corners, 255, cv2.LINE_AA, _SHIFT)
    solid = (alpha >= SOLID).view(np.uint8)
    x, y, width, height = cv2.boundingRect(solid)
    paint.setflags(write=False)
    alpha.setflags(write=False)
    return Raster(paint, alpha, (x, y, width, height))


def _pixels(width: float, scale: float) -> int:
    return max(1, round(width * scale)) if width else 0

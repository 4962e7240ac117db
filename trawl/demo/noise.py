"""Noise and colour ramps, from which all textures of the world are made."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Image = NDArray[Any]
Colour = tuple[int, int, int]


def clouds(
    chance: np.random.Generator,
    side: int,
    cells_x: int,
    cells_y: int,
    octaves: int = 4,
    fade: float = 0.55,
) -> Field:
    """Return smooth noise in 0..1, [side, side]: `cells_x` by `cells_y` bumps, and finer ones."""
    total = np.zeros((side, side), dtype=np.float32)
    strength = 1.0
    for octave in range(octaves):
        rows = min(cells_y << octave, side)
        columns = min(cells_x << octave, side)
        grid = chance.random((rows + 3, columns + 3), dtype=np.float32)
        total += strength * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        strength *= fade
    low, high = np.percentile(total[::4, ::4], [0.5, 99.5])
    return np.clip((total - low) / (high - low), 0, 1)


def ramp(field: Field, *colours: Colour) -> NDArray[np.float32]:
    """Colour a field in 0..1 with a ramp of evenly spaced `colours`; returns [height, width, 3]."""
    stops = np.linspace(0, 255, len(colours))
    table = np.stack(
        [np.interp(np.arange(256), stops, [colour[k] for colour in colours]) for k in range(3)],
        axis=1,
    ).astype(np.float32)
    return table[np.clip(field * 255, 0, 255).astype(np.uint8)]


def rgb(red: float, green: float, blue: float) -> Field:
    """Return one colour as an array that spreads over an image, [3]."""
    return np.array([red, green, blue], dtype=np.float32)


def pixels(image: NDArray[Any]) -> Image:
    """Round to uint8 pixels."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)

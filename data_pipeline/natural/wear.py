"""What happens to pictures on their way to a page: scaling, framing, greyscale, JPEG, cut-outs.

The same is done to photographs and graphics alike, so that nothing of it tells them apart.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import simplejpeg

from data_pipeline.images import Pixels

Chance = np.random.Generator


def worn(chance: Chance, pixels: Pixels) -> Pixels:
    """Return the picture after some of the changes, each by its chance."""
    for change, probability in CHANGES:
        if chance.random() < probability:
            pixels = change(chance, pixels)
    return pixels


def scaled(chance: Chance, pixels: Pixels) -> Pixels:
    """Another size: the longer side from 320 to 1,200 px, and no more than twice as large."""
    height, width = pixels.shape[:2]
    scale = min(2.0, float(chance.uniform(320, 1200)) / max(height, width))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)


def greyed(chance: Chance, pixels: Pixels) -> Pixels:
    """Grey, or tinted as old prints are."""
    grey: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    tint = np.array([1, 1, 1], np.float32)
    if chance.random() < 0.4:
        tint = np.array([1, chance.uniform(0.88, 1), chance.uniform(0.7, 0.95)], np.float32)
    return (grey[..., None] * tint).astype(np.uint8)


def framed(chance: Chance, pixels: Pixels) -> Pixels:
    """A border of one colour, white as a rule, a strip of it wider, as for a printed caption."""
    edges = [int(chance.integers(2, 24)) for _ in range(4)]
    if chance.random() < 0.3:
        edges[1] += int(chance.integers(10, 60))
    colour = [255] * 3 if chance.random() < 0.7 else chance.integers(0, 256, 3).tolist()
    top, bottom, left, right = edges
    border: Any = cv2.copyMakeBorder(
        pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour
    )
    return border  # type: ignore[no-any-return]


def exposed(chance: Chance, pixels: Pixels) -> Pixels:
    """Another contrast and brightness."""
    gain, shift = float(chance.uniform(0.6, 1.3)), float(chance.uniform(-40, 40))
    return np.clip(pixels.astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)


def compressed(chance: Chance, pixels: Pixels) -> Pixels:
    """Through JPEG, of a quality from 40 to 95."""
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=int(chance.integers(40, 96))
    )
    return np.asarray(simplejpeg.decode_jpeg(data), np.uint8)


CHANGES: tuple[tuple[Callable[[Chance, Pixels], Pixels], float], ...] = (
    (scaled, 0.6),
    (exposed, 0.2),
    (greyed, 0.25),
    (framed, 0.2),
    (compressed, 0.6),
)
"""What may happen, in this order, and how often."""


def cut_out(chance: Chance, photograph: Pixels) -> Pixels:
    """Pieces of a photograph with soft edges on a blank, as shops show their goods."""
    height, width = photograph.shape[:2]
    ground = 255.0 if chance.random() < 0.75 else float(chance.uniform(0, 256))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(chance.integers(1, 5))):
        middle = (int(chance.uniform(0.2, 0.8) * width), int(chance.uniform(0.2, 0.8) * height))
        axes = chance.uniform(0.08, 0.35, 2) * min(height, width)
        turn = float(chance.uniform(0, 180))
        cv2.ellipse(mask, middle, (int(axes[0]), int(axes[1])), turn, 0, 360, 255, -1)
    share: Any = cv2.GaussianBlur(mask, (0, 0), float(chance.uniform(0.6, 3.0)))
    share = (share.astype(np.float32) / 255)[..., None]
    return (photograph * share + ground * (1 - share)).astype(np.uint8)

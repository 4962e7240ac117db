"""What an image looks like in numbers: entropy, probability of being natural, perceptual hash."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_pipeline.images import Pixels
from data_pipeline.natural.model import BUILTIN, load_model
from data_pipeline.natural.statistics import statistics_of

_HASH_SIDE = 32
_TOLD = ("fine_flat_1.5", "peaks_3", "coarse_steep", "colours")  # what a reader can make sense of


@dataclass(frozen=True)
class Looks:
    """Statistics of one image: entropy in bits, natural in 0..1, phash as 16 hex digits."""

    entropy: float
    natural: float
    phash: str
    statistics: dict[str, float]


def looks_of(pixels: Pixels, model: str = BUILTIN) -> Looks:
    """Measure an RGB image [height, width, 3]; `model` judges whether it is natural."""
    grey: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    statistics = statistics_of(pixels, grey)
    return Looks(
        entropy=statistics["entropy"],
        natural=load_model(model).naturalness(statistics),
        phash=perceptual_hash(grey),
        statistics={name: round(statistics[name], 4) for name in _TOLD},
    )


def perceptual_hash(grey: Pixels) -> str:
    """Return the 64-bit DCT hash of a grey image as 16 hex digits.

    The image shrunk to 32x32, its 8x8 lowest frequencies without the first, each above or below
    their median (Zauner, "Implementation and benchmarking of perceptual image hash functions").
    """
    small: Any = cv2.resize(grey, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    frequencies: Any = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    frequencies[0] = 0.0  # the mean brightness says nothing of the content
    bits = frequencies > np.median(frequencies[1:])
    return np.packbits(bits).tobytes().hex()

"""What tells photographs from graphics, in numbers: statistics of edges, areas, tones and colours.

A photograph has noise and shading everywhere: few flat areas, gentle gradients, a broad histogram,
many colours. Graphics are flat with steep edges; engravings and line drawings are two-toned at
the scale of a pixel, whatever they look like from afar. So the statistics are taken at two scales,
that of the file and that of a thumbnail.
"""

import functools
import itertools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Pixels

Floats = npt.NDArray[np.float32]

_STRIPS = 3  # along each side: a sample of the whole at the file's own scale
_STRIP = 128  # pixels
COARSE_SIDE = 256  # longer side of the thumbnail, where JPEG noise has gone
_COLOUR_SIDE = 128
_LEAST_SIDE = 16
_BLOCK = 8
_STEPS = (1, 2, 4, 8, 16, 32, 64)  # grey levels from pixel to pixel
_DEVIATIONS = (0.5, 1.5, 4, 10, 25)  # grey levels within a block
_BANDS = (1, 3, 6, 12, 24, 48, 96)  # of frequencies, in periods per side
_LAGS = (1, 2, 4, 8)  # pixels


def statistics_of(pixels: Pixels, grey: Pixels) -> dict[str, float]:
    """Return the statistics of an RGB image [height, width, 3] and its grey levels by name."""
    lacking = [max(0, _LEAST_SIDE - side) for side in grey.shape]
    if any(lacking):  # a filter without a least size meets such images
        border = (0, lacking[0], 0, lacking[1], cv2.BORDER_REPLICATE)
        pixels, grey = (
            np.asarray(cv2.copyMakeBorder(image, *border), np.uint8) for image in (pixels, grey)
        )
    fine = _strips(grey)
    coarse = _shrunk(grey, COARSE_SIDE)
    found: dict[str, float] = {}
    for name, levels in (("fine", fine), ("coarse", coarse)):
        found |= {f"{name}_{key}": value for key, value in _edges(levels).items()}
        found |= {f"{name}_{key}": value for key, value in _blocks(levels).items()}
        found |= {f"{name}_{key}": value for key, value in _patterns(levels).items()}
    return found | _tones(grey) | _layout(coarse) | _frequencies(coarse) | _colours(pixels)


def _strips(grey: Pixels) -> Pixels:
    """Return 9 tiles of 128 x 128 pixels from all over a larger image, side by side."""
    for axis in (0, 1):
        side = grey.shape[axis]
        if side > _STRIPS * _STRIP:
            starts = [int(side * (2 * n + 1) / (2 * _STRIPS)) - _STRIP // 2 for n in range(_STRIPS)]
            places = np.concatenate([np.arange(start, start + _STRIP) for start in starts])
            grey = grey.take(places, axis=axis)
    return np.ascontiguousarray(grey)


def _shrunk(image: Pixels, side: int) -> Pixels:
    """Return an image whose longer side is at most `side`, and none of whose sides is below 16."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(_LEAST_SIDE, round(width * scale)), max(_LEAST_SIDE, round(height * scale)))
    small: Any = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small  # type: ignore[no-any-return]


def _edges(grey: Pixels) -> dict[str, float]:
    """Shares of the steps from pixel to pixel by height, and of edges along the axes."""
    across = cv2.absdiff(grey[:-1, 1:], grey[:-1, :-1])
    down = cv2.absdiff(grey[1:, :-1], grey[:-1, :-1])
    steps = np.maximum(across, down)
    counts: Any = cv2.calcHist([steps], [0], None, [256], [0, 256])
    above = (
        counts.ravel()[::-1].cumsum()[::-1] / steps.size
    )  # above[n]: share of steps of at least n
    found = {f"steps_{height}": float(above[height]) for height in _STEPS}
    found["steep"] = float(above[24] / max(above[1], 1e-6))
    found["steepest"] = float(above[64] / max(above[8], 1e-6))
    strong = steps >= 24
    straight = strong & (np.minimum(across, down) <= steps >> 3)
    found["straight"] = np.count_nonzero(straight) / max(1, int(np.count_nonzero(strong)))
    return found


def _blocks(grey: Pixels) -> dict[str, float]:
    """Shares of 8x8 blocks by deviation, and how near their pixels are to their own extremes."""
    height, width = (side // _BLOCK * _BLOCK for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    levels = blocks.transpose(1, 3, 0, 2).reshape(_BLOCK * _BLOCK, -1)  # [64, blocks]
    plain = levels.astype(np.float32)
    variance = (plain * plain).mean(axis=0) - plain.mean(axis=0) ** 2
    deviation = np.sqrt(np.maximum(variance, 0))
    found = {f"flat_{limit}": float((deviation < limit).mean()) for limit in _DEVIATIONS}
    lively = levels[:, deviation >= 10]
    if not lively.size:
        return found | {"extremes": 0.0, "bright_extremes": 0.0}
    low, high = lively.min(axis=0), lively.max(axis=0)
    margin = (high - low) // 8
    dark, bright = lively <= low + margin, lively >= high - margin
    bright_share = float(bright.mean())
    return found | {
        "extremes": float(dark.mean()) + bright_share,
        "bright_extremes": bright_share,
    }


def _patterns(grey: Pixels) -> dict[str, float]:
    """Shares of local binary patterns by the number of brighter neighbours, and of broken ones.

    Ojala et al., "Multiresolution gray-scale and rotation invariant texture classification with
    local binary patterns" (2002), with a margin of three grey levels against JPEG noise.
    """
    centre = np.minimum(grey[1:-1, 1:-1], 252) + np.uint8(3)
    height, width = grey.shape
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    brighter = [
        (grey[y : height - 2 + y, x : width - 2 + x] > centre).view(np.uint8) for y, x in ring
    ]
    count = np.zeros_like(brighter[0])
    changes = np.zeros_like(brighter[0])
    for one, other in zip(brighter, brighter[1:] + brighter[:1], strict=True):
        count += one
        changes += one ^ other
    code = np.where(changes <= 2, count, 9)
    shares = np.bincount(code.ravel(), minlength=10) / code.size
    return {f"pattern_{number}": float(share) for number, share in enumerate(shares)}


def _tones(grey: Pixels) -> dict[str, float]:
    """How the grey levels are spread."""
    counts: Any = cv2.calcHist([grey], [0], None, [256], [0, 256])
    histogram = counts.ravel().astype(np.float64) / grey.size  # [256]
    present = histogram[histogram > 0]
    peaks = np.sort(histogram)[::-1].cumsum()
    below = histogram.cumsum()
    found = {
        "entropy": float(-(present * np.log2(present)).sum()),
        "levels": float((histogram > 1e-4).mean()),
        **{f"peaks_{count}": float(peaks[count - 1]) for count in (1, 3, 8, 24)},
        "black": float(below[8]),
        "white": float(1 - below[247]),
        "midtones": float(below[223] - below[31]),
    }
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        found[f"level_{share}"] = float(np.searchsorted(below, share) / 255)
    return found


def _layout(coarse: Pixels) -> dict[str, float]:
    """Flat rows and columns, and the border: blank margins, frames, lines of text."""
    levels = coarse.astype(np.float32)
    rows, columns = levels.std(axis=1), levels.std(axis=0)
    border = np.concatenate([levels[:3].ravel(), levels[-3:].ravel()])
    border = np.concatenate([border, levels[:, :3].ravel(), levels[:, -3:].ravel()])
    median = float(np.median(border))
    return {
        "flat_rows": float((rows < 4).mean()),
        "flat_columns": float((columns < 4).mean()),
        "row_contrast": float(levels.mean(axis=1).std() / 64),
        "column_contrast": float(levels.mean(axis=0).std() / 64),
        "border_level": median / 255,
        "border_even": float((np.abs(border - median) < 6).mean()),
        "like_border": float((np.abs(levels - median) < 6).mean()),
        "contrast": float(levels.std() / 64),
    }


def _frequencies(coarse: Pixels) -> dict[str, float]:
    """Logarithms of the shares of energy by band of frequency, and correlations by distance."""
    square: Any = cv2.resize(coarse, (_COLOUR_SIDE, _COLOUR_SIDE), interpolation=cv2.INTER_AREA)
    levels = square.astype(np.float32)
    energy: Any = cv2.dct(levels - levels.mean()) ** 2
    total = float(energy.sum()) + 1.0
    found = {}
    radius = _radii()
    for low, high in itertools.pairwise(_BANDS):
        share = float(energy[(radius >= low) & (radius < high)].sum()) / total
        found[f"band_{low}"] = float(np.log10(share + 1e-5))
    centred = levels - levels.mean()
    variance = float((centred**2).mean()) + 1e-3
    for lag in _LAGS:
        along = float((centred[:, lag:] * centred[:, :-lag]).mean())
        down = float((centred[lag:] * centred[:-lag]).mean())
        found[f"correlation_{lag}"] = (along + down) / 2 / variance
    return found


@functools.cache
def _radii() -> Floats:
    """Return the distance of each frequency from zero [128, 128]."""
    places = np.arange(_COLOUR_SIDE, dtype=np.float32)
    return np.hypot(places[:, None], places[None, :])


def _colours(pixels: Pixels) -> dict[str, float]:
    """How many colours there are, how strong they are, and how far they lie apart."""
    height, width = pixels.shape[:2]
    rows = np.linspace(0, height - 1, _COLOUR_SIDE).astype(int)
    columns = np.linspace(0, width - 1, _COLOUR_SIDE).astype(int)
    points = pixels[rows][:, columns]  # [128, 128, 3], colours as they are in the file
    bins = (points >> 3).astype(np.int32)
    codes = (bins[..., 0] << 10 | bins[..., 1] << 5 | bins[..., 2]).ravel()
    counts = np.bincount(codes, minlength=1 << 15)
    counts = np.sort(counts[counts > 0])[::-1]
    shares = np.pad(counts, (0, 64)).cumsum() / codes.size
    exact = points.astype(np.int32)
    distinct = len(np.unique(exact[..., 0] << 16 | exact[..., 1] << 8 | exact[..., 2]))
    red, green, blue = (exact[..., channel].astype(np.float32) for channel in range(3))
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return {
        "colours": float(np.log2(len(counts))),
        "distinct": float(np.log2(distinct)),
        **{f"colours_{count}": float(shares[count - 1]) for count in (1, 4, 16, 64)},
        "chroma": float(chroma.mean() / 64),
        "chroma_spread": float(chroma.std() / 64),
        "strong": float((chroma > 128).mean()),
        "colourless": float((chroma < 8).mean()),
        "red_green": float((red - green).std() / 32),
        "yellow_blue": float(((red + green) / 2 - blue).std() / 32),
    }

"""X-VLM's changes of images: random crops, mirroring, and two of ten operations at random.

Images are uint8 [height, width, 3], RGB. RandAugment (Cubuk et al., NeurIPS 2020) with the
operations and strengths of ALBEF (Li et al., NeurIPS 2021), from which X-VLM took them.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in whole pixels."""

# CLIP's, although Swin was trained with ImageNet's: as published.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

MAGNITUDE = 7
_STRONGEST = 10
_APPLIED = 0.5
_GREY = (128, 128, 128)
_CROP_RATIO = (3 / 4, 4 / 3)
_CROP_TRIES = 10


def normalised(image: Pixels) -> npt.NDArray[np.float32]:
    """Return the pixel values that the model reads: float32 [3, height, width]."""
    scaled = (image.astype(np.float32) / 255 - MEAN) / DEVIATION
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def resized(image: Pixels, side: int) -> Pixels:
    """Return `image` resized to a square, bicubic with smoothing."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def cropped(image: Pixels, box: Box) -> Pixels:
    """Return what lies inside `box`."""
    left, top, right, bottom = box
    return image[top:bottom, left:right]


def random_crop(width: int, height: int, chance: np.random.Generator, least: float = 0.2) -> Box:
    """Return a box of `least` to 1 of the area and an aspect of 3/4 to 4/3, anywhere in the image.

    Where ten tries do not fit: the largest such box in the middle (torchvision's
    RandomResizedCrop).
    """
    low, high = (math.log(ratio) for ratio in _CROP_RATIO)
    for _ in range(_CROP_TRIES):
        area = width * height * chance.uniform(least, 1.0)
        ratio = math.exp(chance.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = int(chance.integers(height - down + 1))
            left = int(chance.integers(width - across + 1))
            return left, top, left + across, top + down
    ratio = min(max(width / height, _CROP_RATIO[0]), _CROP_RATIO[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def crop_around(box: Box, width: int, height: int, chance: np.random.Generator) -> Box:
    """Return a box that holds `box`: each side anywhere between it and the image's edge."""
    left, top, right, bottom = box
    return (
        int(chance.integers(left + 1)),
        int(chance.integers(top + 1)),
        int(chance.integers(right, width + 1)),
        int(chance.integers(bottom, height + 1)),
    )


def random_augment(
    image: Pixels, chance: np.random.Generator, geometry: bool = True, operations: int = 2
) -> Pixels:
    """Return `image` after `operations` of ten, each of which happens half of the time.

    Without `geometry` the operations are the five that move nothing, for images with boxes.
    """
    names = [*_COLOURS, *_MOVES] if geometry else list(_COLOURS)
    for number in chance.integers(len(names), size=operations):
        applied, sign = chance.random() <= _APPLIED, 1 if chance.random() < 0.5 else -1
        if applied:
            image = augmented(image, names[number], sign)
    return image


def augmented(image: Pixels, name: str, sign: int = 1) -> Pixels:
    """Return `image` after the operation `name`; a move goes the other way with sign -1."""
    if name in _COLOURS:
        return _COLOURS[name](image)
    height, width = image.shape[:2]
    moved: Pixels = cv2.warpAffine(  # type: ignore[assignment]
        image,
        _MOVES[name](sign * MAGNITUDE / _STRONGEST, image),
        (width, height),
        borderValue=_GREY,
    )
    return moved


def _auto_contrast(image: Pixels) -> Pixels:
    """Stretch each channel to the whole range."""
    stretched = image.copy()
    for channel in range(3):
        values = image[:, :, channel]
        low, high = int(values.min()), int(values.max())
        if high > low:
            scale = 255 / (high - low)
            table = (np.arange(256) * scale - low * scale).clip(0, 255).astype(np.uint8)
            stretched[:, :, channel] = table[values]
    return stretched


def _equalize(image: Pixels) -> Pixels:
    """Spread each channel evenly over the range, as Pillow does."""
    spread = image.copy()
    for channel in range(3):
        values = image[:, :, channel]
        counts = np.bincount(values.ravel(), minlength=256)
        step = (values.size - counts[np.nonzero(counts)[0][-1]]) // 255
        if step:
            below = np.concatenate([[0], np.cumsum(counts)[:-1]])
            table = ((below + step // 2) // step).clip(0, 255).astype(np.uint8)
            spread[:, :, channel] = table[values]
    return spread


def _enhancement() -> float:
    return MAGNITUDE / _STRONGEST * 1.8 + 0.1


def _brightness(image: Pixels) -> Pixels:
    """Multiply all values by 1.36."""
    table = (np.arange(256, dtype=np.float32) * _enhancement()).clip(0, 255).astype(np.uint8)
    return table[image]


def _sharpness(image: Pixels) -> Pixels:
    """Move away from a smoothed copy; the border stays.

    Values beyond the range are cut to it; in ALBEF's copy they wrap around.
    """
    kernel = np.ones((3, 3), dtype=np.float32)
    kernel[1, 1] = 5
    smooth = cv2.filter2D(image, -1, kernel / 13).astype(np.float32)
    sharp = smooth + _enhancement() * (image.astype(np.float32) - smooth)
    result = image.copy()
    result[1:-1, 1:-1] = sharp.clip(0, 255).astype(np.uint8)[1:-1, 1:-1]
    return result


_COLOURS: dict[str, Callable[[Pixels], Pixels]] = {
    "identity": lambda image: image,
    "auto-contrast": _auto_contrast,
    "equalize": _equalize,
    "brightness": _brightness,
    "sharpness": _sharpness,
}


def _affine(
    xx: float, xy: float, x: float, yx: float, yy: float, y: float
) -> npt.NDArray[np.float32]:
    return np.array([[xx, xy, x], [yx, yy, y]], dtype=np.float32)


def _rotation(level: float, image: Pixels) -> npt.NDArray[np.float32]:
    height, width = image.shape[:2]
    turned: npt.NDArray[np.float32] = cv2.getRotationMatrix2D(  # type: ignore[assignment]
        (width / 2, height / 2), level * 30, 1
    )
    return turned


# What a level of -1 to 1 means: shears of 0.3, shifts of 10 pixels, 30 degrees.
_MOVES: dict[str, Callable[[float, Pixels], npt.NDArray[np.float32]]] = {
    "shear-x": lambda level, _: _affine(1, level * 0.3, 0, 0, 1, 0),
    "shear-y": lambda level, _: _affine(1, 0, 0, level * 0.3, 1, 0),
    "translate-x": lambda level, _: _affine(1, 0, -level * 10, 0, 1, 0),
    "translate-y": lambda level, _: _affine(1, 0, 0, 0, 1, -level * 10),
    "rotate": _rotation,
}

"""What is said about one image and its regions, after the image was cropped, mirrored and resized.

X-VLM calls them concepts (Zeng et al., ICML 2022, section 3.1): an object, a described region, or
the whole image with its caption. Boxes here are left, top, width and height in pixels.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrain.batches.augment import Box, Pixels, crop_around, cropped, random_augment, resized

Rectangle = tuple[float, float, float, float]

_SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)
_MIRRORED = 0.5


@dataclass(frozen=True)
class Concept:
    """One text and where it applies: `box` in the resized image, nothing for all of it.

    number: 0 for the caption, else one more than the place of the phrase in the sample.
    """

    number: int
    text: str
    box: Rectangle | None


@dataclass(frozen=True)
class Phrase:
    """One phrase of a sample and its corners in the original image, in whole pixels."""

    number: int
    text: str
    corners: Box


@dataclass(frozen=True)
class ViewRule:
    """How a view is made.

    side: of the resized image in pixels; most: concepts, the caption included; least_area: share of
    a box that must lie inside the crop; careful: never mirror where a text says left or right;
    operations: of RandAugment.
    """

    side: int
    most: int
    least_area: float
    careful: bool
    operations: int = 2


def phrases_of(meta: dict[str, Any], width: int, height: int) -> list[Phrase]:
    """Return the phrases of a sample whose boxes have an area inside the image.

    meta: the content of `KEY.json`; width, height: of the decoded image. Sides are cut to whole
    pixels as in the original, which drops an image with a box beyond its edge; here it is clipped.
    """
    found = []
    across, down = width / meta["width"], height / meta["height"]
    for number, entry in enumerate(meta.get("regions_text", ()), 1):
        x1, y1, x2, y2 = entry["box"]
        left, top = int(x1 * across), int(y1 * down)
        right, bottom = left + int((x2 - x1) * across), top + int((y2 - y1) * down)
        corners = max(0, left), max(0, top), min(width, right), min(height, bottom)
        if corners[0] < corners[2] and corners[1] < corners[3]:
            found.append(Phrase(number, entry["phrase"], corners))
    return found


def mirrors(texts: Sequence[str], careful: bool, draw: float) -> bool:
    """Say whether to mirror an image that drew `draw`; a careful one not if a text names sides."""
    return draw < _MIRRORED and not (careful and any(_SIDES.search(text) for text in texts))


def region_view(
    image: Pixels,
    caption: str,
    phrases: Sequence[Phrase],
    rule: ViewRule,
    chance: np.random.Generator,
) -> tuple[Pixels, list[Concept]]:
    """Return the image [side, side, 3] around one of `phrases`, and the concepts seen in it.

    The crop holds one random phrase's box; of the others those stay of whose box enough is left.
    The caption comes first, then phrases in random order.
    """
    height, width = image.shape[:2]
    centre = phrases[int(chance.integers(len(phrases)))]
    crop = crop_around(centre.corners, width, height, chance)
    texts = [caption, *(phrase.text for phrase in phrases)]
    mirrored = mirrors(texts, rule.careful, chance.random())
    view = cropped(image, crop)
    view = resized(np.ascontiguousarray(view[:, ::-1]) if mirrored else view, rule.side)
    view = random_augment(view, chance, geometry=False, operations=rule.operations)
    concepts = [Concept(0, caption, None)]
    for number in chance.permutation(len(phrases)):
        if len(concepts) >= rule.most:
            break
        box = box_in_view(phrases[number].corners, crop, rule, mirrored)
        if box is not None:
            concepts.append(Concept(phrases[number].number, phrases[number].text, box))
    return view, concepts


def box_in_view(corners: Box, crop: Box, rule: ViewRule, mirrored: bool) -> Rectangle | None:
    """Return where a box lies in the resized crop, nothing if too little of it is left."""
    left, right = max(corners[0], crop[0]), min(corners[2], crop[2])
    top, bottom = max(corners[1], crop[1]), min(corners[3], crop[3])
    whole = (corners[2] - corners[0]) * (corners[3] - corners[1])
    if left >= right or top >= bottom:
        return None
    if (right - left) * (bottom - top) / whole <= rule.least_area:
        return None
    across, down = rule.side / (crop[2] - crop[0]), rule.side / (crop[3] - crop[1])
    start = crop[2] - right if mirrored else left - crop[0]
    return (
        start * across,
        (top - crop[1]) * down,
        (right - left) * across,
        (bottom - top) * down,
    )


def patch_mask(box: Rectangle | None, side: int, grid: int) -> npt.NDArray[np.int64]:
    """Return which patches `box` touches: int64 [1 + grid²], index 0 always, at least one more.

    side: of the image in pixels; grid: patches along it. All ones for the whole image.
    """
    if box is None:
        return np.ones(1 + grid * grid, dtype=np.int64)
    patch = side // grid
    columns, rows = _touched(box[0], box[2], patch, grid), _touched(box[1], box[3], patch, grid)
    inside = np.zeros((grid, grid), dtype=np.int64)
    inside[rows, columns] = 1
    return np.concatenate([[1], inside.ravel()])


def _touched(start: float, length: float, patch: int, grid: int) -> slice:
    """Return which of `grid` patches along a side a stretch touches."""
    first = min(math.floor(start / patch), grid - 1)
    last = min(math.ceil((start + length) / patch), grid)
    return slice(first, max(first + 1, last))


def box_target(box: Rectangle | None, side: int) -> npt.NDArray[np.float32]:
    """Return centre and size of `box` as shares of the image: float32 [4]."""
    x, y, width, height = (0.0, 0.0, side, side) if box is None else box
    shares = np.array([x + width / 2, y + height / 2, width, height], dtype=np.float32)
    return shares / np.float32(side)

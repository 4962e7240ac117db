"""From an image of any size to the network's input: a named resize rule and the normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from trawl.errors import RequestError, WorkError

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ResizeRule:
    """Short side in pixels, both sides rounded to a multiple, the long side limited.

    Rounding makes most images of a batch equal in shape, so they are stacked without padding and
    no image sees its batch mates. Boxes go back with a ratio for each axis of its own.
    """

    short_side: int
    multiple: int
    long_limit: int


RESIZE_RULES = {
    "short-224-step-32": ResizeRule(224, 32, 640),
    "short-256-step-32": ResizeRule(256, 32, 704),
}


def resize_rule(name: str) -> ResizeRule:
    """Look a rule up by name; RequestError lists the known ones."""
    if name not in RESIZE_RULES:
        known = ", ".join(RESIZE_RULES)
        raise RequestError(f"resize: {name} is not a rule; choose one of {known}")
    return RESIZE_RULES[name]


def target_size(height: int, width: int, rule: ResizeRule) -> tuple[int, int]:
    """Height and width that the rule gives an image; each at least one multiple."""
    scale = rule.short_side / max(1, min(height, width))
    limit = rule.long_limit / max(height, width)
    scale = min(scale, limit)
    return _rounded(height * scale, rule), _rounded(width * scale, rule)


def _rounded(side: float, rule: ResizeRule) -> int:
    return max(rule.multiple, int(side / rule.multiple + 0.5) * rule.multiple)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize of uint8 [H, W, 3] to (height, width), with half-pixel centres.

    Bilinear sampling skips pixels when it shrinks to less than half, so there areas are averaged.
    """
    shrink = min(image.shape[0] / size[0], image.shape[1] / size[1])
    method = cv2.INTER_AREA if shrink > 2 else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=method)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [batch, H, W, 3] RGB -> float32 [batch, 3, H, W], zero mean and unit deviation."""
    mean = torch.tensor(MEAN, device=pixels.device) * 255.0
    scale = 1.0 / (torch.tensor(DEVIATION, device=pixels.device) * 255.0)
    scaled = (pixels.float() - mean) * scale
    return scaled.permute(0, 3, 1, 2)


def assert_colour_order() -> None:
    """Check with a red and a blue image that red is the first channel; WorkError when it is not.

    The published extractors lost accuracy to images that came in the other order, unnoticed.
    """
    red = np.zeros((4, 4, 3), np.uint8)
    red[:, :, 0] = 255
    both = torch.from_numpy(np.stack([resize(red, (2, 2)), resize(red[:, :, ::-1].copy(), (2, 2))]))
    means = normalise(both).mean(dim=(2, 3))  # [2, 3]
    if not (means[0].argmax() == 0 and means[1].argmax() == 2):
        raise WorkError("detector: preprocessing does not keep RGB order; features would be wrong")

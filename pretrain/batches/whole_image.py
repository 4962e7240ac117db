"""The region that stands for the whole image in ViLBERT: the mean of the others, in three forms."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]
Form = Literal["as_published", "multi_task", "sound"]

PLACE = np.array([0, 0, 1, 1, 1], dtype=np.float32)
"""Its location: the whole width, height and area."""
OVERLAP = 0.4


def overlaps(boxes: Numbers, others: Numbers) -> Numbers:
    """Return the IoU [boxes, others] of boxes in pixels x1 y1 x2 y2, both end pixels counted."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low + 1, 0, None).prod(axis=-1)
    areas, other_areas = ((part[:, 2:] - part[:, :2] + 1).prod(axis=-1) for part in (boxes, others))
    union = areas[:, None] + other_areas[None, :] - shared
    return (shared / union).astype(np.float32)


def whole_image(
    features: Numbers, boxes: Numbers, masked: npt.NDArray[np.intp], form: Form
) -> Numbers:
    """Return the feature [F] of the whole image from `features` [regions, F], masked already.

    boxes [regions, 4] in pixels; masked: the places of the masked regions, zeroed or not. The forms
    are those of `ViLBertConfig.global_feature`; without a region to count it is the sum.
    """
    total: Numbers = features.sum(axis=0, dtype=np.float32)
    if form == "as_published":
        count = len(features)
    elif form == "multi_task":
        count = int((overlaps(boxes, boxes[masked]) <= OVERLAP).all(axis=1).sum())
    else:
        count = len(features) - int((~features[masked].any(axis=1)).sum())
    return total / np.float32(max(1, count))

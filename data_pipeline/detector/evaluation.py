"""Average precision of boxes against truth, exactly, over all points of the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelledBoxes:
    """Boxes of one image with their class ids; confidences only for detections.

    boxes float32 [boxes, 4], object_ids int64 [boxes], confidences float32 [boxes].
    """

    boxes: np.ndarray
    object_ids: np.ndarray
    confidences: np.ndarray


@dataclass(frozen=True)
class Precision:
    """Mean average precision and its parts; a class without truth has no part."""

    mean: float
    by_class: dict[int, float]


def mean_average_precision(
    truths: Sequence[LabelledBoxes],
    detections: Sequence[LabelledBoxes],
    overlap: float = 0.5,
) -> Precision:
    """Mean over the classes that occur in the truth of `average_precision`."""
    classes = sorted({int(c) for truth in truths for c in truth.object_ids})
    by_class = {c: average_precision(truths, detections, c, overlap) for c in classes}
    mean = float(np.mean(list(by_class.values()))) if by_class else 0.0
    return Precision(mean, by_class)


def average_precision(
    truths: Sequence[LabelledBoxes],
    detections: Sequence[LabelledBoxes],
    object_id: int,
    overlap: float = 0.5,
) -> float:
    """Area under the precision envelope of one class, every recall point counted.

    A detection is right when the truth box of its class that it overlaps most, by at least
    `overlap`, was not taken by a more confident one (the rule of PASCAL VOC since 2010).
    """
    total = sum(int((truth.object_ids == object_id).sum()) for truth in truths)
    if not total:
        return 0.0
    confidences, right = [np.empty(0)], [np.empty(0, bool)]
    for truth, found in zip(truths, detections, strict=True):
        wanted = truth.boxes[truth.object_ids == object_id]
        mine = found.object_ids == object_id
        order = np.argsort(-found.confidences[mine], kind="stable")
        confidences.append(found.confidences[mine][order])
        right.append(_matches(found.boxes[mine][order], wanted, overlap))
    order = np.argsort(-np.concatenate(confidences), kind="stable")
    hits = np.concatenate(right)[order].cumsum()
    recall = hits / total
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], recall]))
    return float((steps * envelope).sum())


def _matches(found: np.ndarray, wanted: np.ndarray, overlap: float) -> np.ndarray:
    """Say for each detection, most confident first, whether it takes a free truth box."""
    right = np.zeros(len(found), bool)
    if not len(wanted):
        return right
    overlaps = intersection_over_union(found, wanted)
    taken = np.zeros(len(wanted), bool)
    for row in range(len(found)):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= overlap and not taken[best]:
            taken[best] = right[row] = True
    return right


def intersection_over_union(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Overlap of every box of `left` [n, 4] with every one of `right` [m, 4]: [n, m]."""
    corner = np.maximum(left[:, None, :2], right[None, :, :2])
    far = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = (far - corner).clip(min=0).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (left, right)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return shared / np.maximum(union, 1e-9)

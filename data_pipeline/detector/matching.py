"""Which anchor or proposal learns which object: assignment and sampling for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

IGNORED = -1
BACKGROUND = 0


@dataclass(frozen=True)
class Truth:
    """What one training image holds, in pixels of the image as fed.

    boxes float32 [objects, 4], classes int64 [objects] from 1, attributes int64 [objects] from 1
    (0 when the object has none).
    """

    boxes: Tensor
    classes: Tensor
    attributes: Tensor

    def to(self, device: torch.device) -> Truth:
        """Return the same on a device."""
        return Truth(self.boxes.to(device), self.classes.to(device), self.attributes.to(device))


@dataclass(frozen=True)
class RegionSample:
    """Regions chosen for the region head's loss; the background has class 0."""

    boxes: Tensor  # [regions, 4]
    classes: Tensor  # [regions]
    attributes: Tensor  # [regions]
    targets: Tensor  # [regions, 4] the object's box, or the region itself for background


def label_anchors(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Label anchors 1 (object), 0 (background) or -1 (ignored) and give each its nearest object.

    An anchor is positive at an overlap of 0.6, or when it is the best of some object; it is
    background below 0.3. Returns labels [anchors] and object indices [anchors].
    """
    if not len(boxes):
        zeros = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
        return zeros, zeros
    overlaps = box_iou(anchors, boxes)  # [anchors, objects]
    best, nearest = overlaps.max(dim=1)
    labels = torch.full((len(anchors),), IGNORED, dtype=torch.long, device=anchors.device)
    labels[best < 0.3] = 0
    labels[best >= 0.6] = 1
    per_object = overlaps.max(dim=0).values
    forced = (overlaps >= per_object - 1e-4) & (per_object > 0.1)
    labels[forced.any(dim=1)] = 1
    return labels, nearest


def sample_labels(
    labels: Tensor, count: int, positive_share: float, rng: np.random.Generator
) -> Tensor:
    """Indices of at most `count` labelled rows, at most the given share of them positive.

    They are drawn on the CPU, wherever the labels lie: chance is the same on all devices.
    """
    known = labels.cpu().numpy()
    positive = np.flatnonzero(known > 0)
    negative = np.flatnonzero(known == 0)
    wanted = min(len(positive), int(count * positive_share))
    chosen_positive = rng.permutation(positive)[:wanted]
    chosen_negative = rng.permutation(negative)[: count - wanted]
    chosen = np.concatenate([chosen_positive, chosen_negative])
    return torch.from_numpy(chosen).to(labels.device)


def jitter_boxes(boxes: Tensor, copies: int, rng: np.random.Generator) -> Tensor:
    """Copies of the boxes, moved and scaled by up to a sixth: positives from the first step on."""
    if not len(boxes) or not copies:
        return boxes.new_zeros((0, 4))
    repeated = boxes.repeat(copies, 1)
    sides = repeated[:, 2:] - repeated[:, :2]
    noise = torch.from_numpy(rng.uniform(-1 / 6, 1 / 6, size=(len(repeated), 4))).float()
    noise = noise.to(boxes.device)
    return repeated + noise * torch.cat([sides, sides], dim=1)


def sample_regions(
    proposals: Tensor, truth: Truth, count: int, copies: int, rng: np.random.Generator
) -> RegionSample:
    """Choose the regions that teach the region head: at most half of them objects (IoU >= 0.5)."""
    candidates = torch.cat([proposals, truth.boxes, jitter_boxes(truth.boxes, copies, rng)])
    if len(truth.boxes):
        best, nearest = box_iou(candidates, truth.boxes).max(dim=1)
    else:
        best = candidates.new_zeros(len(candidates))
        nearest = torch.zeros(len(candidates), dtype=torch.long, device=candidates.device)
    positive = best >= 0.5
    chosen = sample_labels(positive.long(), count, 0.5, rng)
    boxes, is_object, nearest = candidates[chosen], positive[chosen], nearest[chosen]
    if not len(truth.boxes):
        none = torch.zeros_like(chosen)
        return RegionSample(boxes, none, none, boxes)
    return RegionSample(
        boxes,
        torch.where(is_object, truth.classes[nearest], BACKGROUND),
        torch.where(is_object, truth.attributes[nearest], 0),
        torch.where(is_object[:, None], truth.boxes[nearest], boxes),
    )


def label_cells(truth: Truth, rows: int, columns: int, stride: int) -> Tensor:
    """Class of every cell of the map, [rows, columns]: 0 background, -1 near an object's border.

    A cell belongs to an object when its centre lies in the middle of the box; of several objects
    to the smallest, which is the one most likely in front.
    """
    device = truth.boxes.device
    labels = torch.zeros((rows, columns), dtype=torch.long, device=device)
    x = (torch.arange(columns, device=device) + 0.5) * stride
    y = (torch.arange(rows, device=device) + 0.5) * stride
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    for row in sides.prod(dim=1).argsort(descending=True).tolist():
        centre = (truth.boxes[row, :2] + truth.boxes[row, 2:]) / 2
        across = (x - centre[0]).abs() / sides[row, 0]
        down = (y - centre[1]).abs() / sides[row, 1]
        reach = torch.maximum(across[None, :], down[:, None])  # [rows, columns], 0.5 at the border
        labels[(reach < 0.5) & (labels == BACKGROUND)] = IGNORED
        labels[reach < 0.3] = truth.classes[row]
    return labels

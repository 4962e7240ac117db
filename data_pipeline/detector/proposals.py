"""From the proposal head's scores to a few boxes per image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import nms

from data_pipeline.detector.anchors import PROPOSAL_WEIGHTS, clip, decode


@dataclass(frozen=True)
class ProposalRule:
    """How many anchors enter suppression, at what overlap, and how many boxes leave it."""

    before: int = 600
    overlap: float = 0.7
    after: int = 64
    min_side: float = 4.0


def propose(
    logits: Tensor, deltas: Tensor, anchors: Tensor, image_size: tuple[int, int], rule: ProposalRule
) -> list[Tensor]:
    """Best proposals of every image, each [at most rule.after, 4], by falling objectness.

    `logits` [batch, anchors] and `deltas` [batch, anchors, 4] are float32; `image_size` is
    (height, width) in pixels of the resized image. An image always gets at least one box: the
    whole image stands in when no anchor survives.
    """
    height, width = image_size
    count = min(rule.before, logits.shape[1])
    scores, order = logits.topk(count, dim=1, sorted=True)
    found = []
    for image in range(logits.shape[0]):
        chosen = order[image]
        boxes = decode(anchors[chosen], deltas[image, chosen], PROPOSAL_WEIGHTS)
        boxes = clip(boxes, height, width)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides >= rule.min_side).all(dim=1)
        boxes, kept_scores = boxes[large], scores[image][large]
        boxes = boxes[nms(boxes, kept_scores, rule.overlap)[: rule.after]]
        if not len(boxes):
            boxes = boxes.new_tensor([[0.0, 0.0, float(width), float(height)]])
        found.append(boxes)
    return found

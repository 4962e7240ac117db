"""The published detectors as one would write them down: the reference of the fast path.

One image at a time, float32, normalisation unfolded, torchvision's operators, every class
suppressed in a loop, the regressor and the attributes computed for every proposal and class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from data_pipeline.detector.c4_config import STRIDE
from data_pipeline.detector.c4_preprocessing import Prepared, prepare, preprocessing_rule
from data_pipeline.detector.c4_proposals import clip, decode, propose
from data_pipeline.detector.c4_selection import (
    PairRule,
    Rule,
    best_class_boxes,
    best_pairs,
    c4_selection,
    choose,
)
from data_pipeline.detector.c4_weights import C4Weights
from data_pipeline.detector.selection import Selected, SelectionRule
from data_pipeline.detector.suppression import Suppression, suppress_by_loop


@dataclass(frozen=True)
class PlainRegions:
    """What the plain path finds in an image: selected rows and all scored proposals."""

    boxes: Tensor  # [regions, 4], own pixels
    features: Tensor  # [regions, 2048]
    object_ids: Tensor  # [regions], without the background
    confidences: Tensor  # [regions]
    attribute_ids: Tensor  # [regions], without "none"
    proposals: Tensor  # [proposals, 4], pixels of the resized image


class PlainC4:
    """A detector of a published family without any of the fast paths."""

    def __init__(self, weights: C4Weights, device: str = "cpu") -> None:
        self.config = weights.config
        self.network = weights.network().to(device)
        self._device = device
        self._rule = preprocessing_rule(weights.config.preprocessing)

    @torch.inference_mode()
    def features_at(self, image: np.ndarray, boxes: np.ndarray) -> Tensor:
        """Features [R, 2048] of boxes [R, 4] in the image's own pixels."""
        prepared = self.prepare(image)
        maps = self.maps_of(prepared)
        inside = prepared.network_boxes(torch.from_numpy(boxes).float().to(self._device))
        return self.features_of(self.pooled(maps, inside))

    @torch.inference_mode()
    def detect(self, image: np.ndarray, selection: str) -> PlainRegions:
        """Regions of one image by a rule of c4_selection."""
        prepared = self.prepare(image)
        maps = self.maps_of(prepared)
        proposals = self.proposals_of(maps, prepared)
        features = self.features_of(self.pooled(maps, proposals))
        return self.chosen(prepared, proposals, features, c4_selection(selection))

    def prepare(self, image: np.ndarray) -> Prepared:
        """Resize and centre the image by the family's rule."""
        return prepare(image, self._rule, self._device)

    def maps_of(self, prepared: Prepared) -> Tensor:
        """Maps [1, 1024, h, w]."""
        return self.network.backbone(prepared.pixels[None].contiguous())

    def proposals_of(self, maps: Tensor, prepared: Prepared) -> Tensor:
        """Proposals [at most 300, 4]."""
        logits, deltas = self.network.proposal_head(maps)
        scale = prepared.scale or prepared.size[0] / prepared.own_size[0]
        cells = self.network.cell_anchors
        return propose(logits, deltas, cells, self.config, [prepared.size], [scale])[0]

    def pooled(self, maps: Tensor, boxes: Tensor) -> Tensor:
        """Regions cut by torchvision: [boxes, 1024, 14, 14]."""
        side = self.config.pooled_side
        if self.config.pooling == "max":
            return roi_pool(maps, [boxes], side, 1.0 / STRIDE)
        return roi_align(maps, [boxes], side, 1.0 / STRIDE, sampling_ratio=0, aligned=False)

    def features_of(self, pooled: Tensor) -> Tensor:
        """Features [boxes, 2048]."""
        return self.network.region_head(pooled)

    def chosen(
        self,
        prepared: Prepared,
        proposals: Tensor,
        features: Tensor,
        rule: Rule,
    ) -> PlainRegions:
        """Score everything, suppress class by class, and select."""
        network, convention = self.network, self.config.boxes
        logits = network.classifier(features)
        probabilities = logits.softmax(dim=1)
        deltas = network.regressor(features)
        moved = decode(proposals, deltas, self.config.regression_weights, convention)
        regressed = clip(moved.view(len(proposals), -1, 4), prepared.size, convention)
        boxes = proposals
        if rule.boxes == "regressed":
            boxes = best_class_boxes(regressed[:, 1:], probabilities[:, 1:])
        own = prepared.own_boxes(boxes)
        if isinstance(rule, SelectionRule):
            selected = self._select_by_loop(own, probabilities[:, 1:], rule)
        elif isinstance(rule, PairRule):
            selected = self._pairs_by_loop(own, probabilities[:, 1:], rule)
        else:
            selected = choose(own, probabilities[:, 1:], rule, convention)
        rows = selected.rows
        return PlainRegions(
            boxes=own[rows],
            features=features[rows],
            object_ids=selected.object_ids,
            confidences=selected.confidences,
            attribute_ids=self._attribute_ids(features, logits, selected),
            proposals=proposals,
        )

    def _select_by_loop(
        self, boxes: Tensor, probabilities: Tensor, rule: SelectionRule
    ) -> Selected:
        """The published procedure of tools/generate_tsv.py, step by step."""
        convention = self.config.boxes
        shifted = boxes + boxes.new_tensor([0.0, 0.0, *[convention.suppression_extra] * 2])
        surviving = suppress_by_loop(shifted, probabilities, Suppression(rule.nms_overlap))
        scores, classes = surviving.max(dim=1)
        rows = (scores >= rule.threshold).nonzero().flatten()
        ranked = scores.argsort(descending=True, stable=True)
        if len(rows) < rule.minimum or len(rows) > rule.maximum or rule.ranked:
            rows = ranked[: min(max(len(rows), rule.minimum), rule.maximum)]
        if not rule.suppressed_too:
            rows = rows[scores[rows] > 0]
        if rule.label == "surviving":
            return Selected(rows, classes[rows], scores[rows])
        confidences, best = probabilities[rows].max(dim=1)
        return Selected(rows, best, confidences)

    def _pairs_by_loop(self, boxes: Tensor, probabilities: Tensor, rule: PairRule) -> Selected:
        """Every class suppressed, and again under half the threshold while pairs are too few."""
        convention = self.config.boxes
        shifted = boxes + boxes.new_tensor([0.0, 0.0, *[convention.suppression_extra] * 2])
        threshold, left = rule.threshold, rule.halvings
        while True:
            entered = probabilities.where(probabilities > threshold, 0.0)
            surviving = suppress_by_loop(shifted, entered, Suppression(rule.nms_overlap))
            if not left or int((surviving > threshold).sum()) >= rule.minimum:
                return best_pairs(surviving, threshold, rule.maximum)
            threshold, left = threshold / 2, left - 1

    def _attribute_ids(self, features: Tensor, logits: Tensor, selected: Selected) -> Tensor:
        """Attributes of the selected rows; with the class an argmax, of all proposals first."""
        head = self.network.attributes
        if head is None:
            return torch.full_like(selected.rows, -1)
        if self.config.attribute_class == "detected":
            scores = head(features[selected.rows], selected.object_ids + 1)
        else:
            scores = head(features, logits.argmax(dim=1))[selected.rows]
        return scores[:, 1:].argmax(dim=1)

"""The detector in use: images in, regions out, each image's result its own.

Images of equal resized shape are stacked; nothing is padded, so no image sees its batch mates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector.anchors import (
    REGION_WEIGHTS,
    anchor_grid,
    cell_anchors,
    clip,
    decode,
)
from data_pipeline.detector.architecture import FasterRcnn
from data_pipeline.detector.preprocessing import (
    assert_colour_order,
    normalise,
    resize,
    resize_rule,
    target_size,
)
from data_pipeline.detector.proposals import ProposalRule, propose
from data_pipeline.detector.selection import Selected, SelectionRule, select, selection_rule
from data_pipeline.detector.weights import (
    BUILTIN,
    DetectorDescription,
    load_weights,
    read_description,
)
from trawl.errors import RequestError

_STACK = 8
"""Most images that are computed together; more only costs memory on a CPU."""


@dataclass(frozen=True)
class _Scored:
    """The network's answer for one image, in pixels of the resized image."""

    proposals: Tensor  # [boxes, 4]
    regressed: Tensor  # [boxes, 4]
    probabilities: Tensor  # [boxes, 1 + objects], the background first
    features: Tensor  # [boxes, feature size]


class Detector:
    """A loaded detector. Deterministic; safe to share between threads that only call `detect`.

    With `class_probs`, regions keep the probabilities of all classes, background first.
    """

    def __init__(
        self,
        name: str,
        model: FasterRcnn,
        weights_sha256: str,
        description: DetectorDescription,
        class_probs: bool = False,
    ) -> None:
        assert_colour_order()
        self.name = name
        self.weights_sha256 = weights_sha256
        self.objects = list(description.objects)
        self.attributes = list(description.attributes)
        self.feature_size = model.config.feature_size
        self._description = description
        self._class_probs = class_probs
        self._resize = resize_rule(description.resize)
        self._proposals = ProposalRule()
        self._model = model.eval()
        self._model.fold()
        self._model.to(memory_format=torch.channels_last)
        self._cells = cell_anchors(model.config.anchor_sizes, model.config.anchor_ratios)

    @torch.inference_mode()
    def detect(self, images: Sequence[np.ndarray], selection: str = "butd-10-100") -> list[Regions]:
        """Regions of every image, in order, boxes in its own pixels and features in float32.

        Images are uint8 [height, width, 3] RGB of any sizes. RequestError for another array.
        """
        rule = selection_rule(selection, self._description.conventions)
        found: dict[int, Regions] = {}
        for size, chosen, pixels in self._stacks(images):
            for index, answer in zip(chosen, self._score(pixels), strict=True):
                found[index] = self._regions(answer, images[index].shape[:2], size, rule)
        return [found[index] for index in range(len(images))]

    @torch.inference_mode()
    def features_at(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Features float32 [R, feature size] of given boxes [R, 4] in each image's own pixels."""
        if len(images) != len(boxes):
            raise RequestError(f"{len(images)} images with boxes of {len(boxes)}; give one of each")
        found: dict[int, np.ndarray] = {}
        for size, chosen, pixels in self._stacks(images):
            maps = self._maps(pixels)
            for row, index in enumerate(chosen):
                height, width = images[index].shape[:2]
                growth = torch.tensor([size[1] / width, size[0] / height] * 2)
                inside = torch.from_numpy(np.asarray(boxes[index], np.float32)) * growth
                pooled = self._model.pool(maps[row : row + 1], [inside.reshape(-1, 4)])
                found[index] = self._model.region_head(pooled).numpy()
        return [found[index] for index in range(len(images))]

    def _stacks(
        self, images: Sequence[np.ndarray]
    ) -> Iterator[tuple[tuple[int, int], list[int], Tensor]]:
        """Equally sized images together: resized (height, width), their places, uint8 pixels."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            _check_image(image, index)
            size = target_size(image.shape[0], image.shape[1], self._resize)
            groups.setdefault(size, []).append(index)
        for size, members in groups.items():
            for start in range(0, len(members), _STACK):
                chosen = members[start : start + _STACK]
                pixels = np.stack([resize(images[index], size) for index in chosen])
                yield size, chosen, torch.from_numpy(pixels)

    def _maps(self, pixels: Tensor) -> Tensor:
        inputs = normalise(pixels).contiguous(memory_format=torch.channels_last)
        return self._model.backbone(inputs)

    def _score(self, pixels: Tensor) -> list[_Scored]:
        """Run the network on equally sized images, uint8 [batch, H, W, 3]."""
        model, config = self._model, self._model.config
        size = (pixels.shape[1], pixels.shape[2])
        maps = self._maps(pixels)
        logits, deltas = model.proposal_head(maps)
        anchors = anchor_grid(self._cells, maps.shape[2], maps.shape[3], config.stride)
        proposals = propose(logits, deltas, anchors, size, self._proposals)
        features = model.region_head(model.pool(maps, proposals))  # [all boxes, feature size]
        probabilities = model.classifier(features).softmax(dim=1)
        regressed = decode(torch.cat(proposals), model.regressor(features), REGION_WEIGHTS)
        counts = [len(boxes) for boxes in proposals]
        parts = zip(
            proposals,
            clip(regressed, *size).split(counts),
            probabilities.split(counts),
            features.split(counts),
            strict=True,
        )
        return [_Scored(*part) for part in parts]

    def _regions(
        self,
        scored: _Scored,
        image_size: tuple[int, int],
        size: tuple[int, int],
        rule: SelectionRule,
    ) -> Regions:
        """Select one image's regions, read their attributes and scale their boxes back."""
        boxes = scored.regressed if rule.boxes == "regressed" else scored.proposals
        selected = select(boxes, scored.probabilities[:, 1:], rule)
        features = scored.features[selected.rows]
        attribute_ids, attribute_conf = self._attributes(features, selected)
        growth = torch.tensor([image_size[1] / size[1], image_size[0] / size[0]] * 2)
        own = clip(boxes[selected.rows] * growth, image_size[0], image_size[1])
        return Regions(
            boxes=own.numpy(),
            features=features.numpy(),
            scale=None,
            object_ids=selected.object_ids.numpy().astype(np.int16),
            attribute_ids=attribute_ids.numpy().astype(np.int16),
            object_conf=selected.confidences.numpy().astype(np.float16),
            attribute_conf=attribute_conf.numpy().astype(np.float16),
            class_probs=scored.probabilities[selected.rows].numpy().astype(np.float16)
            if self._class_probs
            else None,
        )

    def _attributes(self, features: Tensor, selected: Selected) -> tuple[Tensor, Tensor]:
        """Most probable attribute of each region, "none" left out after the softmax."""
        logits = self._model.attributes(features, selected.object_ids + 1)
        confidences, ids = logits.softmax(dim=1)[:, 1:].max(dim=1)
        return ids, confidences


def load_detector(
    name: str = "demo", weights: str | Path = "builtin", class_probs: bool = False
) -> Detector:
    """Load a detector by name, with "builtin" weights or a file of `trawl regions train`."""
    if name != "demo":
        raise RequestError(f"regions.detector: {name} is not known; choose demo")
    path = BUILTIN if str(weights) == "builtin" else Path(weights)
    description = read_description(path)
    model, checksum = load_weights(path, description.architecture)
    return Detector(name, model, checksum, description, class_probs)


def _check_image(image: np.ndarray, index: int) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise RequestError(
            f"image {index}: is {image.dtype} {image.shape}; give uint8 [height, width, 3] RGB"
        )

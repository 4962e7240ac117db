"""torchvision's fasterrcnn_resnet50_fpn_v2 as a region detector: 80 classes, features of 1024.

For trying things out and for COCO's tags: the features have nothing to do with those that the
published models of vision and language were trained on. Images go through one by one, because a
batch of this network is padded, and padding changes what is near it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    fasterrcnn_resnet50_fpn_v2,
)

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector.c4_weights import refuse
from data_pipeline.detector.restricted_pickle import read_tensors
from data_pipeline.detector.selection import select, selection_rule
from trawl import storage
from trawl.errors import RequestError

_UNUSED = "N/A"
"""Name of the numbers that COCO left out."""


@dataclass(frozen=True)
class _Maps:
    """The pyramid of one image, its resized (height, width) and resized over own pixels."""

    levels: dict[str, Tensor]
    size: tuple[int, int]
    growth: Tensor  # [4]


class TorchvisionDetector:
    """A loaded network. `attributes` is empty: the network has none."""

    def __init__(self, name: str, model: FasterRCNN, weights_sha256: str) -> None:
        self.name = name
        self.weights_sha256 = weights_sha256
        count = model.roi_heads.box_predictor.cls_score.out_features
        names = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
        if len(names) != count:
            names = ["background", *(f"object {number}" for number in range(1, count))]
        used = [number for number in range(1, count) if names[number] != _UNUSED]
        self.objects = [str(names[number]) for number in used]
        self.attributes: list[str] = []
        self.feature_size = int(model.roi_heads.box_predictor.cls_score.in_features)
        self._used = torch.tensor(used)
        self._model = model.eval()

    @torch.inference_mode()
    def detect(self, images: Sequence[np.ndarray], selection: str = "detections") -> list[Regions]:
        """Regions of every image by a rule of `selection.SELECTIONS`.

        Regressed boxes are those of each proposal's best class; features are of the proposals.
        """
        rule = selection_rule(selection)
        found = []
        for place, image in enumerate(images):
            maps, proposals = self._propose(image, place)
            features = self._pooled(maps, proposals)
            logits, deltas = self._model.roi_heads.box_predictor(features)
            probabilities = logits.softmax(dim=1)[:, self._used]
            boxes = proposals
            if rule.boxes == "regressed":
                moved = self._model.roi_heads.box_coder.decode(deltas, [proposals])
                best = self._used[probabilities.argmax(dim=1)]
                boxes = moved[torch.arange(len(best)), best]
            own = _inside(boxes / maps.growth, image)
            chosen = select(own, probabilities, rule)
            rows = chosen.rows
            found.append(
                Regions(
                    boxes=own[rows].numpy(),
                    features=features[rows].numpy(),
                    object_ids=chosen.object_ids.numpy().astype(np.int16),
                    attribute_ids=np.full(len(rows), -1, np.int16),
                    object_conf=chosen.confidences.numpy().astype(np.float16),
                    attribute_conf=np.zeros(len(rows), np.float16),
                )
            )
        return found

    @torch.inference_mode()
    def features_at(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Features float32 [R, 1024] of given boxes [R, 4] in each image's own pixels."""
        found = []
        for place, (image, own) in enumerate(zip(images, boxes, strict=True)):
            maps, _ = self._maps(image, place)
            given = torch.from_numpy(np.ascontiguousarray(own, dtype=np.float32))
            found.append(self._pooled(maps, given * maps.growth).numpy())
        return found

    def _maps(self, image: np.ndarray, place: int) -> tuple[_Maps, Tensor]:
        """The pyramid of an image and its pixels as the network takes them [1, 3, H, W]."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise RequestError(
                f"image {place}: is {image.dtype} {image.shape}; give uint8 [height, width, 3] RGB"
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
        batch, _ = self._model.transform([pixels])
        height, width = batch.image_sizes[0]
        growth = torch.tensor([width / image.shape[1], height / image.shape[0]] * 2)
        levels = self._model.backbone(batch.tensors)
        return _Maps(levels, (height, width), growth), batch.tensors

    def _propose(self, image: np.ndarray, place: int) -> tuple[_Maps, Tensor]:
        """The pyramid and the proposals [at most 1000, 4] in pixels of the resized image."""
        from torchvision.models.detection.image_list import ImageList

        maps, pixels = self._maps(image, place)
        proposals, _ = self._model.rpn(ImageList(pixels, [maps.size]), maps.levels)
        return maps, proposals[0]

    def _pooled(self, maps: _Maps, boxes: Tensor) -> Tensor:
        """Features [boxes, 1024] of boxes in pixels of the resized image."""
        heads = self._model.roi_heads
        pooled: Tensor = heads.box_roi_pool(maps.levels, [boxes], [maps.size])
        features: Tensor = heads.box_head(pooled)
        return features


def _inside(boxes: Tensor, image: np.ndarray) -> Tensor:
    """Boxes [boxes, 4] cut to the image's edges."""
    height, width = image.shape[:2]
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes, limits).clamp(min=0)


def load_torchvision(name: str, path: Path) -> TorchvisionDetector:
    """Load a state dict of fasterrcnn_resnet50_fpn_v2 from a local file, strictly.

    RequestError lists missing, unknown and mis-shaped keys. Nothing is downloaded.
    """
    tensors = read_tensors(path)
    scores = tensors.get("roi_heads.box_predictor.cls_score.bias")
    if scores is None or scores.ndim != 1:
        raise RequestError(f"{path}: not a file of torchvision's fasterrcnn_resnet50_fpn_v2")
    model = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=len(scores))
    wanted = model.state_dict()
    wrong = [f"missing {key}" for key in wanted.keys() - tensors.keys()]
    wrong += [f"unknown {key}" for key in tensors.keys() - wanted.keys()]
    wrong += [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted.keys() & tensors.keys()
        if tensors[key].shape != wanted[key].shape
    ]
    refuse(path, wrong, "fasterrcnn_resnet50_fpn_v2")
    model.load_state_dict(tensors)
    return TorchvisionDetector(name, model, storage.sha256_of(path))

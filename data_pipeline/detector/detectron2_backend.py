"""Stock detectron2 computing bottom-up attention: a second opinion, and a base for its users.

detectron2 is no dependency: it is imported when this backend is asked for, and only its python part
is needed. Its own configuration goes far (detectron2_butd.yaml); `as_bottom_up_attention` makes the
three changes that it has no key for. Images go through one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector.c4_config import FEATURE_SIZE, C4Config
from data_pipeline.detector.c4_inference import C4Detector
from data_pipeline.detector.c4_layouts import from_canonical, layout_by_name
from data_pipeline.detector.c4_preprocessing import Prepared
from data_pipeline.detector.c4_selection import c4_selection
from data_pipeline.detector.c4_weights import C4Weights, export_tensors
from trawl.errors import RequestError

CONFIG_FILE = Path(__file__).with_name("detectron2_butd.yaml")

INSTALL_COMMAND = (
    "pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git@02b5c4e295e990042a714712c21dc79b731e8833'"
)

_CONSTANTS = ("pixel_mean", "pixel_std")
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


def required_detectron2() -> None:
    """Import detectron2; RequestError with the command that installs it, where that fails."""
    try:
        import detectron2.config
        import detectron2.modeling
        import detectron2.structures  # noqa: F401
    except ImportError as error:
        raise RequestError(
            f"regions.detector: detectron2 cannot be imported ({error}); beside torch, run: "
            f"{INSTALL_COMMAND} - or choose butd-d2, which computes the same without it"
        ) from error


class CaffeStem(nn.Module):
    """detectron2's stem with Caffe's pooling: unpadded, its size rounded up."""

    def __init__(self, conv1: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv1

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] -> [batch, 64, H/4, W/4]."""
        maps = functional.relu(self.conv1(pixels))
        return functional.max_pool2d(maps, 3, 2, 0, ceil_mode=True)


def as_bottom_up_attention(model: Any, config: C4Config) -> None:
    """Make the three changes to a GeneralizedRCNN that was built from detectron2_butd.yaml.

    The stem pools as Caffe; res5 keeps its resolution, with dilated 3x3 convolutions; the box
    predictor carries the attribute head under the fork's names. RequestError where detectron2 no
    longer has the parts that are changed.
    """
    try:
        model.backbone.stem = CaffeStem(model.backbone.stem.conv1)
        res5 = model.roi_heads.res5
        res5[0].conv1.stride = res5[0].shortcut.stride = (1, 1)
        for block in res5:
            block.conv2.padding = block.conv2.dilation = (2, 2)
        predictor = model.roi_heads.box_predictor
    except (AttributeError, IndexError, TypeError) as error:
        raise RequestError(
            f"detectron2: this version has another structure ({error}); install: {INSTALL_COMMAND}"
        ) from error
    if config.attributes:
        width, embedded = config.attribute_width, config.embedding_size
        predictor.cls_embedding = nn.Embedding(config.classes, embedded)
        predictor.fc_attr = nn.Linear(FEATURE_SIZE + embedded, width)
        predictor.attr_score = nn.Linear(width, config.attributes)


def load_into(model: nn.Module, weights: C4Weights) -> None:
    """Load the weights in the fork's layout, strictly but for detectron2's own constants."""
    tensors = export_tensors(weights, "fork")
    tensors.pop(_ANCHORS, None)
    for key in [key for key in tensors if key.endswith("num_batches_tracked") or key in _CONSTANTS]:
        del tensors[key]
    result = model.load_state_dict(tensors, strict=False)
    missing = [key for key in result.missing_keys if key not in (*_CONSTANTS, _ANCHORS)]
    if missing or result.unexpected_keys:
        raise RequestError(
            f"detectron2: weights do not fit; missing {missing[:5]}, "
            f"unknown {result.unexpected_keys[:5]}; install: {INSTALL_COMMAND}"
        )
    own = dict(model.named_buffers()).get(_ANCHORS)
    chosen = weights.tensors["cell_anchors"]
    anchors = from_canonical("cell_anchors", chosen, layout_by_name("fork"), weights.config)
    if own is None or own.shape != anchors.shape:
        raise RequestError(f"detectron2: no cell anchors to set; install: {INSTALL_COMMAND}")
    own.copy_(anchors)


def detectron2_model(weights: C4Weights) -> Any:
    """Build stock detectron2's model for weights of bottom-up attention, in evaluation mode."""
    required_detectron2()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    if weights.config.family == "vinvl":
        raise RequestError("detectron2: has no form of vinvl; choose the detector vinvl")
    settings = get_cfg()
    settings.merge_from_file(str(CONFIG_FILE))
    settings.MODEL.DEVICE = "cpu"
    settings.MODEL.ROI_HEADS.NUM_CLASSES = weights.config.classes - 1
    model = build_model(settings)
    as_bottom_up_attention(model, weights.config)
    load_into(model, weights)
    return model.eval()


class Detectron2Detector:
    """detectron2 from pixels to features; resizing, scores and selection are those of C4Detector.

    Box deltas and attributes come from the same dense layers, so that a difference to the detector
    butd-d2 is a difference of the networks or of the proposals.
    """

    def __init__(self, name: str, weights: C4Weights) -> None:
        self._model = detectron2_model(weights)
        self._steps = C4Detector(name, weights)
        self.name = name
        self.weights_sha256 = weights.sha256
        self.objects = list(weights.objects)
        self.attributes = list(weights.attributes)
        self.feature_size = FEATURE_SIZE

    @torch.inference_mode()
    def detect(self, images: Sequence[np.ndarray], selection: str) -> list[Regions]:
        """Regions of every image by a rule of c4_selection."""
        rule = c4_selection(selection)
        found = []
        for place, image in enumerate(images):
            prepared = self._steps.prepare(image, place)
            maps = self._model.backbone(prepared.pixels[None].contiguous())
            proposals = self._proposals(prepared, maps)
            features = self._features(maps, proposals)
            found.append(self._steps.chosen(prepared, proposals, features, rule))
        return found

    @torch.inference_mode()
    def features_at(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Features float32 [R, 2048] of given boxes [R, 4] in each image's own pixels."""
        found = []
        for place, (image, own) in enumerate(zip(images, boxes, strict=True)):
            prepared = self._steps.prepare(image, place)
            maps = self._model.backbone(prepared.pixels[None].contiguous())
            given = torch.from_numpy(np.ascontiguousarray(own, dtype=np.float32))
            found.append(self._features(maps, prepared.network_boxes(given)).numpy())
        return found

    def _proposals(self, prepared: Prepared, maps: dict[str, Tensor]) -> Tensor:
        """detectron2's proposals of one image [at most 300, 4]."""
        from detectron2.structures import ImageList

        images = ImageList(prepared.pixels[None], [prepared.size])
        proposals, _ = self._model.proposal_generator(images, maps)
        boxes: Tensor = proposals[0].proposal_boxes.tensor
        return boxes

    def _features(self, maps: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Features [boxes, 2048] of boxes in pixels of the resized image."""
        from detectron2.structures import Boxes

        heads = self._model.roi_heads
        pooled = heads.pooler([maps["res4"]], [Boxes(boxes)])
        features: Tensor = heads.res5(pooled).mean(dim=(2, 3))
        return features

"""The three numeric families of published region detectors, each as one small configuration.

"butd": Bottom-Up Attention in Caffe and its port by MILVLG (Anderson et al., 2018). "butd-d2": the
same network as published again for detectron2 and Hugging Face, with other conventions of boxes.
"vinvl": ResNeXt-152 C4 (Zhang et al., 2021). They are different in dozens of small ways that all
change the numbers; what is not in the configuration is the same in all three.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from trawl.errors import RequestError

DELTA_LIMIT = math.log(1000.0 / 16.0)
"""Largest coded growth of a side in the families that limit it."""

STRIDE = 16
"""Pixels of the resized image in a cell of the maps."""

FEATURE_SIZE = 2048
"""Width of a region's feature: the channels of res5."""

MAP_WIDTH = 1024
"""Channels of the maps: those of res4."""


@dataclass(frozen=True)
class BoxConvention:
    """What a box means in a family, in decoding, clipping and suppression.

    extra: added to a side's length, 1 where x2 and y2 name the last pixel, else 0.
    last_extra: subtracted from x2 and y2 after decoding; 1 only where decoding undoes `extra`.
    limit: largest coded growth of a side, infinity where the original does not limit it.
    suppression_extra: what suppression adds to sides.
    inclusive: suppression also removes at exactly the threshold.
    """

    extra: float
    last_extra: float
    limit: float
    suppression_extra: float
    inclusive: bool


@dataclass(frozen=True)
class ProposalStage:
    """How proposals are chosen: `before` anchors enter suppression, `after` leave it.

    filter_first: clip and drop small boxes before the best anchors are taken (Caffe), not after.
    min_side: least side in pixels of the image before its resizing.
    strict: a side of exactly min_side is too small.
    """

    filter_first: bool
    min_side: float
    strict: bool
    before: int = 6000
    overlap: float = 0.7
    after: int = 300


@dataclass(frozen=True)
class C4Config:
    """A family's network and conventions.

    blocks: bottlenecks of res2 .. res5. width: of res2's 3x3 convolution, doubled each stage.
    caffe_pool: the stem's pooling is unpadded and rounds up. stride_in_3x3: else in the first 1x1.
    norm_epsilon: added to the variances. res5_stride, res5_dilation: of the region head.
    proposal_width: hidden channels of the proposal head. anchors: recipe, see c4_anchors.
    pooling: "max" or "align" (without the half-pixel offset). classes and attributes count the
    background and "none", both index 0; attributes 0 means that the file has no attribute head.
    regression_weights: by which the region head's deltas are divided, as recorded in the file.
    attribute_class: the class fed to the attribute head, "argmax" over all classes with the
    background, or "detected", the reported one. attribute_softmax: over "all" attributes with
    "none" ignored afterwards, or over those "without-none".
    preprocessing: name of the rule in c4_preprocessing.
    """

    family: str
    blocks: tuple[int, int, int, int]
    groups: int
    width: int
    caffe_pool: bool
    stride_in_3x3: bool
    norm_epsilon: float
    res5_stride: int
    res5_dilation: int
    proposal_width: int
    anchors: str
    pooling: str
    classes: int
    attributes: int
    regression_weights: tuple[float, float, float, float]
    attribute_class: str
    attribute_softmax: str
    preprocessing: str
    boxes: BoxConvention
    proposals: ProposalStage
    pooled_side: int = 14
    embedding_size: int = 256
    attribute_width: int = 512

    @property
    def anchors_per_cell(self) -> int:
        """Number of anchors that share a cell."""
        return 15 if self.anchors == "vinvl" else 12

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON writes it; no limit of growth is null."""
        fields = asdict(self)
        if math.isinf(self.boxes.limit):
            fields["boxes"]["limit"] = None
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> C4Config:
        """Rebuild a configuration from JSON; TypeError or KeyError where it is not one."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        limit = fields["boxes"]["limit"]
        boxes = {**fields["boxes"], "limit": math.inf if limit is None else limit}
        plain["boxes"] = BoxConvention(**boxes)
        plain["proposals"] = ProposalStage(**fields["proposals"])
        return cls(**plain)


_CAFFE = C4Config(
    family="butd",
    blocks=(3, 4, 23, 3),
    groups=1,
    width=64,
    caffe_pool=True,
    stride_in_3x3=False,
    norm_epsilon=1e-5,
    res5_stride=1,
    res5_dilation=2,
    proposal_width=512,
    anchors="caffe",
    pooling="max",
    classes=1601,
    attributes=401,
    regression_weights=(1.0, 1.0, 1.0, 1.0),
    attribute_class="argmax",
    attribute_softmax="all",
    preprocessing="butd",
    boxes=BoxConvention(1.0, 0.0, math.inf, 1.0, True),
    proposals=ProposalStage(filter_first=True, min_side=16.0, strict=False),
)

FAMILIES = {
    "butd": _CAFFE,
    "butd-d2": replace(
        _CAFFE,
        family="butd-d2",
        anchors="d2",
        regression_weights=(10.0, 10.0, 5.0, 5.0),
        attribute_softmax="without-none",
        preprocessing="d2",
        boxes=BoxConvention(0.0, 0.0, DELTA_LIMIT, 0.0, False),
        proposals=ProposalStage(filter_first=False, min_side=0.0, strict=True),
    ),
    "vinvl": C4Config(
        family="vinvl",
        blocks=(3, 8, 36, 3),
        groups=32,
        width=256,
        caffe_pool=False,
        stride_in_3x3=True,
        norm_epsilon=0.0,
        res5_stride=2,
        res5_dilation=1,
        proposal_width=1024,
        anchors="vinvl",
        pooling="align",
        classes=1595,
        attributes=525,
        regression_weights=(10.0, 10.0, 5.0, 5.0),
        attribute_class="detected",
        attribute_softmax="all",
        preprocessing="vinvl",
        boxes=BoxConvention(1.0, 1.0, DELTA_LIMIT, 0.0, False),
        proposals=ProposalStage(filter_first=False, min_side=0.0, strict=False),
    ),
}


def family_config(family: str) -> C4Config:
    """Look a family up by name; RequestError lists the known ones."""
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise RequestError(f"detector family {family} is not known; choose one of {known}")
    return FAMILIES[family]

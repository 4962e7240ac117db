"""Floating-point operations of a C4 detector by stage, counted by torch on tensors without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from data_pipeline.detector.c4 import C4Network
from data_pipeline.detector.c4_config import FEATURE_SIZE, MAP_WIDTH, C4Config


@dataclass(frozen=True)
class StageFlops:
    """Operations of one image, a multiplication and an addition counted as two."""

    backbone: int
    proposal_head: int
    res5: int
    classifier: int
    regressor: int
    attributes: int

    @property
    def total(self) -> int:
        """All stages together."""
        dense = self.classifier + self.regressor + self.attributes
        return self.backbone + self.proposal_head + self.res5 + dense


def stage_flops(config: C4Config, height: int, width: int, regions: int) -> StageFlops:
    """Count an image of height x width pixels (resized) with a number of pooled regions.

    Pooling, decoding and suppression do no matrix arithmetic and count nothing.
    """
    with torch.device("meta"):
        network = C4Network(config).eval()
        pixels = torch.empty(1, 3, height, width)
        pooled = torch.empty(regions, MAP_WIDTH, config.pooled_side, config.pooled_side)
        features = torch.empty(regions, FEATURE_SIZE)
        classes = torch.zeros(regions, dtype=torch.int64)
        maps = network.backbone(pixels)
    attributes = network.attributes
    return StageFlops(
        backbone=_counted(network.backbone, pixels),
        proposal_head=_counted(network.proposal_head, maps),
        res5=_counted(network.region_head, pooled),
        classifier=_counted(network.classifier, features),
        regressor=_counted(network.regressor, features),
        attributes=_counted(attributes, features, classes) if attributes else 0,
    )


@torch.inference_mode()
def _counted(stage: Callable[..., Any], *inputs: torch.Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        stage(*inputs)
    return int(counter.get_total_flops())

"""The demo detector's network: a small Faster R-CNN with an attribute head, in plain torch.

Shapes are written for a batch of equally sized images. Every part is a `torch.nn.Module` that
knows nothing of files, labels or selection rules; `inference.py` composes them for use and
`training.py` for learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_pipeline.detector.pooling import pool


@dataclass(frozen=True)
class ArchitectureConfig:
    """Widths and sizes of the network. The file of the weights carries it, so it is complete.

    `object_count` and `attribute_count` leave out the background and the "none" attribute.
    """

    object_count: int
    attribute_count: int
    stem_width: int = 32
    stage_widths: tuple[int, int, int] = (48, 128, 192)
    stage_blocks: tuple[int, int, int] = (1, 2, 2)
    pyramid_width: int = 128
    head_width: int = 256
    head_blocks: int = 2
    feature_size: int = 2048
    embedding_size: int = 64
    attribute_width: int = 128
    anchor_sizes: tuple[float, ...] = (24.0, 48.0, 96.0, 160.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    stride: int = 8
    pooled_side: int = 7

    @property
    def anchors_per_cell(self) -> int:
        """Number of anchors that share one cell of the feature map."""
        return len(self.anchor_sizes) * len(self.anchor_ratios)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ArchitectureConfig:
        """Rebuild a configuration from JSON, where tuples have become lists."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**plain)


class ConvNorm(nn.Module):
    """A convolution followed by batch normalisation; `fold()` merges the two for inference."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
        self.normalisation: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve and normalise. [batch, inputs, H, W] -> [batch, outputs, H/stride, W/stride]."""
        return self.normalisation(self.convolution(maps))

    def fold(self) -> None:
        """Scale the kernel by the frozen statistics, so that the normalisation disappears."""
        normalisation = self.normalisation
        if not isinstance(normalisation, nn.BatchNorm2d):
            return
        mean, variance = normalisation.running_mean, normalisation.running_var
        assert mean is not None
        assert variance is not None
        scale = normalisation.weight / torch.sqrt(variance + normalisation.eps)
        old = self.convolution
        new = nn.Conv2d(
            old.in_channels, old.out_channels, old.kernel_size[0], old.stride[0], old.padding[0]
        )
        with torch.no_grad():
            new.weight.copy_(old.weight * scale[:, None, None, None])
            assert new.bias is not None
            new.bias.copy_(normalisation.bias - mean * scale)
        self.convolution = new
        self.normalisation = nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, as in the 18- and 34-layer residual networks."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, inputs, H, W] -> [batch, outputs, H/stride, W/stride]."""
        inner = self.second(functional.relu(self.first(maps)))
        return functional.relu(inner + self.shortcut(maps))


class BottleneckBlock(nn.Module):
    """A 1x1, 3x3, 1x1 residual block of constant width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(width, width // 2, 1)
        self.middle = ConvNorm(width // 2, width // 2, 3)
        self.widen = ConvNorm(width // 2, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """[regions, width, S, S] -> the same."""
        inner = functional.relu(self.narrow(maps))
        inner = functional.relu(self.middle(inner))
        return functional.relu(maps + self.widen(inner))


class Backbone(nn.Module):
    """Residual stages at strides 4, 8 and 16; the last is merged back into one map at stride 8."""

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        first, second, third = config.stage_widths
        self.stem = ConvNorm(3, config.stem_width, 3, 2)
        self.reduction = ConvNorm(config.stem_width, first, 3, 2)
        self.stage1 = _stage(first, first, config.stage_blocks[0], 1)
        self.stage2 = _stage(first, second, config.stage_blocks[1], 2)
        self.stage3 = _stage(second, third, config.stage_blocks[2], 2)
        self.lateral = ConvNorm(second, config.pyramid_width, 1)
        self.top = ConvNorm(third, config.pyramid_width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] normalised pixels -> [batch, pyramid width, H/8, W/8]."""
        maps = functional.relu(self.stem(pixels))
        maps = self.stage1(functional.relu(self.reduction(maps)))
        eighth = self.stage2(maps)
        sixteenth = self.top(self.stage3(eighth))
        lateral = self.lateral(eighth)
        raised = functional.interpolate(sixteenth, size=lateral.shape[-2:], mode="nearest")
        return functional.relu(lateral + raised)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    layers = [BasicBlock(inputs, outputs, stride)]
    layers += [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


class ProposalHead(nn.Module):
    """The region proposal network's convolutions: one objectness and four deltas an anchor."""

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        width, anchors = config.pyramid_width, config.anchors_per_cell
        self.shared = ConvNorm(width, width, 3)
        self.objectness = nn.Conv2d(width, anchors, 1)
        self.deltas = nn.Conv2d(width, anchors * 4, 1)
        nn.init.normal_(self.objectness.weight, std=0.01)
        nn.init.constant_(_bias(self.objectness), -2.0)
        nn.init.normal_(self.deltas.weight, std=0.01)
        nn.init.zeros_(_bias(self.deltas))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Score every anchor.

        Returns float32 logits [batch, cells * anchors] and deltas [batch, cells * anchors, 4], in
        the order (row, column, anchor) of `anchors.anchor_grid`.
        """
        hidden = functional.relu(self.shared(maps))
        batch = maps.shape[0]
        logits = self.objectness(hidden).permute(0, 2, 3, 1).reshape(batch, -1)
        deltas = self.deltas(hidden).permute(0, 2, 3, 1).reshape(batch, -1, 4)
        return logits.float(), deltas.float()


class RegionHead(nn.Module):
    """Pooled regions to features: a strided convolution, bottlenecks, a mean, one wide layer.

    The mean over space is weighted, and its weights are learned for every channel from equal ones:
    a plain mean forgets on which side of a region an edge lies, which the regressor has to know.
    """

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        self.reduction = ConvNorm(config.pyramid_width, config.head_width, 3, 2)
        self.blocks = nn.Sequential(
            *[BottleneckBlock(config.head_width) for _ in range(config.head_blocks)]
        )
        side = (config.pooled_side + 1) // 2
        self.mean = nn.Parameter(torch.full((config.head_width, side, side), 1 / side**2))
        self.feature = nn.Linear(config.head_width, config.feature_size)

    def forward(self, pooled: Tensor) -> Tensor:
        """[regions, pyramid width, S, S] -> region features [regions, feature size], >= 0."""
        maps = self.blocks(functional.relu(self.reduction(pooled)))
        return functional.relu(self.feature((maps * self.mean).sum(dim=(2, 3))))


class AttributeHead(nn.Module):
    """Attributes read from the feature and an embedding of the class, as bottom-up attention."""

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.object_count + 1, config.embedding_size)
        self.hidden = nn.Linear(config.feature_size + config.embedding_size, config.attribute_width)
        self.score = nn.Linear(config.attribute_width, config.attribute_count + 1)

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Features [regions, size] and classes [regions] (0 background) -> logits, 0 is "none"."""
        joined = torch.cat([features, self.embedding(classes).to(features.dtype)], dim=1)
        return self.score(functional.relu(self.hidden(joined)))


class GuideHead(nn.Module):
    """Classes read off every cell of the map: a second teacher of the backbone, only in training.

    A backbone that starts from random weights learns classes from sampled regions alone too
    slowly; every cell inside an object saying what it belongs to gives a far denser signal.
    """

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        self.classes = nn.Conv2d(config.pyramid_width, config.object_count + 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, pyramid width, H, W] -> float32 logits [batch, objects + 1, H, W]."""
        return self.classes(maps).float()


class FasterRcnn(nn.Module):
    """The whole network. Class 0 is the background and attribute 0 is "none"."""

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_head = ProposalHead(config)
        self.region_head = RegionHead(config)
        self.classifier = nn.Linear(config.feature_size, config.object_count + 1)
        self.regressor = nn.Linear(config.feature_size, 4)
        self.attributes = AttributeHead(config)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.regressor.weight, std=0.001)
        nn.init.zeros_(self.regressor.bias)

    def pool(self, maps: Tensor, boxes: list[Tensor]) -> Tensor:
        """Cut boxes (pixels of the resized image) out of the maps: [regions, width, S, S]."""
        return pool(maps, boxes, self.config.pooled_side, self.config.stride)

    def fold(self) -> None:
        """Fold every batch normalisation into its convolution; only for inference."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias

"""The C4 Faster R-CNN of the published region detectors, in plain torch, driven by `C4Config`.

A residual network up to res4 makes maps at stride 16; the proposal head scores anchors on them;
res5 runs on each pooled region, and its mean over space is the region's feature. Class 0 is the
background, attribute 0 is "none", anchors are ratio-major (see c4_layouts for the files).
Modules know nothing of files, sizes of images or rules of selection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_pipeline.detector.c4_config import FEATURE_SIZE, MAP_WIDTH, C4Config

_STEM_WIDTH = 64


class FrozenNorm(nn.Module):
    """Batch normalisation with fixed statistics; epsilon may be 0, as in maskrcnn-benchmark."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, width, H, W] -> the same."""
        return functional.batch_norm(
            maps,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.epsilon,
        )


class ConvNorm(nn.Module):
    """A convolution without a bias and its frozen normalisation; `fold()` merges the two."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int,
        epsilon: float,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (side // 2)
        self.convolution = nn.Conv2d(
            inputs, outputs, side, stride, padding, dilation, groups, bias=False
        )
        self.normalisation: nn.Module = FrozenNorm(outputs, epsilon)

    @property
    def side(self) -> int:
        """Side of the kernel."""
        return self.convolution.kernel_size[0]

    @property
    def stride(self) -> int:
        """Cells of the input in a cell of the output."""
        return self.convolution.stride[0]

    @property
    def padding(self) -> int:
        """Zeros added on each side of the input."""
        return int(self.convolution.padding[0])

    @property
    def dilation(self) -> int:
        """Cells between the kernel's points."""
        return self.convolution.dilation[0]

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, inputs, H, W] -> [batch, outputs, H', W'], normalised, not yet rectified."""
        return self.normalisation(self.convolution(maps))

    @torch.no_grad()
    def fold(self) -> None:
        """Scale the kernel by the statistics, in float64; the normalisation becomes a bias."""
        norm, old = self.normalisation, self.convolution
        if not isinstance(norm, FrozenNorm):
            return
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.epsilon)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        kernel = old.weight.double() * scale[:, None, None, None]
        old.weight = nn.Parameter(kernel.to(old.weight.dtype), requires_grad=False)
        old.bias = nn.Parameter(bias.to(old.weight.dtype), requires_grad=False)
        self.normalisation = nn.Identity()


class Stem(nn.Module):
    """A 7x7 convolution, rectified, then pooled: stride 4."""

    def __init__(self, config: C4Config) -> None:
        super().__init__()
        self.conv = ConvNorm(3, _STEM_WIDTH, 7, config.norm_epsilon, stride=2)
        self.caffe_pool = config.caffe_pool

    def pool(self, maps: Tensor) -> Tensor:
        """Halve rectified maps by the family's 3x3 maximum: Caffe's rounds the size up."""
        if self.caffe_pool:
            return functional.max_pool2d(maps, 3, 2, 0, ceil_mode=True)
        return functional.max_pool2d(maps, 3, 2, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, H, W] -> [batch, 64, H/4, W/4]."""
        return self.pool(functional.relu(self.conv(pixels)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; `shortcut` is None where the input is added as it is."""

    def __init__(
        self, inputs: int, width: int, outputs: int, stride: int, dilation: int, config: C4Config
    ) -> None:
        super().__init__()
        epsilon = config.norm_epsilon
        first, middle = (1, stride) if config.stride_in_3x3 else (stride, 1)
        self.conv1 = ConvNorm(inputs, width, 1, epsilon, stride=first)
        self.conv2 = ConvNorm(
            width, width, 3, epsilon, stride=middle, dilation=dilation, groups=config.groups
        )
        self.conv3 = ConvNorm(width, outputs, 1, epsilon)
        self.shortcut: ConvNorm | None = None
        if inputs != outputs:
            self.shortcut = ConvNorm(inputs, outputs, 1, epsilon, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, inputs, H, W] -> [batch, outputs, H/stride, W/stride], rectified."""
        inner = functional.relu(self.conv1(maps))
        inner = functional.relu(self.conv2(inner))
        beside = maps if self.shortcut is None else self.shortcut(maps)
        return functional.relu(self.conv3(inner) + beside)


def _stage(number: int, stride: int, dilation: int, config: C4Config) -> nn.Sequential:
    """Make res2 .. res5, `number` counted from 0."""
    inputs = _STEM_WIDTH if number == 0 else 128 << number
    width, outputs = config.width << number, 256 << number
    blocks = [Bottleneck(inputs, width, outputs, stride, dilation, config)]
    blocks += [
        Bottleneck(outputs, width, outputs, 1, dilation, config)
        for _ in range(config.blocks[number] - 1)
    ]
    return nn.Sequential(*blocks)


class ProposalHead(nn.Module):
    """The proposal network's convolutions: one logit and four deltas an anchor."""

    def __init__(self, config: C4Config) -> None:
        super().__init__()
        width, anchors = config.proposal_width, config.anchors_per_cell
        self.hidden = nn.Conv2d(MAP_WIDTH, width, 3, padding=1)
        self.objectness = nn.Conv2d(width, anchors, 1)
        self.deltas = nn.Conv2d(width, anchors * 4, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [B, 1024, h, w] -> float32 logits [B, A, h, w], deltas [B, 4 A, h, w]."""
        hidden = functional.relu(self.hidden(maps))
        return self.objectness(hidden).float(), self.deltas(hidden).float()


class AttributeHead(nn.Module):
    """Attributes read from the feature and an embedding of the class."""

    def __init__(self, config: C4Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.classes, config.embedding_size)
        self.hidden = nn.Linear(FEATURE_SIZE + config.embedding_size, config.attribute_width)
        self.score = nn.Linear(config.attribute_width, config.attributes)

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Features [boxes, 2048], classes [boxes] with background 0 -> logits [boxes, attributes].

        Which class is fed is the family's convention, `config.attribute_class`.
        """
        joined = torch.cat([features, self.embedding(classes).to(features.dtype)], dim=1)
        return self.score(functional.relu(self.hidden(joined)))


class C4Network(nn.Module):
    """The whole network. `attributes` is None where the weights have no attribute head."""

    cell_anchors: Tensor

    def __init__(self, config: C4Config) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config)
        self.res2 = _stage(0, 1, 1, config)
        self.res3 = _stage(1, 2, 1, config)
        self.res4 = _stage(2, 2, 1, config)
        self.res5 = _stage(3, config.res5_stride, config.res5_dilation, config)
        self.proposal_head = ProposalHead(config)
        self.classifier = nn.Linear(FEATURE_SIZE, config.classes)
        self.regressor = nn.Linear(FEATURE_SIZE, config.classes * 4)
        self.attributes = AttributeHead(config) if config.attributes else None
        self.register_buffer("cell_anchors", torch.zeros(config.anchors_per_cell, 4))

    @property
    def stages(self) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
        """res2, res3 and res4: what follows the stem in the backbone."""
        return self.res2, self.res3, self.res4

    def backbone(self, pixels: Tensor) -> Tensor:
        """Normalised BGR pixels [B, 3, H, W] -> maps [B, 1024, h, w]."""
        maps = self.stem(pixels)
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def region_head(self, pooled: Tensor) -> Tensor:
        """Pooled regions [boxes, 1024, 14, 14] -> features [boxes, 2048], none negative."""
        return self.res5(pooled).mean(dim=(2, 3))

    def fold(self) -> None:
        """Fold every normalisation into its convolution; only for inference."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()

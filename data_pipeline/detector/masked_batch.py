"""The backbone on images of different sizes in one batch, each as if it were alone.

Padding with zeros alone is not neutral: normalisation and biases make the padded area non-zero, and
every 3x3 convolution carries it one cell further inwards (34% off in the column next to the edge).
Where a convolution or the pooling reads neighbours, the padded area is therefore set back to zero,
which is what the edge of a single image reads. Batch and single then differ by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from data_pipeline.detector.c4 import Bottleneck, C4Network

Size = tuple[int, int]


def level_sizes(size: Size, *, caffe_pool: bool) -> list[Size]:
    """Valid rows and columns of an image at strides 2, 4, 8 and 16: (height, width) each."""
    levels = [tuple(_halved(side) for side in size)]
    pooled = _caffe_pooled if caffe_pool else _halved
    levels.append(tuple(pooled(side) for side in levels[-1]))
    for _ in range(2):
        levels.append(tuple(_halved(side) for side in levels[-1]))
    return [(rows, columns) for rows, columns in levels]


def _halved(side: int) -> int:
    """Cells after a stride of 2, padded so that the first cell is kept."""
    return (side - 1) // 2 + 1


def _caffe_pooled(side: int) -> int:
    """Cells after Caffe's unpadded 3x3 pooling with stride 2, rounded up."""
    return max(0, -(-(side - 3) // 2)) + 1


def masks(
    sizes: Sequence[Size],
    padded: Size,
    *,
    caffe_pool: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> list[Tensor]:
    """One in an image's cells, zero in its padding, at strides 2 .. 16: [batch, 1, h, w] each."""
    found = []
    whole = level_sizes(padded, caffe_pool=caffe_pool)
    own = [level_sizes(size, caffe_pool=caffe_pool) for size in sizes]
    for level, (height, width) in enumerate(whole):
        rows = torch.tensor([image[level][0] for image in own])[:, None]
        columns = torch.tensor([image[level][1] for image in own])[:, None]
        down = (torch.arange(height) < rows)[:, None, :, None]
        across = (torch.arange(width) < columns)[:, None, None, :]
        found.append((down & across).to(device=device, dtype=dtype))
    return found


def masked_maps(network: C4Network, pixels: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """Maps [batch, 1024, h, w], zero in the padding, of pixels that are zero in theirs."""
    maps = functional.relu(network.stem.conv(pixels)) * levels[0]
    maps = network.stem.pool(maps)
    level = 1
    for stage in network.stages:
        for block in stage:
            assert isinstance(block, Bottleneck)
            maps = _masked_block(block, maps, levels[level:])
            level += _strides(block)
    return maps * levels[level]


def _masked_block(block: Bottleneck, maps: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """A bottleneck whose 3x3 convolution reads zeros from the padding."""
    inner = functional.relu(block.conv1(maps)) * levels[block.conv1.stride - 1]
    inner = functional.relu(block.conv2(inner))
    beside = maps if block.shortcut is None else block.shortcut(maps)
    return functional.relu(block.conv3(inner) + beside)


def _strides(block: Bottleneck) -> int:
    """How many levels the block goes down: 1 with a stride of 2."""
    return block.conv1.stride * block.conv2.stride - 1


def batch_maps(
    network: C4Network,
    pixels: Tensor,
    sizes: Sequence[Size],
    masked: Callable[[C4Network, Tensor, Sequence[Tensor]], Tensor] = masked_maps,
    *,
    always: bool = False,
) -> tuple[Tensor, list[Size]]:
    """Maps of a batch and the valid (rows, columns) of each image.

    Without padding the backbone runs as it is, unless `always`; `masked` may be a compiled form.
    """
    caffe_pool = network.config.caffe_pool
    padded = (pixels.shape[2], pixels.shape[3])
    valid = [level_sizes(size, caffe_pool=caffe_pool)[-1] for size in sizes]
    if not always and all(size == padded for size in sizes):
        return network.backbone(pixels), valid
    levels = masks(sizes, padded, caffe_pool=caffe_pool, dtype=pixels.dtype, device=pixels.device)
    return masked(network, pixels, levels), valid

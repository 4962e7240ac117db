"""res5 of the families that pool by maxima, in float32 on a CPU: less work for the same result.

Regions overlap, and a bin of a small region is a cell or two of the maps: of the 58,800 bins of 300
regions less than a third are different. The first 1x1 convolutions run on these alone. The 3x3
convolutions are Winograd's. Cells that a dilation of 2 keeps apart are kept apart in memory: a
region of 14x14 is four maps of 7x7, on which the convolutions are not dilated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data_pipeline.detector.c4 import Bottleneck, C4Network, ConvNorm
from data_pipeline.detector.roi_pool import Bins, pool_bins
from data_pipeline.detector.winograd import Winograd

_REGIONS = 25
"""At a time, so that their maps stay in a CPU's cache, and products are not too small."""

_TILE = (4, 7)
"""Of 7x7 cells, in two tiles: of these sides the four of 4x4 would need a third more products."""


@dataclass(frozen=True)
class DistinctBins:
    """Pooled regions, each different bin once.

    cells: [distinct bins, channels]; places: int64 [regions, side, side], the row of each bin.
    """

    cells: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.places)


def distinct(cells: Tensor, edges: Bins) -> DistinctBins:
    """Pool the different bins among `edges` of maps [H, W, channels]."""
    size = max(cells.shape[:2]) + 1
    down = (edges.top.long() * size + edges.bottom)[:, :, None]
    across = (edges.left.long() * size + edges.right)[:, None, :]
    keys, places = torch.unique(down * size**2 + across, return_inverse=True)
    each = [keys // size**power % size for power in (3, 2, 1, 0)]
    top, bottom, left, right = (edge.int()[:, None] for edge in each)
    pooled = pool_bins(cells, Bins(top, bottom, left, right))
    return DistinctBins(pooled.flatten(1), places)


@dataclass(frozen=True)
class _Dense:
    """A folded 1x1 convolution: matrix [inputs, outputs] and bias."""

    matrix: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: ConvNorm) -> _Dense:
        convolution = layer.convolution
        assert convolution.bias is not None
        return cls(convolution.weight.detach().flatten(1).t().contiguous(), convolution.bias)

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.addmm(self.bias, rows, self.matrix)


class _Block:
    """The layers of a bottleneck."""

    def __init__(self, block: Bottleneck) -> None:
        middle = block.conv2.convolution
        assert middle.bias is not None
        self.first, self.last = _Dense.of(block.conv1), _Dense.of(block.conv3)
        self.middle = Winograd(middle.weight, middle.bias, _TILE)


class DistinctRegionHead:
    """res5 and the mean over space, of regions given by their different bins."""

    @classmethod
    def of(cls, network: C4Network) -> DistinctRegionHead | None:
        """Take res5 of a folded network in float32; None if its convolutions are of another kind.

        They must have a stride of 1 and no groups, and regions must be pooled by maxima: those of
        an RoIAlign share no bins.
        """
        config = network.config
        kept_apart = config.pooled_side % config.res5_dilation == 0
        plain = config.pooling == "max" and config.res5_stride == 1 and config.groups == 1
        return cls(network.res5, config.res5_dilation) if plain and kept_apart else None

    @torch.no_grad()
    def __init__(self, res5: nn.Sequential, dilation: int) -> None:
        blocks = [block for block in res5 if isinstance(block, Bottleneck)]
        assert blocks[0].shortcut is not None
        self._dilation = dilation
        self._blocks = [_Block(block) for block in blocks]
        self._shortcut = _Dense.of(blocks[0].shortcut)

    def __call__(self, bins: DistinctBins) -> Tensor:
        """Return features [regions, 2048]."""
        if not len(bins):
            return bins.cells.new_zeros(0, len(self._shortcut.bias))
        inner, beside = self._blocks[0].first(bins.cells).relu_(), self._shortcut(bins.cells)
        side, step = bins.places.shape[1], self._dilation
        apart = bins.places.view(-1, side // step, step, side // step, step)
        places = apart.permute(0, 2, 4, 1, 3).flatten(0, 2)  # [maps, rows, columns]
        parts = places.split(_REGIONS * step**2)
        return torch.cat([self._features(part, inner, beside) for part in parts])

    def _features(self, places: Tensor, inner: Tensor, beside: Tensor) -> Tensor:
        """Return the features of some regions, from what was computed for the different bins."""
        rows = places.flatten()
        narrow, wide = inner.index_select(0, rows), beside.index_select(0, rows)
        for number, block in enumerate(self._blocks):
            if number:
                narrow = block.first(wide).relu_()
            narrow = block.middle(narrow.view(*places.shape, -1)).relu_().flatten(0, 2)
            wide.add_(block.last.bias).addmm_(narrow, block.last.matrix).relu_()
        cells = places[0].numel() * self._dilation**2  # of a region
        return wide.view(-1, cells, wide.shape[1]).mean(dim=1)

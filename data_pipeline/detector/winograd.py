"""3x3 convolutions in a quarter of the multiplications, for float32 on a CPU.

Winograd's minimal filtering (Lavin and Gray, "Fast algorithms for convolutional neural networks",
2016, section 4): kernels and tiles of the input are transformed, each place of a transformed tile
is one matrix product, and the results are transformed to tiles of the output. The transforms are
Toom and Cook's, at the points that round best (Barabasz et al., "Error analysis and improving the
accuracy of Winograd convolution", 2018). The result is that of the convolution but for rounding: of
the largest value, 2e-6 with tiles of 4x4 and 4e-5 with 4x7, against 1e-6 without.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KERNEL = 3
_POINTS = {4: (0.0, 1.0, -1.0, 0.5, -2.0), 7: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4.0)}
"""By the outputs of a tile along an axis: where polynomials are evaluated, infinity besides."""

_ONE = 1
"""Number of the point 1: what a tile has there is added to all of its outputs."""

_LEAST_WIDTH = 128
"""Channels below which the transforms cost more than the products save."""


def _transforms(outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the transforms along an axis: of the input, of the kernel and of the result, float64.

    With n = outputs + 2: [n, n], [n, 3] and [outputs, n].
    """
    points = torch.tensor(_POINTS[outputs], dtype=torch.float64)
    count = len(points) + 1

    def powers(most: int) -> Tensor:
        last = torch.eye(most, dtype=torch.float64)[-1:]  # infinity
        return torch.cat([points[:, None] ** torch.arange(most), last])

    into = torch.linalg.inv(powers(count)).t()
    # Powers of two change no digit, and numbers of like size lose fewer.
    scale = 2.0 ** into.abs().amax(dim=1, keepdim=True).log2().round()
    return into / scale, powers(_KERNEL) * scale, powers(outputs).t()


class Winograd:
    """A 3x3 convolution with stride 1, zeros around and a bias, on maps with channels last."""

    def __init__(self, kernel: Tensor, bias: Tensor, tile: tuple[int, int] = (4, 4)) -> None:
        """Take kernel [outputs, inputs, 3, 3] and bias [outputs], float32.

        tile: rows and columns of the output, each 4 or 7, that are computed together.
        """
        self.tile = tile
        rows, columns = (_transforms(side) for side in tile)
        place = torch.kron(rows[1], columns[1])
        flat = kernel.detach().double().flatten(2).permute(2, 1, 0)  # [9, inputs, outputs]
        self._kernel = torch.tensordot(place, flat, dims=1).float()  # [places, inputs, outputs]
        self._bias = bias.detach()
        self._ones = _ONE * (tile[1] + _KERNEL - 1) + _ONE
        self._into, self._out = (
            (rows[step].float().contiguous(), columns[step].float().contiguous()) for step in (0, 2)
        )

    def __call__(self, cells: Tensor) -> Tensor:
        """[batch, height, width, inputs] -> [batch, height, width, outputs], contiguous."""
        batch, height, width, inputs = cells.shape
        rows, columns = self.tile
        down, across = -(-height // rows), -(-width // columns)
        places = _transformed(self._into, _tiles(cells, self.tile, down, across))
        products = torch.bmm(places.view(len(self._kernel), -1, inputs), self._kernel)
        products[self._ones] += self._bias
        results = _transformed(self._out, products)
        grid = results.view(rows, columns, batch, down, across, -1).permute(2, 3, 0, 4, 1, 5)
        whole = grid.reshape(batch, down * rows, across * columns, -1)
        return whole[:, :height, :width].contiguous()


def _transformed(transforms: tuple[Tensor, Tensor], tiles: Tensor) -> Tensor:
    """Transform the rows and the columns of tiles, whose cells' places are outermost in memory."""
    down, across = transforms
    halfway = torch.mm(down, tiles.reshape(down.shape[1], -1))
    return torch.matmul(across, halfway.view(len(down), across.shape[1], -1))


def _tiles(cells: Tensor, tile: tuple[int, int], down: int, across: int) -> Tensor:
    """Return the cells that each tile reads, by their places: [places, batch * tiles * inputs]."""
    batch, height, width, inputs = cells.shape
    rows, columns = tile
    edge = _KERNEL - 1
    padded = cells.new_zeros(batch, down * rows + edge, across * columns + edge, inputs)
    padded[:, 1 : height + 1, 1 : width + 1] = cells
    image, row, column, _ = padded.stride()
    size = (rows + edge, columns + edge, batch, down, across, inputs)
    read = padded.as_strided(size, (row, column, image, rows * row, columns * column, 1))
    return read.reshape(size[0] * size[1], -1)


class WinogradConv2d(nn.Conv2d):
    """A convolution of torch's that computes so; `of` makes it from one that may."""

    _fast: Winograd

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> nn.Conv2d:
        """Return `convolution` as one of this kind, or itself where that is not possible or slower.

        Its weights are copied: they must not change any more.
        """
        kind = (convolution.kernel_size, convolution.stride, convolution.padding)
        plain = kind == ((3, 3), (1, 1), (1, 1)) and convolution.dilation == (1, 1)
        wide = convolution.in_channels >= _LEAST_WIDTH and convolution.groups == 1
        if not plain or not wide or convolution.bias is None:
            return convolution
        # Without memory or drawn numbers: its weights follow.
        channels = (convolution.in_channels, convolution.out_channels)
        made = cls(*channels, 3, padding=1, device="meta")
        made.weight, made.bias = convolution.weight, convolution.bias
        made._fast = Winograd(convolution.weight, convolution.bias)
        return made

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, inputs, H, W] -> [batch, outputs, H, W], channels last in memory."""
        return self._fast(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

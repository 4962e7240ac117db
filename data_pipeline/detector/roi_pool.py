"""RoI maximum pooling and the older RoIAlign, as the published C4 detectors cut regions from maps.

`pool` is exact in any floating type, takes any number of regions and keeps no indices of the
maxima: on a GPU it is the kernel of `roi_pool_kernel`, elsewhere a table of maxima over windows of
1, 2, 4 .. cells, of which four cover any bin. `pool_plain` reads every bin cell by cell; tests hold
it to torchvision.ops.roi_pool, and both paths to it, without any difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import roi_align

from data_pipeline.detector.kernels import chosen

_CHUNK = 784
"""Bins pooled at a time on a CPU: what is gathered for them stays in the cache."""

_ALIGN_CHUNK = 4096
"""Regions aligned at a time: torchvision counts elements in 32 bits."""


@dataclass(frozen=True)
class Bins:
    """First and past-the-last cells of every region's bins, int32 [regions, side] each."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


def bins(boxes: Tensor, side: int, stride: int, height: int, width: int) -> Bins:
    """Cells of the bins of float32 boxes [regions, 4], pixels of the image, on maps of that size.

    As Caffe's ROIPooling: corners rounded to cells half away from zero, the last cell belongs to
    the region, bins rounded outwards; all in float32, so that ties fall as they do there.
    """
    corners = _round_away(boxes.float() * (1.0 / stride))
    top, bottom = _edges(corners[:, 1], corners[:, 3], side, height)
    left, right = _edges(corners[:, 0], corners[:, 2], side, width)
    return Bins(top, bottom, left, right)


def _round_away(values: Tensor) -> Tensor:
    """Round half away from zero, as C; adding a half would round the largest number under it up."""
    whole = values.trunc()
    return whole + values.sign() * ((values - whole).abs() >= 0.5)


def _edges(first: Tensor, last: Tensor, side: int, cells: int) -> tuple[Tensor, Tensor]:
    """First and past-the-last cells along one axis, cut to the map: int32 [regions, side]."""
    length = (last - first + 1).clamp(min=1) / side
    steps = torch.arange(side + 1, dtype=torch.float32, device=first.device)
    start = (steps[:-1] * length[:, None]).floor() + first[:, None]
    end = (steps[1:] * length[:, None]).ceil() + first[:, None]
    return start.clamp(0, cells).int(), end.clamp(0, cells).int()


def pool_plain(maps: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
    """Maximum of every bin of one image, cell by cell: the reference.

    Maps [channels, H, W], boxes [regions, 4] give [regions, channels, side, side]; empty bins 0.
    """
    edges = bins(boxes, side, stride, maps.shape[1], maps.shape[2])
    pooled = maps.new_zeros(len(boxes), maps.shape[0], side, side)
    for region in range(len(boxes)):
        for row in range(side):
            for column in range(side):
                window = maps[
                    :,
                    edges.top[region, row] : edges.bottom[region, row],
                    edges.left[region, column] : edges.right[region, column],
                ]
                if window.numel():
                    pooled[region, :, row, column] = window.amax(dim=(1, 2))
    return pooled


def pool(maps: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
    """What `pool_plain` gives, fast, channels last in memory."""
    edges = bins(boxes, side, stride, maps.shape[1], maps.shape[2])
    cells = maps.permute(1, 2, 0).contiguous()  # [H, W, channels]
    if maps.is_cuda:
        if chosen("roi_pool") == "cuda-c++" and fits(cells):
            from data_pipeline.detector.roi_pool_cuda import pool_by_cuda

            return pool_by_cuda(cells, edges)
        from data_pipeline.detector.roi_pool_kernel import pool_by_kernel

        return pool_by_kernel(cells, edges)
    return pool_bins(cells, edges).permute(0, 3, 1, 2)


def pool_bins(cells: Tensor, edges: Bins) -> Tensor:
    """Maximum of every bin on a CPU: cells [H, W, channels] -> [regions, side, side, channels]."""
    height, width, channels = cells.shape
    regions, side = edges.top.shape
    pooled = cells.new_empty(regions, side, side, channels)
    if not regions:
        return pooled
    down = _Windows(edges.top, edges.bottom, width)
    across = _Windows(edges.left, edges.right, 1)
    tables = _tables(cells, down.levels, across.levels)  # [tables * H * W, channels]
    table = (down.level[:, :, None] * across.levels + across.level[:, None, :]) * (height * width)
    empty = down.empty[:, :, None] | across.empty[:, None, :]  # [regions, side, side]
    chunk = max(1, _CHUNK // side**2)
    for start in range(0, regions, chunk):
        part = slice(start, start + chunk)
        found: Tensor | None = None
        for rows in (down.low, down.high):
            for columns in (across.low, across.high):
                places = table[part] + rows[part, :, None] + columns[part, None, :]
                values = tables.index_select(0, places.flatten())
                found = values if found is None else torch.maximum(found, values, out=found)
        assert found is not None
        pooled[part] = found.view(pooled[part].shape)
    pooled[empty] = 0
    return pooled


class _Windows:
    """Along one axis, the two windows of a power of two that cover each bin: [regions, side]."""

    def __init__(self, first: Tensor, last: Tensor, step: int) -> None:
        lengths = (last - first).clamp(min=0)
        self.empty = lengths == 0
        longest = max(1, int(lengths.max()))
        self.levels = longest.bit_length()
        powers = 2 ** torch.arange(1, self.levels + 1, device=lengths.device)
        self.level = (lengths[..., None] >= powers).sum(dim=2)
        cells = first.long().masked_fill(self.empty, 0)
        self.low = cells * step
        reach = (last - 2**self.level).long().masked_fill(self.empty, 0)
        self.high = reach * step


def _tables(cells: Tensor, down: int, across: int) -> Tensor:
    """Maxima over 2^i rows and 2^j columns from each cell on: [tables * H * W, channels]."""
    height, width, channels = cells.shape
    tables = cells.new_empty(down, across, height, width, channels)
    tables[0, 0] = cells
    for level in range(1, down):
        _widen(tables[level, 0], tables[level - 1, 0], 0, 1 << (level - 1))
    for level in range(1, across):
        for row in range(down):
            _widen(tables[row, level], tables[row, level - 1], 1, 1 << (level - 1))
    return tables.view(-1, channels)


def _widen(new: Tensor, old: Tensor, axis: int, step: int) -> None:
    """Join each window with the next: new[i] = max(old[i], old[i + step]); rims keep their own."""
    new.copy_(old)
    length = old.shape[axis] - step
    if length > 0:
        inner = new.narrow(axis, 0, length)
        torch.maximum(old.narrow(axis, 0, length), old.narrow(axis, step, length), out=inner)


def fits(cells: Tensor) -> bool:
    """Return whether the CUDA C++ takes maps of this type with so many channels, which lie last."""
    return cells.dtype in (torch.float32, torch.bfloat16) and cells.shape[-1] % 4 == 0


def align(maps: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
    """RoIAlign without the half-pixel offset and with adaptive sampling, of one image.

    Maps [channels, H, W], boxes [regions, 4] give [regions, channels, side, side] in the maps'
    type, computed in float32: torchvision has no other on a CPU.
    """
    if maps.is_cuda and chosen("roi_align") == "cuda-c++" and fits(cells := maps.permute(1, 2, 0)):
        from data_pipeline.detector.roi_pool_cuda import align_by_cuda

        return align_by_cuda(cells, boxes, side, stride)
    plain = maps.float()[None].contiguous()
    parts = [
        roi_align(plain, [part.float()], side, 1.0 / stride, sampling_ratio=0, aligned=False)
        for part in boxes.split(_ALIGN_CHUNK)
    ]
    return torch.cat(parts).to(maps.dtype, memory_format=torch.channels_last)

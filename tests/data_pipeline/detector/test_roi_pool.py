"""RoI pooling: the plain twin against torchvision, the fast paths against the plain twin."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from data_pipeline.detector.roi_pool import align, bins, pool, pool_plain

SIDE, STRIDE = 14, 16


def drawn(seed: int, count: int, height: int, width: int) -> Tensor:
    """Boxes of all sizes, some over the edge, some on rounding ties, some of no area."""
    chance = torch.Generator().manual_seed(seed)
    extent = torch.tensor([width * STRIDE, height * STRIDE])
    corner = torch.rand(count, 2, generator=chance) * extent
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=chance) ** 3 * extent], 1)
    boxes[::4] = (boxes[::4] / 8).round() * 8
    boxes[1::5, 2:] = boxes[1::5, :2]
    boxes[2::7] -= 40
    return boxes


def maps(seed: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(7, 13), (38, 20), (1, 1), (3, 40)])
def test_the_plain_twin_is_torchvision(height: int, width: int) -> None:
    cells, boxes = maps(1, 3, height, width), drawn(2, 12, height, width)
    expected = roi_pool(cells[None], [boxes], SIDE, 1 / STRIDE)
    assert torch.equal(pool_plain(cells, boxes, SIDE, STRIDE), expected)


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16, torch.float64])
def test_the_fast_path_is_the_plain_twin(number: torch.dtype) -> None:
    cells, boxes = maps(3, 5, 19, 30).to(number), drawn(4, 20, 19, 30)
    pooled = pool(cells, boxes, SIDE, STRIDE)
    assert pooled.dtype == number
    assert torch.equal(pooled, pool_plain(cells, boxes, SIDE, STRIDE))
    assert pooled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [0, 1, 3, 301, 2000])
def test_any_number_of_regions(count: int) -> None:
    cells, boxes = maps(5, 4, 38, 63), drawn(6, count, 38, 63)
    expected = roi_pool(cells[None], [boxes], SIDE, 1 / STRIDE)
    assert torch.equal(pool(cells, boxes, SIDE, STRIDE), expected)


def test_rounding_is_away_from_zero_on_ties_and_nowhere_else() -> None:
    below = torch.nextafter(torch.tensor(8.0), torch.tensor(0.0))
    boxes = torch.tensor([[8.0, 24.0, 88.0, 104.0], [-8.0, -24.0, 40.0, 40.0]])
    boxes = torch.cat([boxes, torch.stack([below, below, below * 5, below * 5])[None]])
    edges = bins(boxes, 1, STRIDE, 100, 100)
    assert edges.left[:, 0].tolist() == [1, 0, 0]
    assert edges.top[:, 0].tolist() == [2, 0, 0]
    assert edges.right[:, 0].tolist() == [7, 4, 3]


def test_align_is_torchvisions_older_form() -> None:
    cells, boxes = maps(7, 6, 19, 30), drawn(8, 15, 19, 30)
    expected = roi_align(cells[None], [boxes], SIDE, 1 / STRIDE, sampling_ratio=0, aligned=False)
    assert torch.equal(align(cells, boxes, SIDE, STRIDE), expected)
    assert align(cells.bfloat16(), boxes, SIDE, STRIDE).dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_on_a_gpu_is_the_plain_twin() -> None:
    cells, boxes = maps(11, 1024, 38, 63).cuda(), drawn(12, 12_000, 38, 63).cuda()
    expected = torch.cat(
        [roi_pool(cells[None], [part], SIDE, 1 / STRIDE) for part in boxes[:1000].split(500)]
    )
    assert torch.equal(pool(cells, boxes, SIDE, STRIDE)[:1000], expected)
    assert torch.equal(pool(cells.bfloat16(), boxes[:1000], SIDE, STRIDE), expected.bfloat16())

"""Winograd's 3x3 convolution against torch's, in float64 for the truth."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from data_pipeline.detector.winograd import Winograd, WinogradConv2d


@pytest.mark.parametrize("size", [(7, 7), (4, 4), (1, 1), (5, 9), (14, 3)])
@pytest.mark.parametrize(
    ("inputs", "tile", "bound"), [(1, (4, 4), 5e-6), (24, (4, 4), 5e-6), (24, (4, 7), 1e-4)]
)
def test_it_is_the_convolution(
    size: tuple[int, int], inputs: int, tile: tuple[int, int], bound: float
) -> None:
    chance = torch.Generator().manual_seed(size[0] * 100 + inputs)
    maps = torch.randn(3, inputs, *size, generator=chance)
    kernel = torch.randn(16, inputs, 3, 3, generator=chance)
    bias = torch.randn(16, generator=chance)
    found = Winograd(kernel, bias, tile)(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    expected = functional.conv2d(maps.double(), kernel.double(), bias.double(), padding=1)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < bound


def test_a_wide_plain_convolution_is_replaced_and_no_other() -> None:
    wide = nn.Conv2d(128, 8, 3, padding=1)
    made = WinogradConv2d.of(wide)
    maps = torch.randn(2, 128, 6, 11).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, found = wide(maps), made(maps)
    assert made is not wide
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    for other in (
        nn.Conv2d(64, 8, 3, padding=1),
        nn.Conv2d(128, 8, 3),
        nn.Conv2d(128, 8, 3, padding=1, stride=2),
        nn.Conv2d(128, 8, 3, padding=2, dilation=2),
        nn.Conv2d(128, 8, 3, padding=1, groups=8),
        nn.Conv2d(128, 8, 3, padding=1, bias=False),
        nn.Conv2d(128, 8, 1),
    ):
        assert WinogradConv2d.of(other) is other

"""Images of different sizes in one batch against each alone, at the full widths."""

import pytest
import torch
from torch import Tensor

from data_pipeline.detector.c4 import C4Network
from data_pipeline.detector.masked_batch import batch_maps, level_sizes
from tests.data_pipeline.detector.random_c4 import random_weights

SIZES = [(97, 161), (128, 104), (64, 176)]
PADDED = (128, 176)


def _images() -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, *size, generator=chance) * 255 - 110 for size in SIZES]


def _padded() -> Tensor:
    batch = torch.zeros(len(SIZES), 3, *PADDED)
    for row, image in enumerate(_images()):
        batch[row, :, : image.shape[2], : image.shape[3]] = image[0]
    return batch


def _worst(maps: Tensor, valid: list[tuple[int, int]], network: C4Network) -> float:
    """Largest error of any image's cells, relative to the largest of its cells."""
    worst = 0.0
    for row, image in enumerate(_images()):
        alone = network.backbone(image)[0]
        rows, columns = valid[row]
        assert alone.shape[1:] == (rows, columns)
        error = (maps[row, :, :rows, :columns] - alone).abs().max() / alone.abs().max()
        worst = max(worst, float(error))
    return worst


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("family", ["butd", "vinvl"])
@torch.inference_mode()
def test_a_masked_batch_is_each_image_alone(family: str, folded: bool) -> None:
    network = random_weights(family).network()
    if folded:
        network.fold()
    maps, valid = batch_maps(network, _padded(), SIZES)
    assert _worst(maps, valid, network) < 1e-5
    for row, (rows, columns) in enumerate(valid):
        assert not maps[row, :, rows:].any()
        assert not maps[row, :, :, columns:].any()


@torch.inference_mode()
def test_padding_alone_would_not_be_neutral() -> None:
    network = random_weights("butd").network()
    naive = network.backbone(_padded())
    valid = [level_sizes(size, caffe_pool=True)[-1] for size in SIZES]
    assert _worst(naive, valid, network) > 1e-2


@pytest.mark.parametrize("caffe_pool", [False, True])
def test_level_sizes_are_those_of_the_layers(caffe_pool: bool) -> None:
    for side in [*range(3, 70), 599, 600, 1000]:
        line = torch.zeros(1, 1, side, 9)
        stem = torch.nn.functional.conv2d(line, torch.zeros(1, 1, 7, 7), stride=2, padding=3)
        padding = 0 if caffe_pool else 1
        found = [stem.shape[2]]
        if caffe_pool and found[0] < 2:
            continue
        maps = torch.nn.functional.max_pool2d(stem, 3, 2, padding, ceil_mode=caffe_pool)
        found.append(maps.shape[2])
        for _ in range(2):
            maps = torch.nn.functional.conv2d(maps, torch.zeros(1, 1, 1, 1), stride=2)
            found.append(maps.shape[2])
        sizes = level_sizes((side, 9), caffe_pool=caffe_pool)
        assert [rows for rows, _ in sizes] == found

"""res5 on different bins against the network's own on every region, at the full width."""

from dataclasses import replace

import torch

from data_pipeline.detector.c4_region_head import DistinctRegionHead, distinct
from data_pipeline.detector.roi_pool import bins, pool
from tests.data_pipeline.detector.random_c4 import random_weights

SIDE, STRIDE = 14, 16
BOXES = torch.tensor(
    [
        [0.0, 0.0, 40.0, 60.0],
        [3.0, 2.0, 41.0, 63.0],  # the same cells as the first but for some
        [100.0, 50.0, 399.0, 299.0],
        [100.0, 50.0, 399.0, 299.0],
        [390.0, 290.0, 420.0, 330.0],  # over the edge
        [500.0, 400.0, 600.0, 500.0],  # outside
        [0.0, 0.0, 399.0, 299.0],
    ]
)


def test_features_are_those_of_every_region_alone() -> None:
    network = random_weights("butd").network()
    network.fold()
    head = DistinctRegionHead.of(network)
    assert head is not None
    maps = torch.relu(torch.randn(1024, 19, 25, generator=torch.Generator().manual_seed(1)))
    pooled = pool(maps, BOXES, SIDE, STRIDE)
    found = distinct(maps.permute(1, 2, 0), bins(BOXES, SIDE, STRIDE, 19, 25))
    rows = found.cells[found.places].permute(0, 3, 1, 2)
    assert torch.equal(rows, pooled)
    assert len(found.cells) < 0.6 * found.places.numel()
    with torch.inference_mode():
        expected, features = network.region_head(pooled), head(found)
    assert float((features - expected).abs().max() / expected.abs().max()) < 1e-5


def test_other_kinds_of_region_heads_are_left_alone() -> None:
    network = random_weights("butd").network()
    for change in ({"pooling": "align"}, {"res5_stride": 2}, {"groups": 32}, {"pooled_side": 7}):
        network.config = replace(random_weights("butd").config, **change)
        assert DistinctRegionHead.of(network) is None

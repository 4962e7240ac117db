"""Batches of nearly one shape: every image once, padding enough and little."""

import numpy as np
import pytest

from data_pipeline.detector.buckets import STEP, Batch, plan, waste


def drawn(count: int) -> list[tuple[int, int]]:
    """Resized shapes with the short side at 600, in both orientations."""
    chance = np.random.default_rng(0)
    longs = chance.integers(600, 1001, count).tolist()
    return [(600, long) if chance.random() < 0.7 else (long, 600) for long in longs]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("most", [1, 4, 16])
def test_every_image_once_and_no_image_cut(fixed: bool, most: int) -> None:
    sizes = drawn(333)
    batches = plan(sizes, most, fixed=fixed)
    assert sorted(place for batch in batches for place in batch.members) == list(range(333))
    for batch in batches:
        assert 1 <= len(batch.members) <= most
        for place in batch.members:
            assert sizes[place][0] <= batch.height < sizes[place][0] + STEP
            assert sizes[place][1] <= batch.width < sizes[place][1] + STEP


def test_padding_costs_little_and_one_image_costs_none() -> None:
    sizes = drawn(1000)
    assert waste(sizes, plan(sizes, 1)) == 0.0
    assert waste(sizes, plan(sizes, 16)) < 0.02
    assert waste(sizes, plan(sizes, 16, fixed=True)) < 0.04
    everything = [Batch(tuple(range(1000)), 1000, 1000)]
    assert waste(sizes, everything) > 0.4


def test_fixed_shapes_are_few() -> None:
    sizes = drawn(1000)
    assert len({(batch.height, batch.width) for batch in plan(sizes, 16, fixed=True)}) <= 17


def test_no_images_are_no_batches() -> None:
    assert plan([], 4) == []
    assert waste([], []) == 0.0

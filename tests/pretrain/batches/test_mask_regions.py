"""The corruption of regions, counted over more than 1e5 of them."""

import numpy as np
import pytest

from pretrain.batches.mask_regions import mask_regions
from trawl.chance import generator

REGIONS = 200_000


def ones() -> np.ndarray:
    return np.ones((REGIONS, 2), dtype=np.float32)


def test_imagebert_and_vilbert_zero_nine_of_ten() -> None:
    features = ones()
    corrupted, places = mask_regions(features, generator("regions", 0), 0.15, 0.9)
    assert len(places) / REGIONS == pytest.approx(0.15, abs=0.003)
    assert (corrupted[places] == 0).all(axis=1).mean() == pytest.approx(0.9, abs=0.006)
    assert (corrupted[places] == 1).all(axis=1).mean() == pytest.approx(0.1, abs=0.006)
    assert np.all(np.delete(corrupted, places, axis=0) == 1)
    assert np.all(features == 1)
    assert places.tolist() == sorted(places.tolist())


def test_lxmert_splits_80_10_10() -> None:
    corrupted, places = mask_regions(
        ones(),
        generator("regions", 1),
        0.15,
        0.8,
        0.1,
        lambda draw: np.array([7, draw], dtype=np.float32),
    )
    chosen = corrupted[places]
    assert (chosen[:, 0] == 0).mean() == pytest.approx(0.8, abs=0.008)
    assert (chosen[:, 0] == 7).mean() == pytest.approx(0.1, abs=0.006)
    assert (chosen[:, 0] == 1).mean() == pytest.approx(0.1, abs=0.006)
    draws = chosen[chosen[:, 0] == 7, 1]
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    assert np.unique(draws).size > 0.99 * draws.size


def test_the_draws_depend_on_the_count_of_regions_alone() -> None:
    features = generator("features", 0).normal(size=(50, 3)).astype(np.float32)
    whole, places = mask_regions(features, generator("regions", 2), 0.5, 0.9)
    again, same = mask_regions(features + 1, generator("regions", 2), 0.5, 0.9)
    assert places.tolist() == same.tolist()
    assert ((whole == 0).all(axis=1) == (again == 0).all(axis=1)).all()


def test_random_features_must_come_from_somewhere() -> None:
    with pytest.raises(ValueError, match="needs random_feature"):
        mask_regions(ones(), generator("regions", 3), 0.15, 0.8, 0.1)


def test_no_regions_are_no_masks() -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    corrupted, places = mask_regions(empty, generator("regions", 4), 0.15, 0.9)
    assert corrupted.shape == (0, 4)
    assert len(places) == 0

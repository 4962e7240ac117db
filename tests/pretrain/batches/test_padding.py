"""Rows of different length side by side."""

import numpy as np
import pytest

from pretrain.batches.padding import flattened, padded


@pytest.mark.parametrize(("least", "width"), [(0, 3), (2, 3), (5, 5)])
def test_rows_are_filled_to_the_longest_and_to_what_is_asked(least: int, width: int) -> None:
    rows = [np.array([1, 2, 3]), np.array([], dtype=np.int64), np.array([4])]
    joined, mask = padded(rows, least, filler=9)
    more = width - 3
    assert joined.tolist() == [[1, 2, 3] + [9] * more, [9] * width, [4] + [9] * (width - 1)]
    assert mask.sum(1).tolist() == [3, 0, 1]
    assert ((joined != 9) == (mask == 1)).all()
    assert joined.dtype == np.int64


def test_rows_may_hold_vectors() -> None:
    joined, mask = padded([np.ones((2, 3), dtype=np.float32), np.ones((1, 3), np.float32)], 1)
    assert joined.shape == (2, 2, 3)
    assert joined.dtype == np.float32
    assert not joined[1, 1].any()
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_places_count_through_the_rows() -> None:
    columns = [np.array([0, 4]), np.array([], dtype=np.intp), np.array([2])]
    assert flattened(columns, 5).tolist() == [0, 4, 12]
    assert flattened([], 5).dtype == np.int64

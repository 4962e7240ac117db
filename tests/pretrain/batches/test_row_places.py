"""Rows of different length side by side and end to end."""

import numpy as np
import pytest

from pretrain.batches.row_places import RowPlaces, sight

COUNTS = (3, 0, 4)
TEXTS = [np.array([1, 2, 3]), np.array([], dtype=np.int64), np.array([4, 5, 6, 7])]


def test_places_of_padded_and_packed_rows() -> None:
    padded, packed = RowPlaces.of(COUNTS, 5), RowPlaces.of(COUNTS, None)
    assert (padded.total, packed.total) == (15, 7)
    assert packed.starts.tolist() == [0, 3, 3]
    assert padded.mask().sum(1).tolist() == list(COUNTS)
    flat = np.arange(15)
    assert padded.shaped(flat).shape == (3, 5)
    assert packed.shaped(flat[:7]).shape == (1, 7)
    assert packed.row_of_each().tolist() == [0, 0, 0, 2, 2, 2, 2]
    assert sight(packed, packed)["row_lengths"].tolist() == [[3, 0, 4]] * 2
    assert sight(padded, padded)["attention_mask"].shape == (3, 10)


def test_a_packed_row_may_have_places_that_it_does_not_fill() -> None:
    places = RowPlaces.of(COUNTS, None, least=1)
    assert places.lengths.tolist() == [3, 1, 4]
    assert places.counts.tolist() == list(COUNTS)
    assert places.laid(TEXTS, 9).tolist() == [[1, 2, 3, 9, 4, 5, 6, 7]]
    assert places.row_of_each().tolist() == [0, 0, 0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("width", [4, 6])
def test_rows_are_filled_to_what_is_asked(width: int) -> None:
    places = RowPlaces.of(COUNTS, width)
    joined = places.laid(TEXTS, filler=9)
    more = [9] * (width - 4)
    assert joined.tolist() == [[1, 2, 3, 9, *more], [9] * width, [4, 5, 6, 7, *more]]
    assert ((joined != 9) == (places.mask() == 1)).all()
    assert joined.dtype == np.int64


@pytest.mark.parametrize(("width", "expected"), [(5, [0, 4, 12]), (None, [0, 4, 5])])
def test_places_count_through_the_rows(width: int | None, expected: list[int]) -> None:
    columns = [np.array([0, 4]), np.array([], dtype=np.intp), np.array([2])]
    assert RowPlaces.of(COUNTS, width).flattened(columns).tolist() == expected
    nothing = RowPlaces.of((), width).flattened([])
    assert nothing.dtype == np.int64

"""Locations of boxes, against numbers written down."""

import numpy as np
import pytest

from pretrain.batches.geometry import locations

BOXES = np.array([[20, 10, 60, 40], [0, 0, 200, 100]], dtype=np.float32)
CORNERS, AREA, SIDES = [0.1, 0.1, 0.3, 0.4], [0.06], [0.2, 0.3]


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        (4, CORNERS),
        (5, CORNERS + AREA),
        (6, CORNERS + SIDES),
        (7, CORNERS + SIDES + AREA),
    ],
)
def test_locations_are_shares_of_the_image(numbers: int, first: list[float]) -> None:
    found = locations(BOXES, 200, 100, numbers)
    assert found.dtype == np.float32
    assert found[0].tolist() == pytest.approx(first)
    whole = [0, 0, 1, 1] + [1] * (numbers - 4)
    assert found[1].tolist() == whole


def test_no_boxes_have_no_locations() -> None:
    assert locations(BOXES[:0], 200, 100, 5).shape == (0, 5)

"""Average precision against cases worked out by hand."""

import numpy as np
import pytest

from data_pipeline.detector.evaluation import (
    LabelledBoxes,
    average_precision,
    intersection_over_union,
    mean_average_precision,
)

_FIRST = (0.0, 0.0, 10.0, 10.0)
_SECOND = (20.0, 20.0, 30.0, 30.0)
_ELSEWHERE = (50.0, 50.0, 60.0, 60.0)


def _boxes(*rows: tuple[tuple[float, ...], int, float]) -> LabelledBoxes:
    return LabelledBoxes(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32),
    )


def test_overlap_of_boxes() -> None:
    left = np.array([_FIRST, (0.0, 0.0, 5.0, 10.0)])
    overlaps = intersection_over_union(left, np.array([_FIRST, _SECOND]))
    assert overlaps.tolist() == [[1.0, 0.0], [0.5, 0.0]]


def test_all_found_is_one_and_nothing_found_is_zero() -> None:
    truth = [_boxes((_FIRST, 0, 1), (_SECOND, 0, 1))]
    assert average_precision(truth, truth, 0) == 1.0
    assert average_precision(truth, [_boxes()], 0) == 0.0


def test_a_wrong_box_between_two_right_ones() -> None:
    truth = [_boxes((_FIRST, 0, 1), (_SECOND, 0, 1))]
    found = [_boxes((_FIRST, 0, 0.9), (_ELSEWHERE, 0, 0.8), (_SECOND, 0, 0.7))]
    # Recall 0.5 at precision 1, then recall 1 at precision 2/3.
    assert average_precision(truth, found, 0) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_envelope_lifts_a_dip_of_precision() -> None:
    truth = [_boxes((_FIRST, 0, 1), (_SECOND, 0, 1))]
    found = [_boxes((_ELSEWHERE, 0, 0.9), (_FIRST, 0, 0.8), (_SECOND, 0, 0.7))]
    assert average_precision(truth, found, 0) == pytest.approx(2 / 3)


def test_a_second_box_on_the_same_object_is_wrong() -> None:
    truth = [_boxes((_FIRST, 0, 1), (_SECOND, 0, 1))]
    found = [_boxes((_FIRST, 0, 0.9), (_FIRST, 0, 0.8), (_SECOND, 0, 0.7))]
    assert average_precision(truth, found, 0) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_confidence_ranks_across_images() -> None:
    truth = [_boxes((_FIRST, 0, 1)), _boxes((_FIRST, 0, 1))]
    found = [_boxes((_FIRST, 0, 0.2)), _boxes((_ELSEWHERE, 0, 0.9))]
    assert average_precision(truth, found, 0) == pytest.approx(0.5 * 0.5)


def test_the_mean_is_over_classes_that_occur() -> None:
    truth = [_boxes((_FIRST, 0, 1), (_SECOND, 3, 1))]
    found = [_boxes((_FIRST, 0, 0.9), (_SECOND, 5, 0.9))]
    precision = mean_average_precision(truth, found)
    assert precision.by_class == {0: 1.0, 3: 0.0}
    assert precision.mean == 0.5


def test_a_box_just_under_the_overlap_is_wrong() -> None:
    truth = [_boxes((_FIRST, 0, 1))]
    assert average_precision(truth, [_boxes(((0.0, 0.0, 10.0, 4.9), 0, 1))], 0) == 0.0
    assert average_precision(truth, [_boxes(((0.0, 0.0, 10.0, 5.0), 0, 1))], 0) == 1.0

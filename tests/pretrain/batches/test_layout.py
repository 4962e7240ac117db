"""Truncation, segments, columns and region vectors, against the rules spelled out."""

import numpy as np
import pytest

from data_pipeline.corpus.regions import Regions
from pretrain.batches.layout import fill_regions, fill_text, text_length, truncated


def truncated_step_by_step(caption: int, tags: int, limit: int) -> tuple[int, int]:
    room = limit - (3 if tags else 2)
    while caption + tags > room:
        if caption > tags:
            caption -= 1
        else:
            tags -= 1
    return caption, tags


def test_truncation_is_that_of_one_token_at_a_time() -> None:
    for caption in range(30):
        for tags in range(30):
            assert truncated(caption, tags, 17) == truncated_step_by_step(caption, tags, 17)


def test_on_a_tie_the_tags_lose_first() -> None:
    assert truncated(10, 10, 22) == (10, 9)


def filled(caption: list[int], tags: list[int]) -> tuple[list[int], list[int], list[int]]:
    row = np.zeros(9, dtype=np.int64)
    segments = np.zeros(9, dtype=np.int64)
    columns = fill_text(row, segments, np.array(caption), np.array(tags, dtype=np.int64), 101, 102)
    return row.tolist(), segments.tolist(), columns.tolist()


def test_text_stands_between_its_marks_and_tags_are_segment_one() -> None:
    row, segments, columns = filled([7, 8, 9], [5, 6])
    assert row == [101, 7, 8, 9, 102, 5, 6, 102, 0]
    assert segments == [0, 0, 0, 0, 0, 1, 1, 1, 0]
    assert columns == [1, 2, 3, 5, 6]
    assert text_length(3, 2) == 8


def test_without_tags_there_is_one_separator() -> None:
    row, segments, columns = filled([7, 8], [])
    assert row == [101, 7, 8, 102, 0, 0, 0, 0, 0]
    assert not any(segments)
    assert columns == [1, 2]
    assert text_length(2, 0) == 4


def regions(features: np.ndarray, scale: np.ndarray | None = None) -> Regions:
    count = len(features)
    return Regions(
        boxes=np.array([[20, 10, 60, 40], [0, 0, 200, 100], [50, 50, 100, 75]], dtype=np.float32),
        features=features,
        object_ids=np.zeros(count, dtype=np.int16),
        attribute_ids=np.zeros(count, dtype=np.int16),
        object_conf=np.ones(count, dtype=np.float16),
        attribute_conf=np.ones(count, dtype=np.float16),
        scale=scale,
    )


def test_a_region_is_its_feature_and_six_numbers() -> None:
    features = np.arange(12, dtype=np.float16).reshape(3, 4)
    rows = np.zeros((5, 10), dtype=np.float32)
    assert fill_regions(rows, regions(features), 200, 100) == 3
    assert rows[0].tolist() == pytest.approx([0, 1, 2, 3, 0.1, 0.1, 0.3, 0.4, 0.2, 0.3])
    assert rows[1, 4:].tolist() == [0, 0, 1, 1, 1, 1]
    assert not rows[3:].any()


def test_regions_beyond_the_limit_are_left_out_in_stored_order() -> None:
    features = np.arange(12, dtype=np.float16).reshape(3, 4)
    rows = np.zeros((2, 10), dtype=np.float32)
    assert fill_regions(rows, regions(features), 200, 100) == 2
    assert rows[1, 0] == 4


def test_small_integers_are_scaled() -> None:
    scale = np.array([0.5, 0.25, 1.0], dtype=np.float16)
    features = np.arange(12, dtype=np.int8).reshape(3, 4)
    rows = np.zeros((3, 10), dtype=np.float32)
    fill_regions(rows, regions(features, scale), 200, 100)
    assert rows[:, :4].tolist() == [[0, 0.5, 1, 1.5], [1, 1.25, 1.5, 1.75], [8, 9, 10, 11]]

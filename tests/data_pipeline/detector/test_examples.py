"""Examples from COCO folders and from the world, and their cache."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_pipeline.detector.example_cache import shrink, write_cache
from data_pipeline.detector.examples import CocoExamples, WorldExamples, decode_image
from tests.data_pipeline.detector.tiny_detector import PaintedExamples
from trawl.errors import RequestError


def _coco(folder: Path, **changes: Any) -> str:
    """A folder of two images in COCO's format; the second has no objects."""
    (folder / "images").mkdir(parents=True)
    example = PaintedExamples(2)[1]
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / "images" / name), example.image[:, :, ::-1])
    table = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "images/b.png"}],
        "categories": [{"id": 5, "name": "bar"}, {"id": 2, "name": "square"}],
        "annotations": [
            {
                "image_id": 7,
                "category_id": 2,
                "bbox": [10, 10, 60, 60],
                "attributes": {"colour": "red", "size": "large"},
            },
            {"image_id": 7, "category_id": 5, "bbox": [60, 90, 90, 30], "attributes": ["blue"]},
            {"image_id": 7, "category_id": 5, "bbox": [60, 90, 90, 30]},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(table | changes))
    return str(folder)


def test_coco_folders_are_read(tmp_path: Path) -> None:
    source = CocoExamples([_coco(tmp_path / "one"), _coco(tmp_path / "two")])
    assert source.objects == ("square", "bar")
    assert source.attributes == ("blue", "red")
    assert len(source) == 4
    first = source[0]
    assert first.boxes.tolist() == [[10, 10, 70, 70], [60, 90, 150, 120], [60, 90, 150, 120]]
    assert first.object_ids.tolist() == [0, 1, 1]
    assert first.attribute_ids.tolist() == [1, 0, -1]
    np.testing.assert_array_equal(first.image, PaintedExamples(2)[1].image)
    assert source[3].boxes.shape == (0, 4)


def test_wrong_folders_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"instances\.json: file missing"):
        CocoExamples([str(tmp_path)])
    with pytest.raises(RequestError, match="categories: missing"):
        CocoExamples([_coco(tmp_path / "none", categories=None)])
    other = _coco(tmp_path / "other", categories=[{"id": 2, "name": "disc"}])
    with pytest.raises(RequestError, match="differ"):
        CocoExamples([_coco(tmp_path / "one"), other])
    leaving = _coco(tmp_path / "out", images=[{"id": 7, "file_name": "../../secret.png"}])
    with pytest.raises(RequestError, match="leaves the folder"):
        CocoExamples([leaving])
    unknown = {"image_id": 7, "category_id": 77, "bbox": [0, 0, 9, 9]}
    with pytest.raises(RequestError, match="category_id"):
        CocoExamples([_coco(tmp_path / "unknown", annotations=[unknown])])


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(RequestError, match="decoded"):
        decode_image(b"GIF89a?")


def test_shrinking_scales_boxes_with_the_image() -> None:
    example = shrink(PaintedExamples(1)[0], 64)
    assert example.image.shape == (64, 80, 3)
    assert example.boxes[0].tolist() == [5, 5, 35, 35]
    assert shrink(PaintedExamples(1)[0], 500).image.shape == (128, 160, 3)


def test_a_cache_gives_back_what_was_put_in(tmp_path: Path) -> None:
    source = PaintedExamples(300)
    for workers in (2, 0):
        cached = write_cache(source, str(tmp_path / str(workers)), 64, workers)
        again = write_cache(source, str(tmp_path / str(workers)), 64, workers)
        assert len(again) == 300
        assert len(cached) == 300
        assert cached.objects == source.objects
        for index in (0, 255, 256, 299):
            wanted, kept = shrink(source[index], 64), cached[index]
            np.testing.assert_array_equal(kept.image, wanted.image)
            np.testing.assert_array_equal(kept.boxes, wanted.boxes)
            np.testing.assert_array_equal(kept.attribute_ids, wanted.attribute_ids)
    with pytest.raises(RequestError, match="other data"):
        write_cache(PaintedExamples(10), str(tmp_path / "0"), 64, workers=0)


def test_scenes_of_the_world_are_examples() -> None:
    source = WorldExamples(1, "held-out", 4)
    example, again = source[3], source[3]
    np.testing.assert_array_equal(example.image, again.image)
    assert len(example.boxes) == len(example.object_ids) == len(example.attribute_ids) > 0
    height, width = example.image.shape[:2]
    assert (example.boxes <= np.array([width, height, width, height])).all()
    assert max(example.object_ids) < len(source.objects)

"""The detector in use, with random weights: exact batching, colour order, boxes, bad input."""

import numpy as np
import pytest
import torch

from data_pipeline.detector import preprocessing
from data_pipeline.detector.inference import Detector, load_detector
from data_pipeline.detector.preprocessing import (
    RESIZE_RULES,
    assert_colour_order,
    normalise,
    resize_rule,
    target_size,
)
from tests.data_pipeline.detector.tiny_detector import random_detector
from trawl.chance import generator
from trawl.errors import RequestError, WorkError


@pytest.fixture(scope="module")
def detector() -> Detector:
    return random_detector()


def _images() -> list[np.ndarray]:
    chance = generator("test images")
    sizes = [(310, 420), (420, 310), (310, 421), (360, 360), (311, 420), (50, 700)]
    return [chance.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("selection", ["butd-10-100", "butd-36", "detections"])
def test_batch_mates_change_nothing(detector: Detector, selection: str) -> None:
    images = _images()
    together = detector.detect(images, selection)
    for image, batched in zip(images, together, strict=True):
        (alone,) = detector.detect([image], selection)
        np.testing.assert_array_equal(alone.object_ids, batched.object_ids)
        np.testing.assert_array_equal(alone.attribute_ids, batched.attribute_ids)
        np.testing.assert_allclose(alone.boxes, batched.boxes, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(alone.features, batched.features, rtol=1e-5, atol=1e-5)


def test_the_same_call_gives_the_same_bytes(detector: Detector) -> None:
    first, second = (detector.detect(_images()[:2])[1] for _ in range(2))
    assert first.boxes.tobytes() == second.boxes.tobytes()
    assert first.features.tobytes() == second.features.tobytes()


def test_regions_have_the_promised_types_and_limits(detector: Detector) -> None:
    for image, regions in zip(_images(), detector.detect(_images()), strict=True):
        assert 10 <= len(regions) <= 100
        assert regions.boxes.dtype == np.float32
        assert regions.features.dtype == np.float32
        assert regions.features.shape == (len(regions), detector.feature_size)
        assert regions.object_ids.dtype == regions.attribute_ids.dtype == np.int16
        assert set(regions.object_ids.tolist()) <= set(range(len(detector.objects)))
        assert set(regions.attribute_ids.tolist()) <= set(range(len(detector.attributes)))
        assert (np.diff(regions.object_conf) <= 0).all()
        height, width = image.shape[:2]
        assert (regions.boxes >= 0).all()
        assert (regions.boxes <= np.array([width, height, width, height])).all()


def test_no_images_no_regions(detector: Detector) -> None:
    assert detector.detect([]) == []


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)]
)
def test_other_arrays_are_refused(detector: Detector, image: np.ndarray) -> None:
    with pytest.raises(RequestError, match="image 0"):
        detector.detect([image])


def test_a_single_row_of_pixels_is_an_image(detector: Detector) -> None:
    (regions,) = detector.detect([np.zeros((1, 900, 3), np.uint8)])
    assert len(regions)
    assert np.isfinite(regions.features).all()


def test_colour_order_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_colour_order()
    swapped = lambda pixels: normalise(pixels.flip(-1))  # noqa: E731
    monkeypatch.setattr(preprocessing, "normalise", swapped)
    with pytest.raises(WorkError, match="RGB"):
        assert_colour_order()
    with pytest.raises(WorkError, match="RGB"):
        random_detector()


def test_sizes_follow_the_rule() -> None:
    rule = RESIZE_RULES["short-224-step-32"]
    assert target_size(448, 448, rule) == (224, 224)
    assert target_size(360, 480, rule) == (224, 288)
    assert target_size(480, 360, rule) == (288, 224)
    assert target_size(10, 10_000, rule) == (32, 640)
    with pytest.raises(RequestError, match="short-224-step-32"):
        resize_rule("short-9000")


def test_pixels_are_normalised_to_zero_mean() -> None:
    mean = torch.tensor(preprocessing.MEAN) * 255
    pixels = mean.round().to(torch.uint8).expand(1, 4, 4, 3)
    assert normalise(pixels).abs().max() < 0.02


def test_unknown_detectors_and_files_are_refused() -> None:
    with pytest.raises(RequestError, match="choose demo"):
        load_detector("yolo")
    with pytest.raises(RequestError, match="missing"):
        load_detector("demo", "/nowhere/weights.safetensors")


def test_features_at_its_own_boxes_are_the_detected_ones() -> None:
    detector = random_detector()
    chance = np.random.default_rng(3)
    images = [chance.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((90, 120), (64, 64))]
    boxes = [np.array([[4, 6, 80, 70], [0, 0, 120, 90]], np.float32), np.zeros((0, 4), np.float32)]
    together = detector.features_at(images, boxes)
    assert [features.shape for features in together] == [(2, 32), (0, 32)]
    alone = detector.features_at(images[:1], boxes[:1])[0]
    assert np.array_equal(together[0], alone)
    assert not np.allclose(alone[0], alone[1])
    with pytest.raises(RequestError, match="one of each"):
        detector.features_at(images, boxes[:1])

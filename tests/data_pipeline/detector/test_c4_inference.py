"""The fast detectors against the plain composition and against single images, at full widths."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector import c4_preprocessing
from data_pipeline.detector.c4_inference import C4Detector, Computing, _chunks
from data_pipeline.detector.c4_plain import PlainC4, PlainRegions
from data_pipeline.detector.c4_weights import C4Weights
from tests.data_pipeline.detector.random_c4 import random_weights
from trawl.errors import RequestError

SHAPES = [(90, 150), (120, 100), (90, 140)]
SELECTION = {"butd": "butd-10-100", "butd-d2": "frcnn-36", "vinvl": "vinvl-filter1"}


@pytest.fixture(autouse=True)
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule of preprocessing with the short side at 64 pixels."""
    for name, rule in c4_preprocessing.RULES.items():
        small = replace(rule, short_side=64, long_limit=120)
        monkeypatch.setitem(c4_preprocessing.RULES, name, small)


def few_proposals(family: str, count: int = 5) -> C4Weights:
    """Random weights of which an image gets a few proposals."""
    weights = random_weights(family)
    stage = replace(weights.config.proposals, after=count, min_side=2.0)
    return replace(weights, config=replace(weights.config, proposals=stage))


def images() -> list[np.ndarray]:
    chance = np.random.default_rng(5)
    found = []
    for height, width in SHAPES:
        coarse = chance.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        found.append(np.kron(coarse, np.ones((10, 10, 1), np.uint8)))
    return found


def given_boxes() -> list[np.ndarray]:
    chance = np.random.default_rng(6)
    found = []
    for place, (height, width) in enumerate(SHAPES):
        corner = chance.random((place, 2)) * [width / 2, height / 2]
        found.append(np.concatenate([corner, corner + [width / 2, height / 2]], 1))
    return [boxes.astype(np.float32) for boxes in found]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def assert_same(found: Regions, expected: Regions) -> None:
    assert np.abs(found.boxes - expected.boxes).max() < 1e-3
    assert np.array_equal(found.object_ids, expected.object_ids)
    assert np.array_equal(found.attribute_ids, expected.attribute_ids)
    features, wanted = torch.from_numpy(found.features), torch.from_numpy(expected.features)
    assert relative(features, wanted) < 1e-5


def counterparts(boxes: np.ndarray, expected: PlainRegions, ranked: bool) -> list[int]:
    """Which row of `expected` each box is: the same, but where scores differ by rounding alone.

    Regions are `ranked` by confidence, else in the order of the proposals, whose scores are not
    told. Exact ties keep their order in both paths (see test_c4_selection); the paths add in
    different orders, so that what is closer than their rounding may lie in either.
    """
    distances = np.abs(boxes[:, None] - expected.boxes.numpy()[None]).max(axis=2)
    order = distances.argmin(axis=1).tolist()
    assert sorted(order) == list(range(len(order)))
    assert distances.min(axis=1).max() < 1e-2
    if ranked:
        confidences = expected.confidences
        assert float((confidences[order] - confidences).abs().max()) < 1e-5
    return order


@pytest.mark.parametrize("family", SELECTION)
def test_batched_is_single_and_fast_is_plain(family: str) -> None:
    weights = few_proposals(family)
    detector, plain = C4Detector(family, weights, Computing(images=3)), PlainC4(weights)
    selection = SELECTION[family]
    together = detector.detect(images(), selection)
    assert len({regions.boxes.tobytes() for regions in together}) == len(SHAPES)
    assert_same(together[0], detector.detect(images()[:1], selection)[0])
    for image, regions in zip(images(), together, strict=True):
        expected = plain.detect(image, selection)
        order = counterparts(regions.boxes, expected, ranked=family != "butd")
        assert regions.object_ids.tolist() == expected.object_ids[order].tolist()
        if family != "vinvl":
            assert regions.attribute_ids.tolist() == expected.attribute_ids[order].tolist()
        assert relative(torch.from_numpy(regions.features), expected.features[order]) < 1e-4
        assert regions.boxes[:, 2].max() <= image.shape[1]
        assert regions.boxes[:, 3].max() <= image.shape[0]


@pytest.mark.parametrize("family", ["butd", "vinvl"])
def test_features_at_given_boxes_are_the_plain_ones(family: str) -> None:
    weights = few_proposals(family)
    plain = PlainC4(weights)
    expected = [
        plain.features_at(image, boxes)
        for image, boxes in zip(images(), given_boxes(), strict=True)
    ]
    exact = C4Detector(family, weights).features_at(images(), given_boxes())
    half = C4Detector(family, weights, Computing(number="bfloat16"))
    short = half.features_at(images(), given_boxes())
    assert exact[0].shape == short[0].shape == (0, 2048)
    for found, rough, wanted in zip(exact[1:], short[1:], expected[1:], strict=True):
        assert found.dtype == rough.dtype == np.float32
        assert relative(torch.from_numpy(found), wanted) < 1e-4
        cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(rough), wanted)
        assert float(cosine.min()) >= 0.999


def test_class_probabilities_and_attributes_follow_the_family() -> None:
    computing = Computing(class_probs=True)
    regions = C4Detector("butd", few_proposals("butd"), computing).detect(images()[:1], "butd-36")
    probabilities = regions[0].class_probs
    assert probabilities is not None
    assert probabilities.shape == (len(regions[0]), 1601)
    assert np.array_equal(probabilities[:, 1:].argmax(axis=1), regions[0].object_ids)
    weights = few_proposals("vinvl")
    found = C4Detector("vinvl", weights).detect(images()[:1], "vinvl-filter2")[0]
    reported = found.attribute_ids >= 0
    assert np.array_equal(reported, found.attribute_conf > 0)
    assert (found.attribute_conf[reported] >= np.float16(0.05)).all()
    headless = replace(weights, config=replace(weights.config, attributes=0))
    kept = {name: v for name, v in weights.tensors.items() if not name.startswith("attributes.")}
    silent = C4Detector("vinvl", replace(headless, tensors=kept))
    assert (silent.detect(images()[:1], "vinvl-filter2")[0].attribute_ids == -1).all()


def test_chunks_hold_every_region_once() -> None:
    for count in (0, 1, 36, 37, 99, 100, 300, 345):
        pooled = torch.arange(float(count))[:, None, None, None]
        for sizes in (None, (300, 100, 36)):
            parts = list(_chunks(pooled, sizes))
            rows = [row for part, own in parts for row in part[:own].flatten().tolist()]
            assert rows == list(range(count))
            assert sizes is None or all(len(part) in sizes for part, _ in parts)


def test_compiled_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    # Captured whole and traced as for any backend, without the minute that making code takes.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    weights = few_proposals("butd")
    config = replace(weights.config, blocks=(1, 1, 1, 1))
    kept = {
        name: value
        for name, value in weights.tensors.items()
        if not name.startswith("res") or name.split(".")[1] == "0"
    }
    shallow = replace(weights, config=config, tensors=kept)
    eager = C4Detector("butd", shallow).detect(images(), "butd-10-100")
    compiled = C4Detector("butd", shallow, Computing(compiled=True, chunks=(8, 2), images=2))
    for found, expected in zip(compiled.detect(images(), "butd-10-100"), eager, strict=True):
        assert_same(found, expected)


def test_what_is_no_image_or_no_box_is_refused() -> None:
    detector = C4Detector("butd", few_proposals("butd"))
    with pytest.raises(RequestError, match="image 0"):
        detector.detect([np.zeros((9, 9), np.uint8)], "butd-36")
    with pytest.raises(RequestError, match="vinvl-filter1"):
        detector.detect(images()[:1], "best")
    with pytest.raises(RequestError, match="finite"):
        detector.features_at(images()[:1], [np.full((1, 4), np.nan)])
    with pytest.raises(RequestError, match="one of each"):
        detector.features_at(images()[:1], [])
    with pytest.raises(RequestError, match="bfloat16"):
        Computing(number="float16")
    for chunks in ((), (36, 100), (100, 100), (100, 0)):
        with pytest.raises(RequestError, match="falling numbers of regions"):
            Computing(chunks=chunks)

"""Preprocessing of each family against the libraries that the originals call."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data_pipeline.detector import c4_preprocessing
from data_pipeline.detector.c4_preprocessing import (
    CAFFE_MEAN,
    RULES,
    assert_bgr,
    prepare,
    preprocessing_rule,
    sample_by_scale,
    stack,
    target,
)
from data_pipeline.images import ImageError
from trawl.errors import RequestError, WorkError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


SIZES = [(333, 500), (500, 333), (427, 640), (91, 127), (700, 1900), (600, 1000)]


@pytest.mark.parametrize("size", SIZES)
def test_sampling_by_scale_is_what_cv2_does(size: tuple[int, int]) -> None:
    image = noise(*size)[:, :, ::-1].astype(np.float32) - np.array(CAFFE_MEAN, np.float32)
    scale = target(*size, RULES["butd"])[2]
    expected = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    ours = sample_by_scale(torch.from_numpy(image), scale).numpy()
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 3.1e-5  # two units in the last place of 255 levels
    assert prepare(noise(*size), RULES["butd"]).size == expected.shape[:2]


def test_butd_subtracts_before_it_samples() -> None:
    image = noise(91, 127)
    prepared = prepare(image, RULES["butd"])
    blob = image[:, :, ::-1].astype(np.float32) - np.array(CAFFE_MEAN, np.float32)
    scale = 600 / 91
    blob = cv2.resize(blob, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    assert prepared.scale == scale
    assert np.array_equal(prepared.pixels.permute(1, 2, 0).numpy(), blob)


def test_pillow_families_resize_bytes() -> None:
    image = noise(333, 500)
    fork = prepare(image, RULES["d2"])
    resized = np.asarray(Image.fromarray(image).resize((901, 600), Image.Resampling.BILINEAR))
    expected = resized[:, :, ::-1].astype(np.float32) - np.array(CAFFE_MEAN, np.float32)
    assert fork.size == (600, 901)
    assert np.array_equal(fork.pixels.permute(1, 2, 0).numpy(), expected)
    vinvl = prepare(image, RULES["vinvl"])
    assert vinvl.size == (600, 900)
    resized = np.asarray(Image.fromarray(image).resize((900, 600), Image.Resampling.BILINEAR))
    expected = resized[:, :, ::-1] - np.array([103.530, 116.280, 123.675])
    assert np.abs(vinvl.pixels.permute(1, 2, 0).numpy() - expected).max() < 3e-5


def test_hugging_face_resizes_floats() -> None:
    image = noise(200, 300)
    planes = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(planes, (800, 1200), mode="bilinear")[0]
    prepared = prepare(image, RULES["hf"]).pixels
    assert torch.equal(prepared, expected - torch.tensor(CAFFE_MEAN)[:, None, None])


@pytest.mark.parametrize(
    ("rule", "own", "resized"),
    [
        ("butd", (480, 640), (600, 800)),
        ("butd", (500, 333), (901, 600)),
        ("butd", (400, 1000), (400, 1000)),
        ("butd", (300, 500), (600, 1000)),
        ("d2", (640, 426), (901, 600)),
        ("d2-800", (480, 640), (800, 1067)),
        ("d2-800", (300, 1000), (400, 1333)),
        ("vinvl", (500, 333), (900, 600)),
        ("vinvl", (427, 640), (600, 899)),
        ("vinvl", (400, 1000), (400, 1000)),
        ("vinvl", (333, 1000), (333, 1000)),
    ],
)
def test_sizes(rule: str, own: tuple[int, int], resized: tuple[int, int]) -> None:
    assert target(*own, RULES[rule])[:2] == resized


@pytest.mark.parametrize("name", RULES)
def test_blue_comes_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_bgr(RULES[name])
    as_loaded = c4_preprocessing.prepare
    swapped = lambda image, rule, device: as_loaded(image[:, :, ::-1].copy(), rule, device)  # noqa: E731
    monkeypatch.setattr(c4_preprocessing, "prepare", swapped)
    with pytest.raises(WorkError, match="BGR"):
        assert_bgr(RULES[name])


@pytest.mark.parametrize("name", RULES)
def test_boxes_go_in_and_come_back(name: str) -> None:
    prepared = prepare(noise(333, 500), RULES[name])
    boxes = torch.tensor([[0.0, 0.0, 500.0, 333.0], [10.0, 20.0, 30.0, 50.0]])
    inside = prepared.network_boxes(boxes)
    assert torch.allclose(prepared.own_boxes(inside), boxes, rtol=1e-6, atol=1e-4)
    assert abs(float(inside[0, 2]) - prepared.size[1]) <= 0.5


@pytest.mark.parametrize("name", RULES)
def test_slivers_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(ImageError, match="too-elongated"):
        prepare(noise(1, 400), RULES[name])


def test_padding_is_the_mean_colour() -> None:
    prepared = [prepare(noise(91, 127), RULES["butd"]), prepare(noise(127, 91), RULES["butd"])]
    batch = stack(prepared, 850, 850)
    assert torch.equal(batch[0, :, :600, : prepared[0].size[1]], prepared[0].pixels)
    assert not batch[0, :, 600:].any()
    assert not batch[1, :, :, 600:].any()


def test_an_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="vinvl"):
        preprocessing_rule("caffe")

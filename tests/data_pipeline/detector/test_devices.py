"""Every tensor of a step lies on the step's device, shown without a GPU by a pretended one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.detector import c4_preprocessing
from data_pipeline.detector.c4_inference import C4Detector, Computing
from data_pipeline.detector.processes import Share, device_kind, joined, start
from data_pipeline.detector.training import Trainer
from tests.data_pipeline.detector.pretend_device import pretended
from tests.data_pipeline.detector.random_c4 import narrow_families, random_weights
from tests.data_pipeline.detector.test_processes import WHOLE, state_of, two_images
from tests.data_pipeline.detector.tiny_detector import TINY
from trawl.errors import RequestError

SELECTIONS = {
    "butd": ("butd-10-100", "butd-36"),
    "butd-d2": ("frcnn-36",),
    "vinvl": ("vinvl-filter0", "vinvl-filter1", "vinvl-filter2"),
}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, rule in c4_preprocessing.RULES.items():
        small = replace(rule, short_side=64, long_limit=120)
        monkeypatch.setitem(c4_preprocessing.RULES, name, small)
    yield from narrow_families(monkeypatch)


def test_the_pretended_device_mixes_with_no_other() -> None:
    with pretended() as device:
        there, here = torch.arange(3.0, device=device), torch.ones(3)
        with pytest.raises(RuntimeError, match="on the CPU"):
            there + here
        assert (there + here.to(device)).cpu().tolist() == [1, 2, 3]
        assert there[torch.tensor([2, 0])].tolist() == [2, 0]
        assert (there * torch.tensor(2.0)).device == device


def test_training_keeps_to_its_device_and_learns_the_same() -> None:
    here = Trainer(TINY, WHOLE)
    with pretended() as device:
        there = Trainer(TINY, WHOLE, Share(device=device))
        for _ in range(WHOLE.steps):
            assert there.learn(two_images()) == here.learn(two_images())
        found = {name: value.cpu() for name, value in state_of(there).items()}
        averaged = there.averaged_model()
    for name, expected in state_of(here).items():
        assert torch.equal(found[name], expected), name
    assert {parameter.device.type for parameter in averaged.parameters()} == {"cpu"}


@pytest.mark.parametrize("family", SELECTIONS)
def test_a_detector_keeps_to_its_device_and_finds_the_same(family: str, narrow: None) -> None:
    weights, chance = random_weights(family), np.random.default_rng(5)
    few = replace(weights.config.proposals, after=30)
    weights = replace(weights, config=replace(weights.config, proposals=few))
    images = [chance.integers(0, 256, size, dtype=np.uint8) for size in ((70, 90, 3), (90, 64, 3))]
    # Not resized: random weights score many boxes alike, and a last bit would choose among them.
    exact = [chance.integers(0, 256, size, dtype=np.uint8) for size in ((64, 90, 3), (90, 64, 3))]
    boxes = [np.array([[3, 4, 50, 60], [0, 0, 30, 30]], np.float32), np.zeros((0, 4), np.float32)]
    here = C4Detector(family, weights)
    with pretended() as device:
        there = C4Detector(family, weights, Computing(str(device)))
        found = there.features_at(images, boxes)
        regions = {rule: there.detect(exact, rule) for rule in SELECTIONS[family]}
    for ours, expected in zip(found, here.features_at(images, boxes), strict=True):
        # One resize is cv2's on the CPU, and its twin, equal to 3e-5, elsewhere.
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    for rule, answers in regions.items():
        for ours, expected in zip(answers, here.detect(exact, rule), strict=True):
            assert len(ours) == len(expected) > 0
            np.testing.assert_allclose(ours.boxes, expected.boxes, atol=1e-2)
            np.testing.assert_allclose(ours.features, expected.features, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_the_device_is_the_cpu_where_there_is_no_gpu() -> None:
    assert device_kind("auto") == device_kind("cpu") == "cpu"
    with pytest.raises(RequestError, match="finds no GPU"):
        device_kind("cuda")
    with pytest.raises(RequestError, match="auto, cpu or cuda"):
        device_kind("gpu")
    with pytest.raises(RequestError, match="has 0 GPUs"):
        start(2, print, "cuda")
    with joined() as share:
        assert share == Share()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_learns_what_a_cpu_learns() -> None:
    here = Trainer(TINY, WHOLE)
    with joined("cuda") as share:
        there, again = (Trainer(TINY, WHOLE, share) for _ in range(2))
        for _ in range(WHOLE.steps):
            expected, losses = here.learn(two_images()), there.learn(two_images())
            assert losses == again.learn(two_images())
            assert losses == pytest.approx(expected, rel=1e-3, abs=1e-4)

"""Detectors by name, torchvision's network as one of them, and our changes to detectron2's."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2
from torchvision.ops import FrozenBatchNorm2d

from data_pipeline.detector import backends
from data_pipeline.detector.backends import Choices, load_detector
from data_pipeline.detector.c4_anchors import cell_anchors
from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.c4_inference import C4Detector, Computing
from data_pipeline.detector.c4_storage import save_canonical
from data_pipeline.detector.c4_weights import with_anchors
from data_pipeline.detector.detectron2_backend import (
    CONFIG_FILE,
    INSTALL_COMMAND,
    as_bottom_up_attention,
    load_into,
)
from data_pipeline.detector.protocol import RegionDetector
from data_pipeline.detector.torchvision_backend import TorchvisionDetector, load_torchvision
from data_pipeline.steps.detect import loaded_detector
from tests.data_pipeline.detector.random_c4 import narrow_families, random_weights
from trawl.errors import RequestError


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_demos_detector_is_the_default() -> None:
    detector = load_detector()
    assert isinstance(detector, RegionDetector)
    assert detector.name == "demo"


def test_unknown_names_and_missing_weights_are_refused() -> None:
    with pytest.raises(RequestError, match="choose one of demo, butd, butd-d2, vinvl"):
        load_detector("yolo")
    with pytest.raises(RequestError, match="butd has none built in; give the publisher's"):
        load_detector("butd")
    with pytest.raises(RequestError, match=r"regions\.anchors: demo has no choice"):
        load_detector("demo", choices=Choices(anchors="caffe"))
    with pytest.raises(RequestError, match="no such file"):
        load_detector("vinvl", "absent.pth")


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from narrow_families(monkeypatch)


@pytest.mark.usefixtures("_narrow")
def test_a_converted_file_makes_a_detector(tmp_path: Path) -> None:
    path = tmp_path / "butd.safetensors"
    save_canonical(path, random_weights("butd"))
    computing = Computing(images=2, class_probs=True)
    detector = load_detector("butd", path, Choices(computing=computing))
    assert isinstance(detector, C4Detector)
    assert detector.computing == computing
    assert isinstance(detector, RegionDetector)
    assert detector.feature_size == 2048
    assert (len(detector.objects), len(detector.attributes)) == (10, 6)
    keeping = load_detector("butd", path, Choices(class_probabilities=True))
    assert isinstance(keeping, C4Detector)
    assert keeping.computing == Computing(class_probs=True)
    built = loaded_detector("butd", str(path), number="bfloat16")
    assert built.computing == Computing(number="bfloat16")
    with pytest.raises(RequestError, match=r"regions\.number: demo computes in float32"):
        loaded_detector("demo", "builtin", number="bfloat16")


@pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed"
)
def test_without_detectron2_the_error_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        load_detector("detectron2", tmp_path / "any.pkl")
    assert INSTALL_COMMAND in str(caught.value)
    assert "butd-d2" in str(caught.value)


def test_every_backend_says_which_files_it_takes() -> None:
    assert all(backend.files for backend in backends.BACKENDS.values())


class Conv(nn.Conv2d):
    """detectron2's convolution: a normalisation under `norm`."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, side, stride, side // 2, bias=False)
        self.norm = FrozenBatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(super().forward(maps))


class Block(nn.Module):
    """detectron2's bottleneck, its stride in the first convolution."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = Conv(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = Conv(inputs, width, 1, stride)
        self.conv2 = Conv(width, width, 3)
        self.conv3 = Conv(width, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv3(self.conv2(self.conv1(maps).relu()).relu())
        return (inner + (self.shortcut(maps) if self.shortcut else maps)).relu()


def stage(number: int, blocks: int, stride: int) -> nn.Sequential:
    inputs = 64 if number == 0 else 128 << number
    width, outputs = 64 << number, 256 << number
    made = [Block(inputs if b == 0 else outputs, width, outputs, 1) for b in range(blocks)]
    if stride == 2:
        made[0] = Block(inputs, width, outputs, 2)
    return nn.Sequential(*made)


class StockStem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(3, 64, 7, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return functional.max_pool2d(self.conv1(pixels).relu(), 3, 2, 1)


def stock_model() -> nn.Module:
    """R101-C4 with the names, strides and constants of a stock detectron2 model."""
    model, heads, proposals = nn.Module(), nn.Module(), nn.Module()
    model.backbone = nn.Sequential()
    model.backbone.stem = StockStem()
    for number, blocks in ((0, 3), (1, 4), (2, 23)):
        setattr(model.backbone, f"res{number + 2}", stage(number, blocks, 2 if number else 1))
    heads.res5 = stage(3, 3, 2)
    heads.box_predictor = nn.Module()
    heads.box_predictor.cls_score = nn.Linear(2048, 1601)
    heads.box_predictor.bbox_pred = nn.Linear(2048, 6400)
    proposals.rpn_head = nn.Module()
    proposals.rpn_head.conv = nn.Conv2d(1024, 512, 3, padding=1)
    proposals.rpn_head.objectness_logits = nn.Conv2d(512, 12, 1)
    proposals.rpn_head.anchor_deltas = nn.Conv2d(512, 48, 1)
    proposals.anchor_generator = nn.Module()
    proposals.anchor_generator.cell_anchors = nn.Module()
    proposals.anchor_generator.cell_anchors.register_buffer(
        "0", torch.zeros(12, 4), persistent=False
    )
    model.proposal_generator, model.roi_heads = proposals, heads
    model.register_buffer("pixel_mean", torch.zeros(3, 1, 1), persistent=False)
    return model


def test_the_changes_to_detectron2_make_it_bottom_up_attention() -> None:
    weights = with_anchors(random_weights("butd-d2"), "caffe")
    model = stock_model()
    as_bottom_up_attention(model, weights.config)
    load_into(model, weights)
    model.eval()
    ours = weights.network()
    pixels = torch.rand(1, 3, 75, 98, generator=torch.Generator().manual_seed(2)) * 255 - 115
    pooled = torch.rand(2, 1024, 14, 14, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        wanted = ours.backbone(pixels)
        assert torch.allclose(model.backbone(pixels), wanted, rtol=1e-4, atol=1e-4)
        features = ours.region_head(pooled)
        theirs = model.roi_heads.res5(pooled).mean(dim=(2, 3))
        assert torch.allclose(theirs, features, rtol=1e-4, atol=1e-5)
    order = [ratio * 4 + scale for scale in range(4) for ratio in range(3)]
    anchors = model.get_buffer("proposal_generator.anchor_generator.cell_anchors.0")
    assert torch.equal(anchors, cell_anchors("caffe")[order])


def test_another_structure_of_detectron2_is_refused_with_the_command() -> None:
    model = stock_model()
    del model.roi_heads.res5
    with pytest.raises(RequestError, match="another structure"):
        as_bottom_up_attention(model, family_config("butd-d2"))
    model = stock_model()
    config = replace(family_config("butd-d2"), attributes=0)
    as_bottom_up_attention(model, config)
    with pytest.raises(RequestError, match="weights do not fit"):
        load_into(model, random_weights("butd-d2"))


def test_detectron2s_configuration_says_what_ours_says() -> None:
    settings = yaml.safe_load(CONFIG_FILE.read_text())["MODEL"]
    config = family_config("butd-d2")
    assert settings["RPN"]["CONV_DIMS"] == [config.proposal_width]
    assert settings["RPN"]["PRE_NMS_TOPK_TEST"] == config.proposals.before
    assert settings["RPN"]["POST_NMS_TOPK_TEST"] == config.proposals.after
    assert settings["ROI_HEADS"]["NUM_CLASSES"] == config.classes - 1
    assert tuple(settings["ROI_BOX_HEAD"]["BBOX_REG_WEIGHTS"]) == config.regression_weights
    sides = cell_anchors("d2")[4:8, 2] * 2
    assert settings["ANCHOR_GENERATOR"]["SIZES"] == [sides.tolist()]


@pytest.fixture(scope="module")
def small_torchvision() -> TorchvisionDetector:
    """torchvision's network with random weights, made to resize to few pixels."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, min_size=96, max_size=160, rpn_post_nms_top_n_test=20
    )
    return TorchvisionDetector("torchvision", model, "0" * 64)


def test_torchvisions_detector_keeps_the_protocol(small_torchvision: TorchvisionDetector) -> None:
    assert isinstance(small_torchvision, RegionDetector)
    assert (len(small_torchvision.objects), small_torchvision.attributes) == (80, [])
    assert small_torchvision.objects[:3] == ["person", "bicycle", "car"]
    images = [picture(40, 60), picture(90, 50, seed=1)]
    together = small_torchvision.detect(images, "butd-10-100")
    for image, regions in zip(images, together, strict=True):
        alone = small_torchvision.detect([image], "butd-10-100")[0]
        assert np.array_equal(alone.boxes, regions.boxes)
        assert regions.features.shape == (len(regions), 1024)
        assert len(regions) >= 10
        assert (regions.attribute_ids == -1).all()
        assert (regions.boxes[:, 2] <= image.shape[1]).all()
    again = small_torchvision.features_at(images, [regions.boxes for regions in together])
    for features, regions in zip(again, together, strict=True):
        assert np.allclose(features, regions.features, rtol=1e-3, atol=1e-4)


def test_torchvisions_file_is_read_strictly(tmp_path: Path) -> None:
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(RequestError, match="not a file of torchvision's"):
        load_torchvision("torchvision", tmp_path / "other.pth")
    head = {"roi_heads.box_predictor.cls_score.bias": torch.zeros(91), "extra": torch.zeros(1)}
    torch.save(head, tmp_path / "part.pth")
    with pytest.raises(RequestError, match=r"missing backbone\.body\.bn1\.bias;.* more"):
        load_torchvision("torchvision", tmp_path / "part.pth")

"""A very small network and a few painted examples, for tests that train or fold."""

import numpy as np
import torch
from torch import nn

from data_pipeline.detector.architecture import ArchitectureConfig, FasterRcnn
from data_pipeline.detector.examples import Example
from data_pipeline.detector.inference import Detector
from data_pipeline.detector.selection import Conventions
from data_pipeline.detector.weights import DetectorDescription

TINY = ArchitectureConfig(
    object_count=2,
    attribute_count=2,
    stem_width=8,
    stage_widths=(8, 16, 16),
    stage_blocks=(1, 1, 1),
    pyramid_width=16,
    head_width=16,
    head_blocks=1,
    feature_size=32,
    embedding_size=4,
    attribute_width=8,
    anchor_sizes=(32.0, 64.0),
)


class PaintedExamples:
    """Squares and bars, red or blue, on grey: as many images as asked for."""

    objects = ("square", "bar")
    attributes = ("red", "blue")

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        image = np.full((128, 160, 3), 120, np.uint8)
        image[10:70, 10:70] = (220, 30, 30) if index % 2 else (30, 30, 220)
        image[90:120, 60:150] = (30, 30, 220) if index % 2 else (220, 30, 30)
        boxes = np.array([[10, 10, 70, 70], [60, 90, 150, 120]], np.float32)
        colours = np.array([0, 1] if index % 2 else [1, 0])
        return Example(image, boxes, np.array([0, 1]), colours)


def random_network(config: ArchitectureConfig = TINY) -> FasterRcnn:
    """A network with random weights and random, unequal normalisation statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = FasterRcnn(config)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        nn.init.normal_(model.classifier.weight, std=0.3)
        nn.init.normal_(model.regressor.weight, std=0.1)
    return model.eval()


def described(config: ArchitectureConfig = TINY) -> DetectorDescription:
    """What the JSON file would say of the tiny network."""
    return DetectorDescription(
        architecture=config,
        objects=("square", "bar"),
        attributes=("red", "blue"),
        resize="short-224-step-32",
        conventions=Conventions(boxes="regressed", label="surviving", ranked=True),
        made_by={},
    )


def random_detector() -> Detector:
    """A detector of random weights."""
    return Detector("tiny", random_network(), "none", described())

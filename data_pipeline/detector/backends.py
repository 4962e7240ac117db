"""Region detectors by name: the demo's, the published families, torchvision's and detectron2's.

What a backend needs is imported when it is asked for, so that none costs those who use another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.detector.protocol import RegionDetector
from trawl.errors import RequestError

if TYPE_CHECKING:
    from data_pipeline.detector.c4_inference import Computing

BUILTIN = "builtin"
"""In place of a weights file: the weights that come with the package."""


@dataclass(frozen=True)
class Choices:
    """What can be chosen of some detectors; None is their own.

    anchors: "caffe" or "d2" in place of those that the file or the family has. computing: device,
    type of numbers, compilation. class_probabilities: True keeps each region's probabilities of
    all classes, background first.
    """

    anchors: str | None = None
    computing: Computing | None = None
    class_probabilities: bool | None = None


@dataclass(frozen=True)
class Backend:
    """A kind of detector.

    load: makes one from its name, its weights and the choices. files: which weights it takes, for
    people. choices: the names of those `Choices` that it has.
    """

    load: Callable[[str, str, Choices], RegionDetector]
    files: str
    choices: tuple[str, ...] = ()


def _demo(name: str, weights: str, choices: Choices) -> RegionDetector:
    from data_pipeline.detector.inference import load_detector as load_demo

    return load_demo(name, weights, bool(choices.class_probabilities))


def _published(name: str, weights: str, choices: Choices) -> RegionDetector:
    from data_pipeline.detector.c4_inference import EXACT, C4Detector
    from data_pipeline.detector.c4_storage import load_c4

    loaded = load_c4(Path(weights), name, choices.anchors)
    computing = choices.computing or EXACT
    if choices.class_probabilities is not None:
        computing = replace(computing, class_probs=choices.class_probabilities)
    return C4Detector(name, loaded, computing)


def _torchvision(name: str, weights: str, choices: Choices) -> RegionDetector:
    from data_pipeline.detector.torchvision_backend import load_torchvision

    return load_torchvision(name, Path(weights))


def _detectron2(name: str, weights: str, choices: Choices) -> RegionDetector:
    from data_pipeline.detector.c4_storage import load_c4
    from data_pipeline.detector.detectron2_backend import Detectron2Detector, required_detectron2

    required_detectron2()
    return Detectron2Detector(name, load_c4(Path(weights), "butd-d2", choices.anchors))


_C4_FILES = "the publisher's .pkl, .bin or .pth, or a .safetensors converted from it"

_ALL = ("anchors", "computing", "class_probabilities")

BACKENDS = {
    "demo": Backend(
        _demo, "builtin, or a .safetensors file of `trawl regions train`", ("class_probabilities",)
    ),
    "butd": Backend(_published, _C4_FILES, _ALL),
    "butd-d2": Backend(_published, _C4_FILES, _ALL),
    "vinvl": Backend(_published, _C4_FILES, _ALL),
    "torchvision": Backend(_torchvision, "the .pth file of fasterrcnn_resnet50_fpn_v2"),
    "detectron2": Backend(_detectron2, _C4_FILES, ("anchors",)),
}


def load_detector(
    name: str = "demo", weights: str | Path = BUILTIN, choices: Choices | None = None
) -> RegionDetector:
    """Load a detector by its backend's name from a local weights file.

    RequestError for an unknown name, a missing or wrong file, weights that have to be given, or a
    choice that the backend does not have.
    """
    if name not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise RequestError(f"regions.detector: {name} is not known; choose one of {known}")
    backend, choices = BACKENDS[name], choices or Choices()
    if str(weights) == BUILTIN and name != "demo":
        raise RequestError(f"regions.weights: {name} has none built in; give {backend.files}")
    for choice, value in vars(choices).items():
        if value is not None and choice not in backend.choices:
            raise RequestError(f"regions.{choice}: {name} has no choice; leave the option out")
    return backend.load(name, str(weights), choices)

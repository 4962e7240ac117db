"""Classifiers that are plugged in to drop unsafe and watermarked images; none ships.

A folder holds either an image classifier as transformers saves it, or one ONNX file with a
`preprocessor_config.json` and a `config.json` (`id2label`) beside it where there are any.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Pixels
from data_pipeline.recipe import Classifier, ImageFilter
from trawl.errors import RequestError

Outputs = npt.NDArray[np.float32]

KINDS = ("unsafe", "watermark")
"""What is looked for, in this order: the keys of `image_filter`, and the reason codes."""

_INSTALL = "pip install onnxruntime"
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_SIDE = 224  # where an ONNX model leaves its input's size open


def missing(settings: ImageFilter) -> list[str]:
    """Return the classifiers that a recipe names no model for."""
    return [kind for kind in KINDS if _of(settings, kind).model is None]


def classify(pixels: Pixels, settings: ImageFilter) -> tuple[str, dict[str, float]]:
    """Return the reason why RGB pixels [height, width, 3] are dropped, "" if they are not.

    With it comes the evidence: by kind, the probability of the classes that the recipe names.
    """
    evidence: dict[str, float] = {}
    for kind in KINDS:
        wanted = _of(settings, kind)
        if wanted.model is None:
            continue
        loaded = load_classifier(kind, wanted.model, tuple(wanted.labels), wanted.outputs)
        evidence[kind] = round(loaded.evidence(pixels), 4)
        if evidence[kind] >= wanted.threshold:
            return kind, evidence
    return "", evidence


def _of(settings: ImageFilter, kind: str) -> Classifier:
    found: Classifier = getattr(settings, kind)
    return found


@dataclass(frozen=True)
class LoadedClassifier:
    """A model with the classes that count; `probabilities` makes [classes] of RGB pixels."""

    probabilities: Callable[[Pixels], Outputs]
    classes: tuple[int, ...]

    def evidence(self, pixels: Pixels) -> float:
        """Return the sum of the probabilities of the classes that count."""
        return float(self.probabilities(pixels)[list(self.classes)].sum())


@functools.lru_cache(maxsize=4)
def load_classifier(
    kind: str, folder: str, labels: tuple[str, ...], outputs: str
) -> LoadedClassifier:
    """Load the model in a folder, once in a process.

    RequestError: there is none, a class is missing, or the library for it is not installed.
    """
    key = f"image_filter.{kind}"
    files = sorted(Path(folder).glob("*.onnx"))
    if len(files) > 1:
        raise RequestError(f"{key}.model: {folder}: {len(files)} ONNX files; leave one")
    if files:
        probabilities, names = _onnx(key, files[0], outputs)
    elif (Path(folder) / "config.json").exists():
        probabilities, names = _transformers(key, folder)
    else:
        raise RequestError(
            f"{key}.model: {folder}: neither an ONNX file nor a config.json of transformers there"
        )
    return LoadedClassifier(probabilities, _classes(key, names, labels))


def _classes(key: str, names: list[str], labels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of the classes that count; the one class of a model counts unnamed."""
    if not labels and len(names) == 1:
        return (0,)
    unknown = [label for label in labels if label not in names]
    if unknown or not labels:
        told = f"no class {unknown[0]!r}" if unknown else "which classes speak against an image"
        raise RequestError(f"{key}.labels: {told}; name some of {', '.join(names[:40])}")
    return tuple(names.index(label) for label in labels)


def _transformers(key: str, folder: str) -> tuple[Callable[[Pixels], Outputs], list[str]]:
    """Load an image classifier of transformers; weights are read from safetensors alone."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        local = {"local_files_only": True, "trust_remote_code": False}
        load = AutoModelForImageClassification.from_pretrained
        model = load(folder, use_safetensors=True, **local).to(device).eval()
        processor = AutoImageProcessor.from_pretrained(folder, **local)
    except Exception as error:  # they raise whatever a damaged folder leads them to
        raise _unusable(key, folder, error) from error
    several = model.config.problem_type == "multi_label_classification"

    def probabilities(pixels: Pixels) -> Outputs:
        inputs = processor(images=pixels, return_tensors="pt").to(device)
        with torch.inference_mode():
            logits = model(**inputs).logits[0].float().cpu().numpy()
        return _probabilities(logits, several)

    names = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    return probabilities, names


def _onnx(key: str, file: Path, outputs: str) -> tuple[Callable[[Pixels], Outputs], list[str]]:
    """Load an ONNX model of one image input and one output [1, classes]."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RequestError(
            f"{key}.model: {file} needs onnxruntime, which is not installed: {_INSTALL}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        providers = [p for p in _PROVIDERS if p in onnxruntime.get_available_providers()]
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        source = session.get_inputs()[0]
        prepare = _preparation(file.parent, list(source.shape))
        width = session.run(None, {source.name: prepare(np.zeros((64, 64, 3), np.uint8))})[0].size
    except Exception as error:  # onnxruntime has exceptions of its own
        raise _unusable(key, str(file), error) from error

    def probabilities(pixels: Pixels) -> Outputs:
        found = session.run(None, {source.name: prepare(pixels)})[0].reshape(-1)
        found = found.astype(np.float32)
        return found if outputs == "probabilities" else _probabilities(found, False)

    return probabilities, _label_names(file.parent, width)


def _label_names(folder: Path, count: int) -> list[str]:
    """Return the names of classes in config.json, their numbers where it has none."""
    known = _json(folder / "config.json").get("id2label", {})
    return [str(known.get(str(number), number)) for number in range(count)]


def _json(place: Path) -> dict[str, Any]:
    content = json.loads(place.read_text("utf-8")) if place.exists() else {}
    return content if isinstance(content, dict) else {}


def _preparation(folder: Path, shape: list[Any]) -> Callable[[Pixels], Outputs]:
    """Return what makes the input of RGB pixels: scaled to the model's size, then normalised.

    shape is the model's input, [1, 3, height, width] or [1, height, width, 3].
    """
    settings = _json(folder / "preprocessor_config.json")
    last = shape[-1] == 3
    height, width = shape[1:3] if last else shape[2:4]
    named = settings.get("size", {})
    size: dict[str, int] = named if isinstance(named, dict) else {"shortest_edge": named}
    side = size.get("shortest_edge", _SIDE)
    height = height if isinstance(height, int) else size.get("height", side)
    width = width if isinstance(width, int) else size.get("width", side)
    mean, std = (
        np.array(settings.get(name, default), np.float32)
        for name, default in (("image_mean", [0.0] * 3), ("image_std", [1.0] * 3))
    )
    factor = float(settings.get("rescale_factor", 1 / 255))

    def prepare(pixels: Pixels) -> Outputs:
        small: Any = cv2.resize(pixels, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        found = (small.astype(np.float32) * factor - mean) / std
        return np.ascontiguousarray(found if last else found.transpose(2, 0, 1))[None]

    return prepare


def _probabilities(logits: Outputs, several: bool) -> Outputs:
    """Return probabilities [classes]: of classes that exclude each other, unless `several`."""
    if several or logits.size == 1:
        found = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    else:
        found = np.exp(logits - logits.max())
        found = found / found.sum()
    return found.astype(np.float32)


def _unusable(key: str, place: str, error: Exception) -> RequestError:
    first = (str(error).splitlines() or [""])[0]
    return RequestError(f"{key}.model: {place}: not a whole classifier ({first}); mend the folder")

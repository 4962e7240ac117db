"""The detector's weights on disk: a safetensors file, and beside it a JSON file describing it.

Values are stored as float16 and computed in float32. No pickle is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from data_pipeline.detector.architecture import ArchitectureConfig, FasterRcnn
from data_pipeline.detector.selection import Conventions
from trawl import storage
from trawl.errors import RequestError

BUILTIN = Path(__file__).with_name("demo.safetensors")


@dataclass(frozen=True)
class DetectorDescription:
    """What the JSON file beside the weights says.

    `made_by` holds the command, its seconds and the measured precision: facts for people, which
    inference does not read.
    """

    architecture: ArchitectureConfig
    objects: tuple[str, ...]
    attributes: tuple[str, ...]
    resize: str
    conventions: Conventions
    made_by: dict[str, Any]


def save_weights(path: Path, model: FasterRcnn, description: DetectorDescription) -> None:
    """Write FILE.safetensors in float16 and FILE.json; both appear whole."""
    tensors = {
        name: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    storage.write_bytes(path, save(tensors))
    write_description(path, description)


def write_description(path: Path, description: DetectorDescription) -> None:
    """Write the JSON file beside the weights at `path`."""
    storage.write_text(path.with_suffix(".json"), json.dumps(asdict(description), indent=1) + "\n")


def read_description(path: Path) -> DetectorDescription:
    """Read the JSON file beside the weights at `path`."""
    described = path.with_suffix(".json")
    if not storage.exists(described):
        raise RequestError(f"{described}: missing; keep it beside {path.name}")
    fields = storage.read_json(described)
    try:
        return DetectorDescription(
            architecture=ArchitectureConfig.from_json(fields["architecture"]),
            objects=tuple(fields["objects"]),
            attributes=tuple(fields["attributes"]),
            resize=str(fields["resize"]),
            conventions=Conventions(**fields["conventions"]),
            made_by=dict(fields["made_by"]),
        )
    except (KeyError, TypeError) as error:
        raise RequestError(f"{described}: {error}: not a description of a detector") from error


def load_weights(path: Path, config: ArchitectureConfig) -> tuple[FasterRcnn, str]:
    """Read a network strictly and the sha256 of its file; RequestError lists what does not fit."""
    if not storage.exists(path):
        raise RequestError(f"{path}: file missing; give a .safetensors file or builtin")
    data = storage.read_bytes(path)
    try:
        stored = load(data)
    except SafetensorError as error:
        raise RequestError(f"{path}: not a safetensors file ({error})") from error
    model = FasterRcnn(config)
    wanted = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    wrong = [f"missing {name}" for name in wanted.keys() - stored.keys()]
    wrong += [f"unknown {name}" for name in stored.keys() - wanted.keys()]
    wrong += [
        f"{name} is {tuple(stored[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted.keys() & stored.keys()
        if stored[name].shape != wanted[name].shape
    ]
    if wrong:
        raise RequestError(f"{path}: does not fit the architecture: {'; '.join(sorted(wrong))}")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(stored[name])
    return model.eval(), hashlib.sha256(data).hexdigest()

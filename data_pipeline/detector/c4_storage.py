"""Weights of the C4 detectors on disk: our canonical file, and files in the publishers' layouts.

The canonical form is FILE.safetensors, whose tensors are named as in `C4Network` (those that only
an export needs after "originals."), and FILE.json, which says all else. No pickle is read there.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from data_pipeline.detector.c4_config import C4Config
from data_pipeline.detector.c4_layouts import layout_by_name
from data_pipeline.detector.c4_weights import (
    C4Weights,
    canonical_shapes,
    export_tensors,
    import_weights,
    refuse,
    with_anchors,
)
from trawl import storage
from trawl.errors import RequestError

_ORIGINALS = "originals."
_FORM = 1
_ENDINGS = {"fork": ".pkl", "hf": ".bin", "milvlg": ".pth", "vinvl": ".pth"}


def load_c4(path: Path, family: str | None = None, anchors: str | None = None) -> C4Weights:
    """Load a canonical .safetensors file or any published .pkl, .pth or .bin file.

    family, anchors: as in `import_weights`; a canonical file has its family, only the anchors can
    still be chosen. RequestError for a missing file, a wrong family and every key that is wrong.
    """
    if path.suffix != ".safetensors":
        return import_weights(path, family, anchors)
    weights = _load_canonical(path)
    if family is not None and family != weights.config.family:
        raise RequestError(
            f"{path}: was converted for {weights.config.family}, not {family}; "
            f"convert the published file again with that family"
        )
    return weights if anchors is None else with_anchors(weights, anchors)


def save_canonical(path: Path, weights: C4Weights) -> None:
    """Write FILE.safetensors and then FILE.json; the second vouches for the first by checksum."""
    if path.suffix != ".safetensors":
        raise RequestError(f"{path}: the canonical form ends in .safetensors")
    tensors = dict(weights.tensors)
    tensors.update({_ORIGINALS + name: value for name, value in weights.originals.items()})
    data = save({name: value.clone().contiguous() for name, value in tensors.items()})
    storage.write_bytes(path, data)
    fields = {
        "form": _FORM,
        "sha256": storage.sha256_of(path),
        "source_sha256": weights.source_sha256,
        "layout": weights.layout,
        "anchors": weights.anchors,
        "aliases": list(weights.aliases),
        "prefix": weights.prefix,
        "config": weights.config.to_json(),
        "objects": list(weights.objects),
        "attributes": list(weights.attributes),
    }
    storage.write_text(path.with_suffix(".json"), json.dumps(fields, indent=1) + "\n")


def _load_canonical(path: Path) -> C4Weights:
    """Read the pair of files, strictly."""
    described = path.with_suffix(".json")
    for file in (path, described):
        if not file.is_file():
            raise RequestError(f"{file}: missing; the canonical form is a pair of files")
    try:
        weights = _described(path, storage.read_json(described), load_file(path))
    except SafetensorError as error:
        raise RequestError(f"{path}: not a safetensors file ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{described}: {error!r}: not a description of a detector") from error
    shapes = canonical_shapes(weights.config)
    wrong = [f"missing {name}" for name in shapes.keys() - weights.tensors.keys()]
    wrong += [f"unknown {name}" for name in weights.tensors.keys() - shapes.keys()]
    wrong += [
        f"{name} is {tuple(weights.tensors[name].shape)}, not {shapes[name]}"
        for name in shapes.keys() & weights.tensors.keys()
        if tuple(weights.tensors[name].shape) != shapes[name]
    ]
    refuse(path, wrong, "its description")
    return weights


def _described(path: Path, fields: Any, stored: dict[str, torch.Tensor]) -> C4Weights:
    """Join the description and the tensors; KeyError, TypeError where a field is wrong."""
    if fields["form"] != _FORM:
        raise RequestError(f"{path}: form {fields['form']} is not known; convert the file again")
    checksum = storage.sha256_of(path)
    if fields["sha256"] != checksum:
        raise RequestError(f"{path}: checksum {checksum} is not that of its .json; convert again")
    originals = {
        name.removeprefix(_ORIGINALS): value
        for name, value in stored.items()
        if name.startswith(_ORIGINALS)
    }
    return C4Weights(
        config=C4Config.from_json(fields["config"]),
        tensors={k: v for k, v in stored.items() if not k.startswith(_ORIGINALS)},
        originals=originals,
        aliases=tuple(fields["aliases"]),
        prefix=str(fields["prefix"]),
        layout=str(fields["layout"]),
        sha256=checksum,
        source_sha256=str(fields["source_sha256"]),
        anchors=str(fields["anchors"]),
        objects=tuple(fields["objects"]),
        attributes=tuple(fields["attributes"]),
    )


def write(path: Path, weights: C4Weights, layout: str | None = None) -> None:
    """Write the form that the file's ending names: canonical, or a publisher's layout.

    RequestError where the layout's files end otherwise, by which loaders tell them apart.
    """
    if path.suffix == ".safetensors" and layout is None:
        save_canonical(path, weights)
        return
    name = layout_by_name(layout or weights.layout).name
    if path.suffix != _ENDINGS[name]:
        raise RequestError(f"{path}: files in the layout of {name} end in {_ENDINGS[name]}")
    export_file(path, weights, layout)


def export_file(path: Path, weights: C4Weights, layout: str | None = None) -> None:
    """Write a publisher's file: a pickle of arrays for the fork, a torch file for the others."""
    name = layout or weights.layout
    tensors = export_tensors(weights, layout)
    with storage.open_atomic(path) as file:
        if name == "fork":
            arrays = {key: value.numpy() for key, value in tensors.items()}
            pickle.dump({"model": arrays}, file, protocol=4)
        else:
            copies = {key: value.clone() for key, value in tensors.items()}
            torch.save(copies if name == "hf" else {"model": copies}, file)

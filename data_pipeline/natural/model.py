"""The model that tells photographs from graphics: a few small networks whose answers are averaged.

Statistics are standardised, cut off at four deviations, and go through one hidden layer. Runs on
numpy alone: what judges images by the million needs no torch in every process.
"""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from data_pipeline.natural.statistics import Floats
from trawl import storage
from trawl.errors import RequestError

BUILTIN = "builtin"
CUT = 4.0  # deviations beyond which a statistic says no more
_VERSION = "1"
_TENSORS = ("mean", "scale", "first", "first_bias", "second", "second_bias")


@dataclass(frozen=True)
class NaturalModel:
    """Weights of `members` networks with one hidden layer of rectified units.

    mean, scale [statistics]; first [members, statistics, hidden], first_bias [members, hidden];
    second [members, hidden], second_bias [members]. `names` are the statistics in order; `source`
    says from what it was trained.
    """

    names: tuple[str, ...]
    source: str
    mean: Floats
    scale: Floats
    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats

    def naturalness(self, statistics: dict[str, float]) -> float:
        """Return the probability that the image with these statistics is natural."""
        row = np.array([statistics[name] for name in self.names], np.float32)
        return float(self.probabilities(row[None])[0])

    def probabilities(self, rows: Floats) -> npt.NDArray[np.float64]:
        """Return the probability of each of `rows` [images, statistics]."""
        inputs = np.clip((rows - self.mean) / self.scale, -CUT, CUT)
        hidden = np.einsum("is,msh->imh", inputs, self.first) + self.first_bias
        evidence = np.einsum("imh,mh->im", np.maximum(hidden, 0), self.second) + self.second_bias
        return (1 / (1 + np.exp(-evidence.astype(np.float64)))).mean(axis=1)  # type: ignore[no-any-return]

    def to_bytes(self) -> bytes:
        """Return the model as a safetensors file."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        about = {"version": _VERSION, "source": self.source, "names": self.names}
        # One key: safetensors writes several in an order that changes from process to process.
        return save(tensors, {"model": json.dumps(about)})  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=4)
def load_model(place: str) -> NaturalModel:
    """Return the model at `place`, `builtin` for the one that ships; RequestError if it is none."""
    if place == BUILTIN:
        file = resources.files("data_pipeline.natural").joinpath("natural.safetensors")
        return _parse(file.read_bytes(), place)
    return _parse(storage.read_bytes(place), place)


def _parse(data: bytes, place: str) -> NaturalModel:
    """Read a safetensors file; RequestError if it is none or lacks a part."""
    fix = "make one with `trawl corpus train-natural`"
    try:
        tensors, about = _read(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise RequestError(f"image_filter.natural.model {place}: {error}; {fix}") from error
    missing = [name for name in _TENSORS if name not in tensors]
    if missing or about["version"] != _VERSION:
        raise RequestError(f"image_filter.natural.model {place}: not of this version; {fix}")
    return NaturalModel(names=tuple(about["names"]), source=about["source"], **tensors)


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a safetensors file, and what it says about them."""
    tensors = load(data)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    return tensors, json.loads(header["__metadata__"]["model"])

"""Random weights of the published families at their full widths, with random statistics."""

import functools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data_pipeline.detector import c4_config
from data_pipeline.detector.c4_anchors import cell_anchors
from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.c4_weights import C4Weights, canonical_shapes

_PIECE = 250_007
_STEP = 1009


@functools.cache
def random_weights(family: str, seed: int = 0, layout: str | None = None) -> C4Weights:
    """Weights as if read from a file of the family, with activations that stay of order one.

    Shared between callers: take a network with `.network()`, which copies, and change nothing here.
    """
    config = family_config(family)
    draws = _Draws(seed)
    tensors = {
        name: _random(name, shape, draws) for name, shape in canonical_shapes(config).items()
    }
    tensors["cell_anchors"] = cell_anchors(config.anchors)
    if family == "butd-d2":
        for part in ("weight", "bias"):
            tensors[f"regressor.{part}"][:4] = 0
    return C4Weights(
        config=config,
        tensors=tensors,
        originals={},
        aliases=(),
        prefix="",
        layout=layout or {"butd": "milvlg", "butd-d2": "hf", "vinvl": "vinvl"}[family],
        sha256="0" * 64,
        source_sha256="0" * 64,
        anchors=config.anchors,
        objects=tuple(f"object {number}" for number in range(1, config.classes)),
        attributes=tuple(f"attribute {number}" for number in range(1, config.attributes)),
    )


def narrow_families(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Families of few narrow blocks, as long as a fixture lasts: names and order of the full."""
    for name, config in c4_config.FAMILIES.items():
        small = replace(
            config,
            blocks=(2, 1, 1, 1),
            groups=1,
            width=2,
            proposal_width=8,
            classes=11,
            attributes=7,
            embedding_size=4,
            attribute_width=6,
        )
        monkeypatch.setitem(c4_config.FAMILIES, name, small)
    random_weights.cache_clear()
    yield
    random_weights.cache_clear()


class _Draws:
    """Normal draws that come again after two million: much faster than 150 million fresh ones."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._ring = torch.randn(2_000_003, generator=generator)
        self._place = 0

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        values = torch.empty(math.prod(shape))
        for start in range(0, len(values), _PIECE):
            part = values[start : start + _PIECE]
            if self._place + len(part) > len(self._ring):
                self._place %= _STEP
            part.copy_(self._ring[self._place : self._place + len(part)])
            self._place += len(part)
        return values.reshape(shape)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return torch.special.ndtr(self.normal(shape))


def _random(name: str, shape: tuple[int, ...], draws: _Draws) -> Tensor:
    """One tensor: kernels keep the variance, residual branches add little, statistics vary."""
    if name.endswith("running_var"):
        return 0.5 + draws.uniform(shape)
    if name.endswith("normalisation.weight"):
        inner = 0.2 if "conv3" in name else 0.8
        return inner * (0.5 + draws.uniform(shape))
    if name.endswith(("bias", "running_mean")):
        return 0.2 * draws.normal(shape)
    if name in ("proposal_head.deltas.weight", "regressor.weight"):
        return 0.01 * draws.normal(shape)
    if name in ("classifier.weight", "attributes.score.weight"):
        return 0.1 * draws.normal(shape)
    scale = math.sqrt(2 / math.prod(shape[1:]))
    return scale / (64 if name.startswith("stem") else 1) * draws.normal(shape)

"""How much arithmetic a sample is, in closed form, and the share of the devices' peak it gets.

Counted are the matrix products: 2 * in * out for each row that a linear layer reads, and
4 * queries * keys * width for an attention. A backward pass takes twice the forward pass. Only what
the objectives need counts: real tokens without padding, the head over the vocabulary at masked
tokens alone, and nothing twice that activation checkpointing computes twice (Chowdhery et al.,
2022, appendix B).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pretrain import devices, flops_xvlm
from pretrain.measured import Measured
from pretrain.models.families import family_of
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe

Lengths = Mapping[str, float]
"""Of one sample, on average: `text` and `regions`, without padding; `masked` tokens and `predicted`
regions."""
Rows = Callable[[Lengths], float]


def _text(lengths: Lengths) -> float:
    return lengths["text"]


def _regions(lengths: Lengths) -> float:
    return lengths["regions"]


def _joint(lengths: Lengths) -> float:
    return lengths["text"] + lengths["regions"]


def _masked(lengths: Lengths) -> float:
    return lengths["masked"]


def _predicted(lengths: Lengths) -> float:
    return lengths["predicted"]


def _one(_: Lengths) -> float:
    return 1.0


def _none(_: Lengths) -> float:
    return 0.0


# Of each family: how many rows of a sample a layer reads, by its name; the first match counts.
_SINGLE_STREAM: tuple[tuple[str, Rows], ...] = (
    (r"img_(location_)?embedding", _regions),
    (r"^bert\.encoder", _joint),
    (r"^cls\.predictions", _masked),
    (r"^cls\.(object_classifier|feature_regressor)", _predicted),
    (r"", _one),
)
_ROWS: dict[str, tuple[tuple[str, Rows], ...]] = {
    "oscar": _SINGLE_STREAM,
    "imagebert": _SINGLE_STREAM,
    "vilbert": (
        (r"v_embeddings|encoder\.v_layer|biattention\.\w+1|biOutput\.dense1", _regions),
        (r"c_layer\.\d+\.v_", _regions),
        (r"biOutput\.q_dense", _none),
        (r"^bert\.encoder", _text),
        (r"^cls\.predictions", _masked),
        (r"^cls\.(image|feature)Predictions", _predicted),
        (r"", _one),
    ),
    "lxmert": (
        (r"visual_attention", _joint),
        (r"visn_|r_layers", _regions),
        (r"^bert\.encoder", _text),
        (r"^cls\.predictions", _masked),
        (r"^obj_predict_head", _predicted),
        (r"", _one),
    ),
}
# Queries that look at other rows than their own; all others at as many as there are queries.
_CROSS: dict[str, tuple[tuple[str, Rows], ...]] = {
    "vilbert": ((r"biattention\.query1", _text), (r"biattention\.query2", _regions)),
}


@dataclass(frozen=True)
class Arithmetic:
    """The forward pass of one model: what each product costs, and how often a sample needs it."""

    products: list[tuple[float, Rows]]
    fixed: float = 0.0
    """Operations of each sample, whatever its length."""

    def forward(self, lengths: Lengths) -> float:
        """Return the operations of the forward pass of a sample of `lengths`."""
        return self.fixed + sum(cost * rows(lengths) for cost, rows in self.products)

    def training(self, lengths: Lengths) -> float:
        """Return the operations of forward and backward pass of a sample of `lengths`."""
        return 3 * self.forward(lengths)


def reader(model: nn.Module) -> tuple[Callable[[str], Rows], Callable[[str], Rows]]:
    """Return, by a layer's name, the rows that it reads, and of a query its pairs with keys."""
    config: Any = model.config
    family = family_of(config).name
    if family == "xvlm":
        return flops_xvlm.passes(config)

    def read(name: str) -> Rows:
        return next(rows for pattern, rows in _ROWS[family] if re.search(pattern, name))

    def looked_at(name: str) -> Rows:
        keys = next((k for pattern, k in _CROSS.get(family, ()) if re.search(pattern, name)), None)
        if family == "lxmert" and "visual_attention" in name:
            # One layer serves both ways: text looks at regions, and regions at text.
            return lambda lengths: 2 * lengths["text"] * lengths["regions"]
        queries = read(name)
        return lambda lengths: queries(lengths) * (keys or queries)(lengths)

    return read, looked_at


def arithmetic(model: nn.Module) -> Arithmetic:
    """Return the arithmetic of a model of one of the families; it may lie on the meta device."""
    fixed = 0.0
    if family_of(model.config).name == "xvlm":
        fixed = flops_xvlm.image_operations(model)
    return Arithmetic(_products(model, *reader(model)), fixed)


def _products(
    model: nn.Module, read: Callable[[str], Rows], looked_at: Callable[[str], Rows]
) -> list[tuple[float, Rows]]:
    """Return the products of all linear layers and attentions; a query's layer stands for those.

    read: the rows that the layer of a name reads; looked_at: its pairs of queries and keys.
    """
    products: list[tuple[float, Rows]] = []
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        products.append((2.0 * layer.in_features * layer.out_features, read(name)))
        if re.search(r"\.query\d?$", name):
            products.append((4.0 * layer.out_features, looked_at(name)))
    return products


@dataclass(frozen=True)
class Meter:
    """Model FLOPs utilisation: a step's arithmetic over what the devices could do meanwhile."""

    arithmetic: Arithmetic
    peak: float | None
    """Operations per second of all ranks' devices; None: not known."""

    def share(self, measured: Measured, samples: int, seconds: float) -> float | None:
        """Return the MFU of a step of `samples` that took `seconds`, None if no peak is known."""
        if self.peak is None or not measured.tokens:
            return None
        lengths = {name: count / samples for name, count in measured.counts.items()}
        return round(self.arithmetic.training(lengths) * samples / seconds / self.peak, 5)


def meter(model: nn.Module, stage: StageRecipe, peak_tflops: float | None, ranks: Ranks) -> Meter:
    """Return the meter of `stage`, trained by `ranks`; the recipe's peak counts before the name."""
    name = devices.name_of(ranks.device)
    peak = peak_tflops or devices.peak_tflops(name, stage.precision)
    if peak is None:
        return Meter(Arithmetic([]), None)
    return Meter(arithmetic(model), peak * 1e12 * ranks.size)

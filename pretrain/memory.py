"""The memory of a training in closed form: what ZeRO keeps on each rank, and the activations.

Model states: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter
models", 2020, section 3, with the float32 copy of its share that DeepSpeed's optimizer keeps in
stages 1 to 3, also where the weights are float32 themselves.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pretrain.flops import Lengths, Rows, reader
from pretrain.flops_xvlm import image_encoder
from pretrain.layer_options import layers
from pretrain.models.families import family_of

_WIDTH = {"fp32": 4, "bf16": 2}
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class States:
    """Bytes of the model's states on one rank."""

    weights: float
    gradients: float
    optimizer: float
    """Two moments, and the float32 copy of the weights where there is one."""
    on_host: float = 0.0
    """Of the optimizer's, what is kept outside the device."""

    @property
    def on_device(self) -> float:
        """Bytes on the device."""
        return self.weights + self.gradients + self.optimizer - self.on_host


def states(parameters: int, ranks: int, zero: int, precision: str, offload: bool) -> States:
    """Return the states of a model of `parameters` on each of `ranks`, with an Adam."""
    width = _WIDTH[precision]
    copy = 4 if zero or precision == "bf16" else 0
    optimizer = (8 + copy) * parameters / (ranks if zero else 1)
    return States(
        weights=width * parameters / (ranks if zero == 3 else 1),
        gradients=width * parameters / (ranks if zero >= 2 else 1),
        optimizer=optimizer,
        on_host=optimizer if offload else 0.0,
    )


@dataclass(frozen=True)
class Activations:
    """What one sample leaves in the forward pass for the backward pass."""

    kept: list[tuple[float, Rows]]
    """Bytes a row, and how many rows."""
    layers: list[list[tuple[float, Rows]]]
    """The same of each repeated layer."""
    inputs: list[tuple[float, Rows]]
    """What is kept of each layer where it is computed again."""
    fixed: float
    """Bytes of each sample, whatever its length."""

    def bytes(self, lengths: Lengths, recomputed: bool) -> float:
        """Return the bytes of a sample of `lengths`, padding included."""

        def size(parts: list[tuple[float, Rows]]) -> float:
            return sum(cost * rows(lengths) for cost, rows in parts)

        total = self.fixed + size(self.kept)
        within = [size(layer) for layer in self.layers]
        if recomputed:
            # While one layer is computed again, its own are there too.
            return total + size(self.inputs) + max(within, default=0.0)
        return total + sum(within)


def activations(model: nn.Module, precision: str) -> Activations:
    """Return the activations of a model of one of the families; it may lie on the meta device.

    Kept are the input of a linear layer and of a normalisation, what comes of query, key and value,
    what goes into a GELU, a byte a number for dropout, and at the masked tokens the logits and
    their float32 logarithms.
    """
    width = _WIDTH[precision]
    read, _ = reader(model)
    places = {module: name for name, module in model.named_modules()}
    repeated = [f"{places[layer]}." for layer in layers(model)]
    kept: list[tuple[float, Rows]] = []
    groups: list[list[tuple[float, Rows]]] = [[] for _ in repeated]
    inputs: list[tuple[float, Rows]] = []
    for name, module in model.named_modules():
        size = _kept_by(name, module, width)
        if not size or name.startswith("vision_encoder."):
            continue
        rows = read(name)
        number = next((i for i, p in enumerate(repeated) if name.startswith(p)), None)
        (kept if number is None else groups[number]).append((size, rows))
        if number is not None and isinstance(module, nn.Linear) and name.endswith("query"):
            inputs.append((float(module.in_features * width), rows))
    fixed = 0.0
    if family_of(model.config).name == "xvlm":
        encoder, image = image_encoder(model)
        fixed = saved_bytes(lambda: encoder(image), encoder) * width / 4
    return Activations(kept, groups, inputs, fixed)


def _kept_by(name: str, module: nn.Module, width: int) -> float:
    """Return the bytes that `module` keeps of each row."""
    if isinstance(module, nn.LayerNorm):
        # Behind most of them lies a dropout, whose mask takes a byte a number.
        return float(module.normalized_shape[0] * (width + 1))
    if not isinstance(module, nn.Linear):
        return 0.0
    if re.search(r"\.(query|key|value)\d?$", name):
        taken = module.in_features if ".query" in name else 0
        return float((module.out_features + taken) * width)
    if name.endswith("predictions.decoder"):
        return float(module.in_features * width + module.out_features * (width + 4))
    if "inter" in name or "transform" in name:
        return float((module.in_features + module.out_features) * width)
    return float(module.in_features * width)


def saved_bytes(forward: Any, model: nn.Module) -> float:
    """Return the bytes that `forward` keeps for the backward pass, weights left out."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    seen: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            # The storage is held, so that no later one takes its place.
            seen[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outcome = forward()
    size = float(sum(storage.nbytes() for storage in seen.values()))
    del outcome
    return size

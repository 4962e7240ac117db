"""The cases of `bench/kernels.py`: for each operation what it must move and multiply, and who can.

Bytes are those that any implementation moves at least, each input read and each output written
once, forward and backward, and what a backward pass must read again; operations are those of
matrix products, 2 a multiplication.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pretrain.kernels import masked_prediction, region_embedding
from pretrain.kernels.counter_dropout import Places
from pretrain.kernels.region_embedding import Dropout, Layers

Step = Callable[[], list[Tensor]]
"""A forward and a backward pass: the output, and the gradients."""

EPSILON, DROPOUT, SITE = 1e-12, 0.1, 3


@dataclass(frozen=True)
class Sizes:
    """How large the cases are: a micro-batch of Oscar-base of some 120 places a row."""

    rows: int = 136
    tokens: int = 70
    regions: int = 50
    masked: int = 10
    hidden: int = 768
    heads: int = 12
    feature: int = 2048
    words: int = 30522

    @property
    def total(self) -> int:
        """Places of the packed stream."""
        return self.rows * (self.tokens + self.regions)


@dataclass(frozen=True)
class Case:
    """One operation: its formulas, and its steps by the name of who computes it.

    limit: "copy" or "matrix", which of the device's measured rates bounds it.
    """

    name: str
    formula: str
    bytes: int
    operations: int
    limit: str
    steps: dict[str, Step]
    missing: dict[str, str]
    """Libraries that do it and are not here."""


def _step(make: Callable[..., Tensor], inputs: list[Tensor], gradient: Tensor) -> Step:
    """Return the step of an operation of `inputs`, all of which get a gradient."""
    leaves = [each.detach().requires_grad_() for each in inputs]

    def step() -> list[Tensor]:
        found = make(*leaves)
        return [found, *torch.autograd.grad(found, leaves, gradient)]

    return step


def _steps(
    fused: Callable[..., Tensor],
    eager: Callable[..., Tensor],
    inputs: list[Tensor],
    gradient: Tensor,
) -> dict[str, Step]:
    """Return the steps of the kernel, of eager torch and of what torch.compile makes of it."""
    forms = {"kernel": fused, "eager": eager, "compile": torch.compile(eager)}
    return {name: _step(form, inputs, gradient) for name, form in forms.items()}


def _draw(device: torch.device) -> Callable[..., Tensor]:
    """Return what draws bfloat16 numbers, on a CPU float32."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    return draw


def _places(sizes: Sizes, device: torch.device) -> tuple[Places, Tensor]:
    """Return whose the regions are, and where text and regions stand in the stream."""
    text, regions, each = sizes.tokens, sizes.regions, sizes.tokens + sizes.regions
    row = torch.arange(sizes.rows, device=device)[:, None] * each
    of_text = (row + torch.arange(text, device=device)).flatten()
    of_regions = (row + text + torch.arange(regions, device=device)).flatten()
    samples = torch.arange(sizes.rows, device=device).repeat_interleave(regions)
    tokens = torch.arange(regions, device=device).repeat(sizes.rows)
    seed = torch.tensor([7], device=device)
    return Places(seed, samples, tokens), torch.cat([of_text, of_regions])


def region_case(sizes: Sizes, device: torch.device) -> Case:
    """Oscar's regions: int8 features and six numbers of a box, normalised, into the stream."""
    draw, width, size = _draw(device), sizes.hidden, sizes.feature
    count, texts = sizes.rows * sizes.regions, sizes.rows * sizes.tokens
    values = (draw(count, size) * 40).clamp(-127, 127).to(torch.int8)
    scales = torch.rand(count, device=device).half() / 40
    boxes, places = torch.rand(count, 6, device=device), _places(sizes, device)
    inputs = [draw(width, size + 6) / 45, draw(width), draw(width), draw(width), draw(texts, width)]
    dropout = Dropout(DROPOUT, SITE, places[0])

    def fused(weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, text: Tensor) -> Tensor:
        parts = weight[:, :size], weight[:, size:], bias.float(), gain, shift
        layers = Layers(*parts, EPSILON)
        projected = region_embedding.projected_features(values, scales, layers.weight, "triton")
        rest = (boxes, layers, "triton", dropout, text, places[1])
        return region_embedding.embedded_rows(projected, *rest)

    def eager(weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, text: Tensor) -> Tensor:
        features = torch.cat([values.float() * scales.float()[:, None], boxes], dim=1)
        projected = functional.linear(features.to(weight.dtype), weight, bias)
        normed = functional.layer_norm(projected, (width,), gain, shift, EPSILON)
        rows = torch.cat([text, functional.dropout(normed, DROPOUT)])
        return torch.empty_like(rows).index_copy(0, places[1], rows)

    gradient, item = draw(sizes.total, width), inputs[0].element_size()
    steps = _steps(fused, eager, inputs, gradient)
    stream, rows = sizes.total * width * item, count * width * item
    moved = 2 * count * (size + 2 + 24) + 3 * width * (size + 6) * item
    return Case(
        "region embedding",
        "2 R (F + 26) + 3 H (F + 6) s + (4 R + 2 (T + R) + 2 T) H s; 4 R H (F + 6)",
        moved + 4 * rows + 2 * stream + 2 * texts * width * item,
        4 * count * width * (size + 6),
        "copy",
        steps,
        {},
    )


def prediction_case(sizes: Sizes, device: torch.device) -> Case:
    """The decoder over all words and its loss, at masked tokens."""
    draw, width, words = _draw(device), sizes.hidden, sizes.words
    count = sizes.rows * sizes.masked
    inputs = [draw(count, width), draw(words, width) / 28, draw(words)]
    labels = torch.randint(words, (count,), device=device)
    gradient, item = torch.ones((), device=device), inputs[0].element_size()

    def by(name: str) -> Callable[..., Tensor]:
        return lambda *parts: masked_prediction.token_losses(*parts, labels, name).sum()

    missing: dict[str, str] = {}
    steps = {
        **_steps(by("triton"), by("plain"), inputs, gradient),
        "chunked": _step(by("chunked"), inputs, gradient),
        **_torch_losses(inputs, labels, missing),
        **_liger_loss(inputs, labels, missing),
    }
    return Case(
        "masked prediction",
        "3 V H s + 4 P H s; 6 P V H (a kernel that keeps no scores multiplies 8 P V H)",
        (3 * words + 4 * count) * width * item,
        6 * count * words * width,
        "matrix",
        steps,
        missing,
    )


def _torch_losses(inputs: list[Tensor], labels: Tensor, missing: dict[str, str]) -> dict[str, Step]:
    """Return the steps of torch's own product with cross-entropy, whole and by chunks."""
    library = getattr(functional, "linear_cross_entropy", None)
    if library is None:
        missing["torch"] = "linear_cross_entropy comes with torch 2.15"
        return {}

    def by(options: Any) -> Callable[..., Tensor]:
        settings = {"reduction": "sum", "options": options}
        return lambda hidden, weight, bias: library(
            hidden, weight, labels, linear_bias=bias, **settings
        )

    one = torch.ones((), device=labels.device, dtype=inputs[0].dtype)
    found = {"torch": None, "torch, chunks": torch.nn.LinearCrossEntropyOptions()}
    return {name: _step(by(options), inputs, one) for name, options in found.items()}


def _liger_loss(inputs: list[Tensor], labels: Tensor, missing: dict[str, str]) -> dict[str, Step]:
    """Return Liger's step where it is installed."""
    if find_spec("liger_kernel") is None:
        missing["liger"] = "liger-kernel is not installed"
        return {}
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    one = torch.ones((), device=labels.device)
    return {"liger": _step(lambda h, w, b: loss(w, h, labels, b), inputs, one)}


def residual_case(sizes: Sizes, device: torch.device) -> Case:
    """The end of a half layer: LN(residual + dropout(states + bias))."""
    from pretrain.kernels.dropout_residual_norm import dropout_residual_norm

    draw, width, count = _draw(device), sizes.hidden, sizes.total
    inputs = [draw(count, width), draw(width), draw(count, width), draw(width), draw(width)]
    token = torch.arange(count, device=device)
    whose = Places(torch.tensor([7], device=device), token // 120, token % 120)

    def eager(*parts: Tensor) -> Tensor:
        states, bias, residual, gain, shift = parts
        total = residual + functional.dropout(states + bias, DROPOUT)
        return functional.layer_norm(total, (width,), gain, shift, EPSILON)

    def fused(*parts: Tensor) -> Tensor:
        return dropout_residual_norm(*parts, whose, SITE, DROPOUT, EPSILON)

    gradient, item = draw(count, width), inputs[0].element_size()
    steps, missing = _steps(fused, eager, inputs, gradient), {}
    if find_spec("apex") is None:
        missing["apex"] = "apex is not installed"
    else:
        from apex.normalization.fused_layer_norm import fused_layer_norm_affine

        def of_apex(*parts: Tensor) -> Tensor:
            states, bias, residual, gain, shift = parts
            total = residual + functional.dropout(states + bias, DROPOUT)
            found: Tensor = fused_layer_norm_affine(total, gain, shift, (width,), EPSILON)
            return found

        steps["apex"] = _step(of_apex, inputs, gradient)
    return Case(
        "dropout, residual, LayerNorm",
        "8 T H s (states, residual, sum, output; gradient, sum, two gradients); none",
        8 * count * width * item,
        0,
        "copy",
        steps,
        missing,
    )


def attention_case(sizes: Sizes, device: torch.device) -> Case:
    """Attention within packed rows, without dropout, which torch's varlen has not."""
    each, heads = sizes.tokens + sizes.regions, sizes.heads
    count, width = sizes.total, sizes.hidden
    draw = _draw(device)
    inputs = [draw(count, heads, width // heads) for _ in range(3)]
    starts = torch.arange(0, count + 1, each, dtype=torch.int32, device=device)

    def eager(*parts: Tensor) -> Tensor:
        rows = (part.unflatten(0, (-1, each)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(*rows)
        return mixed.transpose(1, 2).flatten(0, 1)

    gradient, item = draw(count, heads, width // heads), inputs[0].element_size()

    def fused(*parts: Tensor) -> Tensor:
        from pretrain.kernels.packed_attention import Starts, by_kernel

        found: Tensor = by_kernel(*parts, Starts(starts, starts, each, each))
        return found

    def of_torch(*parts: Tensor) -> Any:
        from torch.nn.attention.varlen import varlen_attn

        return varlen_attn(*parts, starts, starts, each, each)

    steps = _steps(fused, eager, inputs, gradient)
    steps["torch"] = _step(of_torch, inputs, gradient)
    return Case(
        "packed attention",
        "12 T H s (queries, keys, values, output; these, three gradients); 14 T L H",
        12 * count * width * item,
        14 * count * each * width,
        "copy",
        steps,
        {},
    )


CASES = (region_case, prediction_case, residual_case, attention_case)

"""LN(residual + dropout(states + bias)), the end of both halves of a transformer layer.

Eager PyTorch passes over the states four times; the kernel reads states and residual once and
writes the result, and the sum for the backward pass. What is dropped is a function of the place:
see `counter_dropout`.
"""

from typing import Any

import torch
from torch import Tensor

from pretrain.kernels import selection
from pretrain.kernels.counter_dropout import Places, dropped, kept_channels, scale

_OPERATION = "dropout_residual_norm"
_Forward = tuple[Tensor, Tensor, Tensor, Tensor]
_Backward = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def plain(
    states: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    places: Places,
    site: int,
    probability: float,
    epsilon: float,
) -> Tensor:
    """Return LN(residual + dropout(states + bias)) step by step: the reference.

    states, residual [.., channels]; bias, weight, shift [channels]; places [..].
    """
    total = residual + dropped(states + bias, places, site, probability)
    return torch.nn.functional.layer_norm(total, weight.shape, weight, shift, epsilon)


def forward_plain(
    states: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    places: Places,
    site: int,
    probability: float,
    epsilon: float,
) -> _Forward:
    """Return what the kernel does: normed and total [rows, channels], mean, inverse float32 [rows].

    states, residual [rows, channels]; inverse: of the standard deviation. Halves are added in
    float32 and rounded once; float64 stays.
    """
    wide = torch.promote_types(states.dtype, torch.float32)
    added = states.to(wide) + bias.to(wide)
    if probability > 0:
        added = dropped(added, places, site, probability)
    total = (added + residual.to(wide)).to(states.dtype)
    values = total.to(wide)
    mean = values.mean(dim=-1)
    apart = values - mean[:, None]
    inverse = (apart.square().mean(dim=-1) + epsilon).rsqrt()
    normed = apart * inverse[:, None] * weight.to(wide) + shift.to(wide)
    return normed.to(states.dtype), total, mean, inverse


def backward_plain(
    gradient: Tensor,
    total: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    places: Places,
    site: int,
    probability: float,
) -> _Backward:
    """Return the gradients of states, bias, residual, weight and shift of `forward_plain`."""
    wide = mean.dtype
    pulled = gradient.to(wide)
    standard = (total.to(wide) - mean[:, None]) * inverse[:, None]
    scaled = pulled * weight.to(wide)
    along = (scaled * standard).mean(dim=-1, keepdim=True)
    back = (scaled - scaled.mean(dim=-1, keepdim=True) - standard * along) * inverse[:, None]
    kept = kept_channels(places, site, total.shape[1], probability)
    through = back * kept * scale(probability)
    return (
        through.to(total.dtype),
        through.sum(dim=0).to(weight.dtype),
        back.to(total.dtype),
        (pulled * standard).sum(dim=0).to(weight.dtype),
        pulled.sum(dim=0).to(weight.dtype),
    )


def _by_kernel(tensor: Tensor) -> bool:
    """Return whether the Triton kernel runs; it holds a row in registers, so not the widest."""
    widest = {"triton": "triton has rows of up to 8192 channels"}
    unable = widest if tensor.shape[1] > 8192 else None
    return selection.chosen(_OPERATION, tensor.device, tensor.dtype, unable) == "triton"


@torch.library.custom_op("trawl::dropout_residual_norm", mutates_args=())
def _forward(
    states: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    seed: Tensor,
    samples: Tensor,
    tokens: Tensor,
    site: int,
    probability: float,
    epsilon: float,
) -> _Forward:
    places = Places(seed, samples.contiguous(), tokens.contiguous())
    parts = (states.contiguous(), bias.contiguous(), residual.contiguous(), weight, shift)
    forward = forward_plain
    if _by_kernel(states):
        from pretrain.kernels.dropout_residual_norm_kernel import forward_by_kernel as forward
    return forward(*parts, places, site, probability, epsilon)


@_forward.register_fake
def _(states: Tensor, *_: object) -> _Forward:
    wide = torch.promote_types(states.dtype, torch.float32)
    mean = states.new_empty(states.shape[0], dtype=wide)
    normed = states.new_empty(states.shape)
    return normed, torch.empty_like(normed), mean, torch.empty_like(mean)


@torch.library.custom_op("trawl::dropout_residual_norm_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    total: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    seed: Tensor,
    samples: Tensor,
    tokens: Tensor,
    site: int,
    probability: float,
) -> _Backward:
    places = Places(seed, samples.contiguous(), tokens.contiguous())
    parts = (gradient.contiguous(), total, weight)
    backward = backward_plain
    if _by_kernel(total):
        from pretrain.kernels.dropout_residual_norm_kernel import backward_by_kernel as backward
    return backward(*parts, mean, inverse, places, site, probability)


@_backward.register_fake
def _(gradient: Tensor, total: Tensor, weight: Tensor, *_: object) -> _Backward:
    states, channels = torch.empty_like(total), weight.new_empty(weight.shape)
    return (
        states,
        channels,
        torch.empty_like(states),
        torch.empty_like(channels),
        torch.empty_like(channels),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: _Forward) -> None:
    _, total, mean, inverse = output
    _, _, _, weight, _, seed, samples, tokens, site, probability, _ = inputs
    ctx.save_for_backward(total, weight, mean, inverse, seed, samples, tokens)
    ctx.settings = (site, probability)


def _pull(ctx: Any, gradient: Tensor, *_: object) -> tuple[Tensor | None, ...]:
    of_inputs = _backward(gradient, *ctx.saved_tensors, *ctx.settings)
    return (*of_inputs, None, None, None, None, None, None)


_forward.register_autograd(_pull, setup_context=_keep)


def dropout_residual_norm(
    states: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    places: Places,
    site: int,
    probability: float,
    epsilon: float,
) -> Tensor:
    """Return LN(residual + dropout(states + bias)), by the implementation that is chosen.

    states, residual [.., channels]; bias, weight, shift [channels]; places [..]. The same as
    `plain`, within the tolerances of tests/pretrain/kernels/test_dropout_residual_norm.py.
    """
    rows = states.flatten(0, -2)
    normed = _forward(
        rows, bias, residual.flatten(0, -2), weight, shift,
        places.seed, places.samples.flatten(), places.tokens.flatten(), site, probability, epsilon,
    )[0]  # fmt: skip
    return normed.view(states.shape)

"""Masked prediction: the decoder over all words and its cross-entropy, without keeping the scores.

A BERT scores 30,522 words for every masked token; kept in float32 for the backward pass, those of
10,000 tokens are 1.2 GB. Here the forward pass reads the words in chunks and keeps two numbers a
token; the backward pass computes each chunk again. In products of [tokens, width, words] that is
four, where keeping the scores takes three.

Three implementations: "plain" is torch's cross-entropy of all scores; "chunked" is the same by
chunks of words in plain torch; "triton" computes scores, softmax and gradient of a chunk in one
kernel each (`masked_prediction_kernel`) and leaves the other products to the library. The twins
agree within 1e-5 in float32 and within the rounding of the type elsewhere
(tests/pretrain/kernels/test_masked_prediction.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -1
"""The label of a token of which nothing is predicted."""

_MOST_SCORES = 1 << 24
"""Scores of one chunk: 32 MB in half precision, which a large GPU's cache holds."""
_MOST_WORDS, _LEAST_WORDS = 8192, 512


def plain(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, words: int) -> Tensor:
    """Return the loss of each token, float32 [tokens], 0 where the label is -1: the reference.

    hidden [tokens, width]; weight [rows, width] and bias [rows], of which the first `words` are
    words and the others padding; labels int64 [tokens].
    """
    scores = functional.linear(hidden, weight[:words], bias[:words]).float()
    return functional.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="none")


def token_losses(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    implementation: str,
    words: int | None = None,
) -> Tensor:
    """Return what `plain` returns, by the `implementation` plain, chunked or triton.

    words: how many rows of `weight` are words, by default all.
    """
    words = weight.shape[0] if words is None else words
    if implementation == "plain":
        return plain(hidden, weight, bias, labels, words)
    by_kernel = implementation == "triton"
    losses: Tensor = _losses(
        hidden.contiguous(), weight.contiguous(), bias, labels.long(), words, by_kernel
    )[0]
    return losses


def chunks(tokens: int, words: int) -> Iterator[range]:
    """Return the chunks of words that are scored together for so many tokens."""
    fitting = _MOST_SCORES // max(1, tokens) // 64 * 64
    size = min(_MOST_WORDS, max(_LEAST_WORDS, fitting))
    return (range(start, min(start + size, words)) for start in range(0, words, size))


def _scores(hidden: Tensor, weight: Tensor, bias: Tensor, chunk: range) -> Tensor:
    """Return the scores of the words in `chunk`: float32 [tokens, chunk]."""
    words = slice(chunk.start, chunk.stop)
    return functional.linear(hidden, weight[words], bias[words]).float()


def _within(labels: Tensor, chunk: range) -> tuple[Tensor, Tensor]:
    """Return which labels lie in `chunk`, and the column of each, 0 for the others: [tokens, 1]."""
    inside = (labels >= chunk.start) & (labels < chunk.stop)
    return inside, torch.where(inside, labels - chunk.start, 0)[:, None]


def losses_by_chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, words: int
) -> tuple[Tensor, Tensor]:
    """Return the label's score and the log of the sum of exp of all scores, float32 [tokens]."""
    chosen = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
    normalisers = torch.full_like(chosen, -torch.inf)
    for chunk in chunks(len(hidden), words):
        scores = _scores(hidden, weight, bias, chunk)
        normalisers = torch.logaddexp(normalisers, scores.logsumexp(1))
        inside, column = _within(labels, chunk)
        chosen += scores.gather(1, column)[:, 0].masked_fill(~inside, 0.0)
    return chosen, normalisers


def gradient_of_chunk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    normalisers: Tensor,
    incoming: Tensor,
    chunk: range,
) -> Tensor:
    """Return the gradient of the scores of the words in `chunk`: [tokens, chunk], as `hidden`.

    normalisers float32 [tokens]: see `losses_by_chunks`; incoming float32 [tokens]: the gradient of
    the losses, 0 where nothing is predicted.
    """
    scores = _scores(hidden, weight, bias, chunk)
    share = scores.sub_(normalisers[:, None]).exp_()
    inside, column = _within(labels, chunk)
    share.scatter_add_(1, column, -inside[:, None].float())
    return share.mul_(incoming[:, None]).to(hidden.dtype)


@torch.library.custom_op("trawl::token_losses", mutates_args=())
def _losses(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, words: int, by_kernel: bool
) -> tuple[Tensor, Tensor]:
    """Return the losses and what the backward pass keeps, both float32 [tokens]."""
    if by_kernel:
        from pretrain.kernels.masked_prediction_kernel import losses_by_kernel as scored
    else:
        scored = losses_by_chunks
    chosen, normalisers = scored(hidden, weight, bias, labels, words)
    return torch.where(labels == IGNORED, 0.0, normalisers - chosen), normalisers


@_losses.register_fake
def _(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, words: int, by_kernel: bool
) -> tuple[Tensor, Tensor]:
    losses = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
    return losses, torch.empty_like(losses)


@torch.library.custom_op("trawl::token_losses_backward", mutates_args=())
def _backward(
    incoming: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    normalisers: Tensor,
    words: int,
    by_kernel: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of hidden, weight and bias, each in its own type."""
    if by_kernel:
        from pretrain.kernels.masked_prediction_kernel import gradient_by_kernel as gradient_of
    else:
        gradient_of = gradient_of_chunk
    incoming = torch.where(labels == IGNORED, 0.0, incoming.float())
    of_hidden = torch.zeros_like(hidden, dtype=torch.float32)
    of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for chunk in chunks(len(hidden), words):
        gradient = gradient_of(hidden, weight, bias, labels, normalisers, incoming, chunk)
        own = slice(chunk.start, chunk.stop)
        of_hidden += gradient @ weight[own]
        of_weight[own] = gradient.t() @ hidden
        of_bias[own] = gradient.sum(0, dtype=torch.float32)
    return of_hidden.to(hidden.dtype), of_weight, of_bias


@_backward.register_fake
def _(
    incoming: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    normalisers: Tensor,
    words: int,
    by_kernel: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(hidden), torch.empty_like(weight), torch.empty_like(bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    hidden, weight, bias, labels, ctx.words, ctx.by_kernel = inputs
    ctx.save_for_backward(hidden, weight, bias, labels, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, incoming: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _backward(incoming, *ctx.saved_tensors, ctx.words, ctx.by_kernel)
    return (*gradients, None, None, None)


_losses.register_autograd(_differentiate, setup_context=_keep)

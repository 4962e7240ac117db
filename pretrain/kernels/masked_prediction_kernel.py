"""The two Triton kernels of masked prediction: the loss of a token, and the gradient of scores.

`losses_kernel` multiplies states with the words' vectors tile by tile and keeps a running maximum
and sum for each state, so no score leaves the registers. `gradient_kernel` computes one chunk of
words again for the backward pass. The plain twins are in `masked_prediction`. Needs triton (the
extra "gpu").
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pretrain.kernels.launching import PINNED
from pretrain.kernels.multiplying import multiplied, product

_ROWS = 128
_COLUMNS = 128
_DEPTH = 64
_PROGRAMS = 264
"""Programs that keep the largest GPUs busy: two for each multiprocessor of an H100 or H200. A
constant, for the order of sums must not depend on the GPU."""


@triton.jit
def _scores(  # type: ignore[no-untyped-def]
    hidden,
    weight,
    bias,
    row,
    column,
    positions,
    words,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    compute: tl.constexpr,
):
    """Return float32 [rows, columns]: the scores of words for states, -inf beyond the words."""
    total = product(
        hidden, weight, row, column, positions, words, width, rows, columns, depth, compute
    )
    known = column < words
    shift = tl.load(bias + column, mask=known, other=0.0).to(tl.float32)
    return tl.where(known[None, :], total + shift[None, :], -float("inf"))


@triton.jit(do_not_specialize=["positions"])
def losses_kernel(  # type: ignore[no-untyped-def]
    hidden,  # [positions, width]
    weight,  # [at least words, width]
    bias,  # [at least words]
    labels,  # int64 [positions]
    normalisers,  # float32 [parts, positions], log of the sum of exp of a part's scores
    chosen,  # float32 [parts, positions], the label's score, 0 where another part has it
    positions,
    words,
    width,
    span,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    compute: tl.constexpr,
) -> None:
    """`rows` states and the `span` words of one part."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    part = tl.program_id(1)
    first = part * span
    last = tl.minimum(first + span, words)
    label = tl.load(labels + row, mask=row < positions, other=-1)
    peak = tl.full([rows], -float("inf"), tl.float32)
    total = tl.zeros([rows], tl.float32)
    found = tl.zeros([rows], tl.float32)
    for start in range(first, last, columns):
        column = start + tl.arange(0, columns)
        scores = _scores(
            hidden, weight, bias, row, column, positions, last, width, rows, columns, depth, compute
        )
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        total = total * tl.exp(peak - higher) + tl.sum(tl.exp(scores - higher[:, None]), axis=1)
        peak = higher
        found += tl.sum(tl.where(column[None, :] == label[:, None], scores, 0.0), axis=1)
    target = part * positions + row
    tl.store(normalisers + target, peak + tl.log(total), mask=row < positions)
    tl.store(chosen + target, found, mask=row < positions)


@triton.jit(do_not_specialize=["positions"])
def gradient_kernel(  # type: ignore[no-untyped-def]
    hidden,  # [positions, width]
    weight,  # [at least words, width]
    bias,  # [at least words]
    labels,  # int64 [positions]
    normalisers,  # float32 [positions]
    incoming,  # float32 [positions], 0 where nothing is predicted
    gradient,  # [positions, chunk]
    positions,
    words,
    width,
    first,
    chunk,
    rows: tl.constexpr,
    columns: tl.constexpr,
    depth: tl.constexpr,
    compute: tl.constexpr,
) -> None:
    """The gradient of the scores of `rows` states for `columns` words of a chunk from `first`."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    place = tl.program_id(1) * columns + tl.arange(0, columns)
    column = first + place
    inside = row < positions
    scores = _scores(
        hidden, weight, bias, row, column, positions, words, width, rows, columns, depth, compute
    )
    label = tl.load(labels + row, mask=inside, other=-1)
    normaliser = tl.load(normalisers + row, mask=inside, other=0.0)
    factor = tl.load(incoming + row, mask=inside, other=0.0)
    share = tl.exp(scores - normaliser[:, None])
    share = tl.where(column[None, :] == label[:, None], share - 1.0, share) * factor[:, None]
    target = gradient + row.to(tl.int64)[:, None] * chunk + place[None, :]
    kept = inside[:, None] & (place < chunk)[None, :]
    tl.store(target, share.to(gradient.dtype.element_ty), mask=kept)


def tiles(compute: tl.dtype) -> dict[str, int]:
    """Return the constants of both kernels that multiply numbers of `compute`."""
    wide = compute == tl.float32
    return {"rows": 64 if wide else _ROWS, "columns": _COLUMNS, "depth": 32 if wide else _DEPTH}


def losses_by_kernel(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    words: int,
) -> tuple[Tensor, Tensor]:
    """Return the label's score and the log of the sum of exp of all scores, float32 [positions].

    Contiguous hidden [positions, width], weight [at least words, width], bias [at least words];
    labels int64 [positions], outside of the words where nothing is predicted: their score is 0.
    """
    positions, width = hidden.shape
    compute = multiplied(hidden.dtype)
    sizes = tiles(compute)
    blocks = triton.cdiv(positions, sizes["rows"])
    parts = max(1, min(_PROGRAMS // max(1, blocks), triton.cdiv(words, 8 * sizes["columns"])))
    span = triton.cdiv(triton.cdiv(words, parts), sizes["columns"]) * sizes["columns"]
    parts = triton.cdiv(words, span)
    normalisers = torch.empty(parts, positions, dtype=torch.float32, device=hidden.device)
    chosen = torch.empty_like(normalisers)
    if positions:
        losses_kernel[(blocks, parts)](
            hidden,
            weight,
            bias,
            labels,
            normalisers,
            chosen,
            positions,
            words,
            width,
            span,
            **sizes,
            compute=compute,
            num_warps=8,
            **PINNED,
        )
    return chosen.sum(0), normalisers.logsumexp(0)


def gradient_by_kernel(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    normalisers: Tensor,
    incoming: Tensor,
    chunk: range,
) -> Tensor:
    """Return the gradient of the scores of the words in `chunk`: [positions, chunk], as `hidden`.

    normalisers and incoming float32 [positions]: see `losses_by_kernel`, and the loss's gradient.
    """
    positions, width = hidden.shape
    compute = multiplied(hidden.dtype)
    sizes = tiles(compute)
    gradient = hidden.new_empty(positions, len(chunk))
    if positions:
        grid = (triton.cdiv(positions, sizes["rows"]), triton.cdiv(len(chunk), sizes["columns"]))
        gradient_kernel[grid](
            hidden,
            weight,
            bias,
            labels,
            normalisers,
            incoming,
            gradient,
            positions,
            chunk.stop,
            width,
            chunk.start,
            len(chunk),
            **sizes,
            compute=compute,
            num_warps=8,
            **PINNED,
        )
    return gradient

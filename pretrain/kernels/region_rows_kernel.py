"""The row work of region embeddings as Triton kernels: all between the projection and the stream.

A program takes a few regions: the linear layer of their boxes in registers, LayerNorm, dropout, and
the place of each in the packed stream, into which the text's rows are copied as well. All
arithmetic is float32. The plain twin is `region_embedding.rows_plain`. Needs triton (the extra
"gpu").
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pretrain.kernels.counter_dropout import ROUNDS
from pretrain.kernels.launching import PINNED

_PROGRAMS = 264
"""Programs of the backward pass, two for each multiprocessor of an H100 or H200. A constant: the
order in which gains are summed must not depend on the GPU."""
_CELLS = 2048
"""Numbers that a program holds of each tensor at a time."""
WARPS = 4

_ROUNDS = tl.constexpr(ROUNDS)


@triton.jit
def _kept(  # type: ignore[no-untyped-def]
    seed, sample, token, site: tl.constexpr, threshold: tl.constexpr, block: tl.constexpr
):
    """Which channels of some regions are kept, bool [rows, block]: `kept_channels`, the plain twin.

    sample and token int64 [rows].
    """
    group = tl.arange(0, block // 4).to(tl.uint32)[None, :]
    zero = (sample * 0).to(tl.uint32)[:, None] + group * 0
    one, two, three, four = tl.philox(
        seed,
        zero + group + (site << 16),
        zero + token.to(tl.uint32)[:, None],
        zero + (sample & 0xFFFFFFFF).to(tl.uint32)[:, None],
        zero + (sample >> 32).to(tl.uint32)[:, None],
        _ROUNDS,
    )
    words = tl.join(tl.join(one, three), tl.join(two, four))
    return tl.reshape(words, [sample.shape[0], block]) >= threshold


@triton.jit
def _box_vectors(box_weight, channel, inside, width, numbers: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the vectors of the boxes' linear layer, one for each number: float32 [block] each."""
    vectors = ()
    for number in tl.static_range(numbers):
        vector = tl.load(box_weight + number * width + channel, mask=inside, other=0.0)
        vectors = vectors + (vector.to(tl.float32),)  # type: ignore[assignment]
    return vectors


@triton.jit
def _boxes_linear(boxes, vectors, shift, row, within, numbers: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return shift + boxes @ vectors, float32 [rows, block]."""
    total = tl.zeros([row.shape[0], shift.shape[0]], tl.float32) + shift[None, :]
    for number in tl.static_range(numbers):
        side = tl.load(boxes + row * numbers + number, mask=within, other=0.0).to(tl.float32)
        total += side[:, None] * vectors[number][None, :]
    return total


@triton.jit
def _normalised(values, inside, width, epsilon):  # type: ignore[no-untyped-def]
    """Return (values - mean) / deviation, and mean and 1 / deviation [rows]."""
    mean = tl.sum(tl.where(inside[None, :], values, 0.0), axis=1) / width
    apart = tl.where(inside[None, :], values - mean[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(apart * apart, axis=1) / width + epsilon)
    return apart * inverse[:, None], mean, inverse


@triton.jit(do_not_specialize=["texts", "regions"])
def embed_kernel(  # type: ignore[no-untyped-def]
    projected,  # [regions, width]
    boxes,  # float32 [regions, numbers]
    box_weight,  # [numbers, width]
    offset,  # float32 [width], as all vectors that follow
    gain,
    shift,
    box_offset,
    box_gain,
    box_shift,
    text,  # [texts, width]
    places,  # int64 [texts + regions]
    seed,  # int64 [1]
    samples,  # int64 [regions]
    tokens,  # int64 [regions]
    stream,  # [texts + regions, width]
    statistics,  # float32 [4, regions]: mean and 1 / deviation, of the sum and of the boxes
    texts,
    regions,
    width,
    epsilon,
    scale,
    numbers: tl.constexpr,
    form: tl.constexpr,
    placed: tl.constexpr,
    site: tl.constexpr,
    threshold: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """`rows` regions, or as many rows of text. form 0: the sum, 1: normalised, 2: a mean of two."""
    program = tl.program_id(0)
    channel = tl.arange(0, block)
    inside = channel < width
    blocks = tl.cdiv(regions, rows)
    if program >= blocks:
        line = (program - blocks) * rows + tl.arange(0, rows)
        there = line < texts
        goal = line.to(tl.int64)
        if placed:
            goal = tl.load(places + line, mask=there, other=0)
        all_of = there[:, None] & inside[None, :]
        copied = tl.load(text + line.to(tl.int64)[:, None] * width + channel[None, :], mask=all_of)
        tl.store(stream + goal[:, None] * width + channel[None, :], copied, mask=all_of)
    else:
        row = program * rows + tl.arange(0, rows)
        within = row < regions
        both = within[:, None] & inside[None, :]
        source = row.to(tl.int64)[:, None] * width + channel[None, :]
        values = tl.load(projected + source, mask=both, other=0.0).to(tl.float32)
        vectors = _box_vectors(box_weight, channel, inside, width, numbers)
        base = tl.load(offset + channel, mask=inside, other=0.0)
        if form == 2:
            values += base[None, :]
            box_base = tl.load(box_offset + channel, mask=inside, other=0.0)
            placed_as = _boxes_linear(boxes, vectors, box_base, row, within, numbers)
        else:
            values += _boxes_linear(boxes, vectors, base, row, within, numbers)
        if form > 0:
            values, mean, inverse = _normalised(values, inside, width, epsilon)
            tl.store(statistics + row, mean, mask=within)
            tl.store(statistics + regions + row, inverse, mask=within)
            values *= tl.load(gain + channel, mask=inside, other=0.0)[None, :]
            values += tl.load(shift + channel, mask=inside, other=0.0)[None, :]
        if form == 2:
            other, mean, inverse = _normalised(placed_as, inside, width, epsilon)
            tl.store(statistics + 2 * regions + row, mean, mask=within)
            tl.store(statistics + 3 * regions + row, inverse, mask=within)
            other *= tl.load(box_gain + channel, mask=inside, other=0.0)[None, :]
            other += tl.load(box_shift + channel, mask=inside, other=0.0)[None, :]
            values = (values + other) * 0.5
        if threshold > 0:
            sample = tl.load(samples + row, mask=within, other=0)
            token = tl.load(tokens + row, mask=within, other=0)
            kept = _kept(tl.load(seed), sample, token, site, threshold, block)
            values = tl.where(kept, values * scale, 0.0)
        target = (texts + row).to(tl.int64)
        if placed:
            target = tl.load(places + texts + row, mask=within, other=0)
        tl.store(
            stream + target[:, None] * width + channel[None, :],
            values.to(stream.dtype.element_ty),
            mask=both,
        )


@triton.jit
def _norm_gradient(apart, incoming, gain, inverse, width):  # type: ignore[no-untyped-def]
    """Return the gradient of what was normalised to `apart`, [rows, block]."""
    slope = incoming * gain[None, :]
    along = tl.sum(slope * apart, axis=1) / width
    middle = tl.sum(slope, axis=1) / width
    return (slope - middle[:, None] - apart * along[:, None]) * inverse[:, None]


@triton.jit(do_not_specialize=["texts", "regions"])
def embed_backward_kernel(  # type: ignore[no-untyped-def]
    incoming,  # [texts + regions, width]
    projected,  # as in `embed_kernel`, to `tokens`
    boxes,
    box_weight,
    offset,
    gain,
    box_offset,
    box_gain,
    places,
    seed,
    samples,
    tokens,
    statistics,
    of_projected,  # [regions, width]
    of_boxes,  # [regions, width], of the boxes' linear layer where it has a norm of its own
    sums,  # float32 [programs, 3, width]: gradients of gain, of shift and of box_gain
    texts,
    regions,
    width,
    scale,
    numbers: tl.constexpr,
    form: tl.constexpr,
    placed: tl.constexpr,
    site: tl.constexpr,
    threshold: tl.constexpr,
    rows: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Every so many-th block of regions; what belongs to all regions is summed per program."""
    program = tl.program_id(0)
    channel = tl.arange(0, block)
    inside = channel < width
    if form > 0:
        weight = tl.load(gain + channel, mask=inside, other=0.0)
        base = tl.load(offset + channel, mask=inside, other=0.0)
        vectors = _box_vectors(box_weight, channel, inside, width, numbers)
    if form == 2:
        box_slope = tl.load(box_gain + channel, mask=inside, other=0.0)
        box_base = tl.load(box_offset + channel, mask=inside, other=0.0)
    of_gain = tl.zeros([block], tl.float32)
    of_shift = tl.zeros([block], tl.float32)
    of_box_gain = tl.zeros([block], tl.float32)
    for number in tl.range(program, tl.cdiv(regions, rows), tl.num_programs(0), num_stages=3):
        row = number * rows + tl.arange(0, rows)
        within = row < regions
        both = within[:, None] & inside[None, :]
        source = (texts + row).to(tl.int64)
        if placed:
            source = tl.load(places + texts + row, mask=within, other=0)
        slope = tl.load(
            incoming + source[:, None] * width + channel[None, :], mask=both, other=0.0
        ).to(tl.float32)
        if threshold > 0:
            sample = tl.load(samples + row, mask=within, other=0)
            token = tl.load(tokens + row, mask=within, other=0)
            kept = _kept(tl.load(seed), sample, token, site, threshold, block)
            slope = tl.where(kept, slope * scale, 0.0)
        own = row.to(tl.int64)[:, None] * width + channel[None, :]
        if form > 0:
            values = tl.load(projected + own, mask=both, other=0.0).to(tl.float32)
            mean = tl.load(statistics + row, mask=within, other=0.0)
            inverse = tl.load(statistics + regions + row, mask=within, other=0.0)
            if form == 2:
                slope = slope * 0.5
                values += base[None, :]
                other = _boxes_linear(boxes, vectors, box_base, row, within, numbers)
                middle = tl.load(statistics + 2 * regions + row, mask=within, other=0.0)
                far = tl.load(statistics + 3 * regions + row, mask=within, other=0.0)
                other = tl.where(both, (other - middle[:, None]) * far[:, None], 0.0)
                of_box_gain += tl.sum(slope * other, axis=0)
                of_box = _norm_gradient(other, slope, box_slope, far, width)
                tl.store(of_boxes + own, of_box.to(of_boxes.dtype.element_ty), mask=both)
            else:
                values += _boxes_linear(boxes, vectors, base, row, within, numbers)
            values = tl.where(both, (values - mean[:, None]) * inverse[:, None], 0.0)
            of_gain += tl.sum(slope * values, axis=0)
            of_shift += tl.sum(slope, axis=0)
            slope = _norm_gradient(values, slope, weight, inverse, width)
        tl.store(of_projected + own, slope.to(of_projected.dtype.element_ty), mask=both)
    target = sums + program * 3 * width + channel
    if form > 0:
        tl.store(target, of_gain, mask=inside)
        tl.store(target + width, of_shift, mask=inside)
        tl.store(target + 2 * width, of_box_gain, mask=inside)


def tiles(width: int) -> dict[str, int]:
    """Return the sizes of the tiles of both kernels for states of `width`."""
    block = max(4, triton.next_power_of_2(width))
    return {"rows": max(1, min(8, _CELLS // block)), "block": block}


def embed_by_kernel(
    projected: Tensor,
    boxes: Tensor,
    vectors: list[Tensor | None],
    text: Tensor,
    places: Tensor | None,
    drawn: tuple[Tensor, Tensor, Tensor] | None,
    numbers: tuple[float, float],
    constants: dict[str, int],
) -> tuple[Tensor, Tensor]:
    """Return the stream [texts + regions, width] and the statistics float32 [4, regions].

    All contiguous. vectors: box_weight, offset, gain, shift, box_offset, box_gain, box_shift, as
    in `region_embedding.Layers`; text [texts, width]; places: where each row of text and then each
    region stands, nothing: one after another; drawn: seed, samples, tokens; numbers: epsilon, and
    the scale of what dropout keeps; constants: form, site and threshold.
    """
    (regions, width), texts = projected.shape, len(text)
    sizes = tiles(width)
    stream = projected.new_empty(texts + regions, width)
    statistics = torch.empty(4, regions, dtype=torch.float32, device=projected.device)
    blocks = triton.cdiv(regions, sizes["rows"]) + triton.cdiv(texts, sizes["rows"])
    if blocks:
        embed_kernel[(blocks,)](
            projected,
            boxes,
            *(projected if vector is None else vector for vector in vectors),
            text,
            projected if places is None else places,
            *(drawn or (projected, projected, projected)),
            stream,
            statistics,
            texts,
            regions,
            width,
            *numbers,
            numbers=boxes.shape[1],
            placed=places is not None,
            **constants,
            **sizes,
            num_warps=WARPS,
            **PINNED,
        )
    return stream, statistics


def embed_backward_by_kernel(
    incoming: Tensor,
    projected: Tensor,
    boxes: Tensor,
    vectors: list[Tensor | None],
    places: Tensor | None,
    drawn: tuple[Tensor, Tensor, Tensor] | None,
    statistics: Tensor,
    scale: float,
    constants: dict[str, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the projected features and of the boxes' linear layer, and sums.

    [regions, width] each; the second is the first where both are one sum. The sums float32
    [3, width] are the gradients of gain, of shift, which box_shift shares, and of box_gain.
    vectors: box_weight, offset, gain, box_offset, box_gain; all else as in `embed_by_kernel`.
    """
    regions, width = projected.shape
    sizes = tiles(width)
    of_projected = torch.empty_like(projected)
    of_boxes = torch.empty_like(projected) if constants["form"] == 2 else of_projected
    programs = min(_PROGRAMS, triton.cdiv(regions, sizes["rows"]))
    sums = torch.empty(programs, 3, width, dtype=torch.float32, device=projected.device)
    if programs:
        embed_backward_kernel[(programs,)](
            incoming,
            projected,
            boxes,
            *(projected if vector is None else vector for vector in vectors),
            projected if places is None else places,
            *(drawn or (projected, projected, projected)),
            statistics,
            of_projected,
            of_boxes,
            sums,
            len(incoming) - regions,
            regions,
            width,
            scale,
            numbers=boxes.shape[1],
            placed=places is not None,
            **constants,
            **sizes,
            num_warps=WARPS,
            **PINNED,
        )
    return of_projected, of_boxes, sums.sum(0)

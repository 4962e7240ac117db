"""LN(residual + dropout(states + bias)) as Triton kernels, forward and backward; a program a row.

The plain twins are in `dropout_residual_norm`. All arithmetic is float32: a value is converted
right after it is loaded. Needs triton (the extra "gpu").
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pretrain.kernels.counter_dropout import ROUNDS, Places, scale, threshold
from pretrain.kernels.launching import PINNED

MOST_CHANNELS = 8192
"""Wider rows would not fit in the registers of a program."""
_PROGRAMS_OF_A_PROCESSOR = 4

_ROUNDS = tl.constexpr(ROUNDS)


@triton.jit
def kept_of_row(  # type: ignore[no-untyped-def]
    seed, sample, token, site, threshold: tl.constexpr, block: tl.constexpr
):
    """Which channels of one state are kept: bool [block]."""
    group = tl.arange(0, block // 4).to(tl.uint32)
    zero = group * 0
    one, two, three, four = tl.philox(
        seed,
        group + (tl.cast(site, tl.uint32) << 16),
        zero + token.to(tl.uint32),
        zero + (sample & 0xFFFFFFFF).to(tl.uint32),
        zero + (sample >> 32).to(tl.uint32),
        _ROUNDS,
    )
    words = tl.join(tl.join(one, three), tl.join(two, four))
    return tl.reshape(words, [block]) >= threshold


@triton.jit(do_not_specialize=["site"])
def forward_kernel(  # type: ignore[no-untyped-def]
    states,  # [rows, channels], as residual, total, normed
    bias,  # [channels], as weight, shift
    residual,
    weight,
    shift,
    seed,  # int64 [1]
    samples,  # int64 [rows], as tokens
    tokens,
    total,
    normed,
    mean,  # float32 [rows], as inverse
    inverse,
    channels,
    epsilon,
    scale,
    site,
    threshold: tl.constexpr,
    block: tl.constexpr,
):
    """One row."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, block)
    inside = channel < channels
    place = row * channels + channel
    values = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    values += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    if threshold > 0:
        kept = kept_of_row(
            tl.load(seed), tl.load(samples + row), tl.load(tokens + row), site, threshold, block
        )
        values = tl.where(kept, values * scale, 0.0)
    values += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    # The sum is normalised as it is kept for the backward pass, rounded.
    rounded = values.to(total.dtype.element_ty)
    tl.store(total + place, rounded, mask=inside)
    values = tl.where(inside, rounded.to(tl.float32), 0.0)
    middle = tl.sum(values, axis=0) / channels
    apart = tl.where(inside, values - middle, 0.0)
    root = 1.0 / tl.sqrt(tl.sum(apart * apart, axis=0) / channels + epsilon)
    gain = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    base = tl.load(shift + channel, mask=inside, other=0.0).to(tl.float32)
    result = apart * root * gain + base
    tl.store(normed + place, result.to(normed.dtype.element_ty), mask=inside)
    tl.store(mean + row, middle)
    tl.store(inverse + row, root)


@triton.jit(do_not_specialize=["site"])
def backward_kernel(  # type: ignore[no-untyped-def]
    gradient,  # [rows, channels], as total, of_states, of_residual
    total,
    weight,  # [channels]
    mean,  # float32 [rows], as inverse
    inverse,
    seed,  # int64 [1]
    samples,  # int64 [rows], as tokens
    tokens,
    of_states,
    of_residual,
    of_bias,  # float32 [programs, channels], as of_weight, of_shift
    of_weight,
    of_shift,
    rows,
    channels,
    scale,
    site,
    threshold: tl.constexpr,
    block: tl.constexpr,
):
    """Every so many rows, with their sums for bias, weight and shift."""
    program = tl.program_id(0)
    channel = tl.arange(0, block)
    inside = channel < channels
    gain = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
    bias_sum = tl.zeros([block], tl.float32)
    weight_sum = tl.zeros([block], tl.float32)
    shift_sum = tl.zeros([block], tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        place = tl.cast(row, tl.int64) * channels + channel
        pulled = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
        values = tl.load(total + place, mask=inside, other=0.0).to(tl.float32)
        root = tl.load(inverse + row)
        standard = tl.where(inside, (values - tl.load(mean + row)) * root, 0.0)
        weight_sum += pulled * standard
        shift_sum += pulled
        scaled = pulled * gain
        middle = tl.sum(scaled, axis=0) / channels
        along = tl.sum(scaled * standard, axis=0) / channels
        back = (scaled - middle - standard * along) * root
        tl.store(of_residual + place, back.to(of_residual.dtype.element_ty), mask=inside)
        if threshold > 0:
            kept = kept_of_row(
                tl.load(seed), tl.load(samples + row), tl.load(tokens + row), site, threshold, block
            )
            back = tl.where(kept, back * scale, 0.0)
        tl.store(of_states + place, back.to(of_states.dtype.element_ty), mask=inside)
        bias_sum += back
    sums = program.to(tl.int64) * channels + channel
    tl.store(of_bias + sums, bias_sum, mask=inside)
    tl.store(of_weight + sums, weight_sum, mask=inside)
    tl.store(of_shift + sums, shift_sum, mask=inside)


def _shape(channels: int) -> tuple[int, int]:
    """Return the block that holds a row, and the warps for it: eight numbers a thread or more."""
    block = max(4, triton.next_power_of_2(channels))
    return block, min(16, max(1, block // 256))


def forward_by_kernel(
    states: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    places: Places,
    site: int,
    probability: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return normed and total [rows, channels], mean and inverse deviation float32 [rows].

    All inputs are contiguous; see `dropout_residual_norm.forward_plain`.
    """
    rows, channels = states.shape
    total, normed = torch.empty_like(states), torch.empty_like(states)
    mean = torch.empty(rows, dtype=torch.float32, device=states.device)
    inverse = torch.empty_like(mean)
    block, warps = _shape(channels)
    if rows:
        forward_kernel[(rows,)](
            states, bias, residual, weight, shift, places.seed, places.samples, places.tokens,
            total, normed, mean, inverse, channels, epsilon, scale(probability),
            site, threshold(probability), block, num_warps=warps, **PINNED,
        )  # fmt: skip
    return normed, total, mean, inverse


def backward_by_kernel(
    gradient: Tensor,
    total: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    places: Places,
    site: int,
    probability: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of states, bias, residual, weight and shift, all inputs contiguous."""
    rows, channels = total.shape
    of_states, of_residual = torch.empty_like(total), torch.empty_like(total)
    programs = max(1, min(rows, _programs(total.device)))
    sums = torch.empty(3, programs, channels, dtype=torch.float32, device=total.device)
    block, warps = _shape(channels)
    backward_kernel[(programs,)](
        gradient, total, weight, mean, inverse, places.seed, places.samples, places.tokens,
        of_states, of_residual, sums[0], sums[1], sums[2], rows, channels, scale(probability),
        site, threshold(probability), block, num_warps=warps, **PINNED,
    )  # fmt: skip
    of_bias, of_weight, of_shift = (part.sum(dim=0).to(weight.dtype) for part in sums)
    return of_states, of_bias, of_residual, of_weight, of_shift


def _programs(device: torch.device) -> int:
    """Return how many programs go over the rows: each keeps its sums to itself."""
    if device.type != "cuda":
        return _PROGRAMS_OF_A_PROCESSOR
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return _PROGRAMS_OF_A_PROCESSOR * processors

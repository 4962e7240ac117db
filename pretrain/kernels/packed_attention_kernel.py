"""Attention within packed rows of uneven length as Triton kernels, forward and backward.

The plain twin is in `packed_attention`. As FlashAttention 2 (Dao, 2023): scores are never stored,
the backward pass computes them again from the logarithm of each query's sum. Nothing is added up
atomically, so the same input gives the same bits. Needs triton (the extra "gpu").
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pretrain.kernels.counter_dropout import ROUNDS, scale, threshold
from pretrain.kernels.launching import PINNED, interpreting
from pretrain.kernels.packed_attention import Draws, Starts

_ROUNDS = tl.constexpr(ROUNDS)
_MOST_TILE = 64
_LEAST_TILE = 16
"""What a tensor core multiplies at once."""
WARPS = {"num_warps": 4, "num_stages": 2}


@triton.jit
def kept_of_pairs(  # type: ignore[no-untyped-def]
    seed, sample, pair, head, site, threshold: tl.constexpr
):
    """Which shares of a tile are kept: bool, as `pair`, the tokens of queries and of keys."""
    pair = pair.to(tl.uint32)
    zero = pair * 0
    word, _, _, _ = tl.philox(
        seed,
        zero + ((tl.cast(site, tl.uint32) << 16) + head.to(tl.uint32)),
        pair,
        zero + (sample & 0xFFFFFFFF).to(tl.uint32),
        zero + (sample >> 32).to(tl.uint32),
        _ROUNDS,
    )
    return word >= threshold


@triton.jit
def tile_of(  # type: ignore[no-untyped-def]
    tensor,
    start,
    place,
    end,
    head,
    heads,
    size: tl.constexpr,
    block: tl.constexpr,
    kind: tl.constexpr,
):
    """States [places, block] of one head, 0 beyond the row and the size, in the format `kind`."""
    column = tl.arange(0, block)
    address = ((start + place).to(tl.int64)[:, None] * heads + head) * size + column[None, :]
    inside = (place < end)[:, None] & (column < size)[None, :]
    # Converted before any arithmetic.
    return tl.load(tensor + address, mask=inside, other=0.0).to(kind)


@triton.jit
def store_tile(  # type: ignore[no-untyped-def]
    tensor, values, start, place, end, head, heads, size: tl.constexpr, block: tl.constexpr
):
    """Write what `tile_of` would read."""
    column = tl.arange(0, block)
    address = ((start + place).to(tl.int64)[:, None] * heads + head) * size + column[None, :]
    inside = (place < end)[:, None] & (column < size)[None, :]
    tl.store(tensor + address, values.to(tensor.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["site"])
def forward_kernel(  # type: ignore[no-untyped-def]
    query,  # [queries, heads, size], as mixed
    key,  # [keys, heads, size], as value
    value,
    mixed,
    sums,  # float32 [heads, queries]: logarithms, to the base 2
    query_starts,  # int32 [rows + 1], as key_starts
    key_starts,
    seed,  # int64 [1]
    samples,  # int64 [queries], as asking
    asking,
    offering,  # int64 [keys]
    queries,
    heads,
    factor,  # of the scores, times log2(e)
    scale,
    site,
    threshold: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
    rows_of_tile: tl.constexpr,
    keys_of_tile: tl.constexpr,
    kind: tl.constexpr,
    precision: tl.constexpr,
):
    """A tile of queries of one row and one head."""
    row, head = tl.program_id(0), tl.program_id(1)
    start = tl.load(query_starts + row)
    count = tl.load(query_starts + row + 1) - start
    place = tl.program_id(2) * rows_of_tile + tl.arange(0, rows_of_tile)
    if tl.program_id(2) * rows_of_tile < count:
        key_start = tl.load(key_starts + row)
        key_count = tl.load(key_starts + row + 1) - key_start
        asks = tile_of(query, start, place, count, head, heads, size, block, kind)
        highest = tl.full([rows_of_tile], -float("inf"), tl.float32)
        total = tl.zeros([rows_of_tile], tl.float32)
        found = tl.zeros([rows_of_tile, block], tl.float32)
        for first in range(0, key_count, keys_of_tile):
            other = first + tl.arange(0, keys_of_tile)
            offers = tile_of(key, key_start, other, key_count, head, heads, size, block, kind)
            tells = tile_of(value, key_start, other, key_count, head, heads, size, block, kind)
            scores = tl.dot(asks, tl.trans(offers), input_precision=precision) * factor
            scores = tl.where((other < key_count)[None, :], scores, -float("inf"))
            now = tl.maximum(highest, tl.max(scores, axis=1))
            shares = tl.exp2(scores - now[:, None])
            fade = tl.exp2(highest - now)
            total = total * fade + tl.sum(shares, axis=1)
            if threshold > 0:
                sample = tl.load(samples + start)
                asked = tl.load(asking + start + place, mask=place < count, other=0)
                offered = tl.load(offering + key_start + other, mask=other < key_count, other=0)
                pair = asked[:, None] << 16 | offered[None, :]
                kept = kept_of_pairs(tl.load(seed), sample, pair, head, site, threshold)
                shares = tl.where(kept, shares * scale, 0.0)
            found = found * fade[:, None]
            found += tl.dot(shares.to(kind), tells, input_precision=precision)
            highest = now
        # A row of no keys finds zeros.
        some = total > 0
        found = found / tl.where(some, total, 1.0)[:, None]
        store_tile(mixed, found, start, place, count, head, heads, size, block)
        logarithm = tl.where(some, highest + tl.log2(tl.where(some, total, 1.0)), 0.0)
        where = sums + head.to(tl.int64) * queries + start + place
        tl.store(where, logarithm, mask=place < count)


@triton.jit(do_not_specialize=["site"])
def query_kernel(  # type: ignore[no-untyped-def]
    gradient,  # [queries, heads, size], as query, of_query
    query,
    key,  # [keys, heads, size], as value
    value,
    sums,  # float32 [heads, queries], as along
    along,
    of_query,
    query_starts,
    key_starts,
    seed,
    samples,
    asking,
    offering,
    queries,
    heads,
    factor,
    root,  # of the scores, without log2(e)
    scale,
    site,
    threshold: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
    rows_of_tile: tl.constexpr,
    keys_of_tile: tl.constexpr,
    kind: tl.constexpr,
    precision: tl.constexpr,
):
    """The gradient of a tile of queries of one row and one head."""
    row, head = tl.program_id(0), tl.program_id(1)
    start = tl.load(query_starts + row)
    count = tl.load(query_starts + row + 1) - start
    place = tl.program_id(2) * rows_of_tile + tl.arange(0, rows_of_tile)
    if tl.program_id(2) * rows_of_tile < count:
        key_start = tl.load(key_starts + row)
        key_count = tl.load(key_starts + row + 1) - key_start
        asks = tile_of(query, start, place, count, head, heads, size, block, kind)
        pulled = tile_of(gradient, start, place, count, head, heads, size, block, kind)
        of_row = head.to(tl.int64) * queries + start + place
        logarithm = tl.load(sums + of_row, mask=place < count, other=0.0)
        middle = tl.load(along + of_row, mask=place < count, other=0.0)
        back = tl.zeros([rows_of_tile, block], tl.float32)
        for first in range(0, key_count, keys_of_tile):
            other = first + tl.arange(0, keys_of_tile)
            offers = tile_of(key, key_start, other, key_count, head, heads, size, block, kind)
            tells = tile_of(value, key_start, other, key_count, head, heads, size, block, kind)
            scores = tl.dot(asks, tl.trans(offers), input_precision=precision) * factor
            inside = (place < count)[:, None] & (other < key_count)[None, :]
            shares = tl.where(inside, tl.exp2(scores - logarithm[:, None]), 0.0)
            of_shares = tl.dot(pulled, tl.trans(tells), input_precision=precision)
            if threshold > 0:
                sample = tl.load(samples + start)
                asked = tl.load(asking + start + place, mask=place < count, other=0)
                offered = tl.load(offering + key_start + other, mask=other < key_count, other=0)
                pair = asked[:, None] << 16 | offered[None, :]
                kept = kept_of_pairs(tl.load(seed), sample, pair, head, site, threshold)
                of_shares = tl.where(kept, of_shares * scale, 0.0)
            of_scores = shares * (of_shares - middle[:, None])
            back += tl.dot(of_scores.to(kind), offers, input_precision=precision)
        store_tile(of_query, back * root, start, place, count, head, heads, size, block)


@triton.jit(do_not_specialize=["site"])
def key_kernel(  # type: ignore[no-untyped-def]
    gradient,  # [queries, heads, size], as query
    query,
    key,  # [keys, heads, size], as value, of_key, of_value
    value,
    sums,  # float32 [heads, queries], as along
    along,
    of_key,
    of_value,
    query_starts,
    key_starts,
    seed,
    samples,
    asking,
    offering,
    queries,
    heads,
    factor,
    root,
    scale,
    site,
    threshold: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
    rows_of_tile: tl.constexpr,
    keys_of_tile: tl.constexpr,
    kind: tl.constexpr,
    precision: tl.constexpr,
):
    """The gradients of a tile of keys of one row and one head, and of their values."""
    row, head = tl.program_id(0), tl.program_id(1)
    key_start = tl.load(key_starts + row)
    key_count = tl.load(key_starts + row + 1) - key_start
    other = tl.program_id(2) * keys_of_tile + tl.arange(0, keys_of_tile)
    if tl.program_id(2) * keys_of_tile < key_count:
        start = tl.load(query_starts + row)
        count = tl.load(query_starts + row + 1) - start
        offers = tile_of(key, key_start, other, key_count, head, heads, size, block, kind)
        tells = tile_of(value, key_start, other, key_count, head, heads, size, block, kind)
        if threshold > 0:
            offered = tl.load(offering + key_start + other, mask=other < key_count, other=0)
        back = tl.zeros([keys_of_tile, block], tl.float32)
        told = tl.zeros([keys_of_tile, block], tl.float32)
        for first in range(0, count, rows_of_tile):
            place = first + tl.arange(0, rows_of_tile)
            asks = tile_of(query, start, place, count, head, heads, size, block, kind)
            pulled = tile_of(gradient, start, place, count, head, heads, size, block, kind)
            of_row = head.to(tl.int64) * queries + start + place
            logarithm = tl.load(sums + of_row, mask=place < count, other=0.0)
            middle = tl.load(along + of_row, mask=place < count, other=0.0)
            # All is [keys, queries] here, so that nothing is transposed between two products.
            scores = tl.dot(offers, tl.trans(asks), input_precision=precision) * factor
            inside = (other < key_count)[:, None] & (place < count)[None, :]
            shares = tl.where(inside, tl.exp2(scores - logarithm[None, :]), 0.0)
            of_shares = tl.dot(tells, tl.trans(pulled), input_precision=precision)
            given = shares
            if threshold > 0:
                sample = tl.load(samples + start)
                asked = tl.load(asking + start + place, mask=place < count, other=0)
                pair = asked[None, :] << 16 | offered[:, None]
                kept = kept_of_pairs(tl.load(seed), sample, pair, head, site, threshold)
                of_shares = tl.where(kept, of_shares * scale, 0.0)
                given = tl.where(kept, shares * scale, 0.0)
            told += tl.dot(given.to(kind), pulled, input_precision=precision)
            of_scores = shares * (of_shares - middle[None, :])
            back += tl.dot(of_scores.to(kind), asks, input_precision=precision)
        store_tile(of_key, back * root, key_start, other, key_count, head, heads, size, block)
        store_tile(of_value, told, key_start, other, key_count, head, heads, size, block)


def _tile(longest: int, most: int) -> int:
    """Return how many queries or keys a program holds at a time."""
    return min(most, max(_LEAST_TILE, triton.next_power_of_2(longest)))


def tiles(query: Tensor, longest_own: int, longest_other: int) -> tuple[int, int]:
    """Return how many places a program computes, and how many of the others it takes at a time.

    64 of its own are what wgmma and tcgen05 multiply; of heads wider than 32 it takes 32 others,
    so that no register is spilled. float32 is multiplied without tensor cores, in smaller tiles.
    """
    own, other = _MOST_TILE, _MOST_TILE if query.shape[2] <= 32 else _MOST_TILE // 2
    if query.dtype == torch.float32:
        own, other = _MOST_TILE // 2, _LEAST_TILE
    return _tile(longest_own, own), _tile(longest_other, other)


def _constants(query: Tensor, site: int, probability: float) -> dict[str, Any]:
    """Return what all three kernels are specialised to, besides their tiles."""
    kinds = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
    kind = kinds[query.dtype]
    if interpreting() and kind == tl.bfloat16:
        kind = tl.float32  # the interpreter multiplies bfloat16 as integers
    size = query.shape[2]
    return {
        "site": site,
        "threshold": threshold(probability),
        "size": size,
        "block": max(_LEAST_TILE, triton.next_power_of_2(size)),
        "kind": kind,
        # float32 is not cut to the 10 bits of TF32: the twin's numbers are wanted.
        "precision": "ieee",
        **WARPS,
        **PINNED,
    }


def forward_by_kernel(
    query: Tensor, key: Tensor, value: Tensor, starts: Starts, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Return what is found [queries, heads, size], and the sums' logarithms [heads, queries].

    query [queries, heads, size], key and value [keys, heads, size], contiguous.
    """
    queries, heads, size = query.shape
    mixed = torch.empty_like(query)
    sums = torch.empty(heads, queries, dtype=torch.float32, device=query.device)
    constants = _constants(query, draws.site, draws.probability)
    own, other = tiles(query, starts.longest_query, starts.longest_key)
    root = 1 / math.sqrt(size)
    if queries:
        forward_kernel[(starts.rows, heads, triton.cdiv(starts.longest_query, own))](
            query, key, value, mixed, sums, starts.query, starts.key,
            draws.seed, draws.samples, draws.asking, draws.offering, queries, heads,
            root * math.log2(math.e), scale(draws.probability),
            rows_of_tile=own, keys_of_tile=other, **constants,
        )  # fmt: skip
    return mixed, sums


def backward_by_kernel(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mixed: Tensor,
    sums: Tensor,
    starts: Starts,
    draws: Draws,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, all inputs contiguous."""
    queries, heads, size = query.shape
    along = (gradient.float() * mixed.float()).sum(dim=-1).t().contiguous()  # [heads, queries]
    of_query, of_key, of_value = (torch.zeros_like(part) for part in (query, key, value))
    constants = _constants(query, draws.site, draws.probability)
    root = 1 / math.sqrt(size)
    known = (
        starts.query, starts.key, draws.seed, draws.samples, draws.asking, draws.offering,
        queries, heads, root * math.log2(math.e), root, scale(draws.probability),
    )  # fmt: skip
    if queries:
        own, other = tiles(query, starts.longest_query, starts.longest_key)
        query_kernel[(starts.rows, heads, triton.cdiv(starts.longest_query, own))](
            gradient, query, key, value, sums, along, of_query, *known,
            rows_of_tile=own, keys_of_tile=other, **constants,
        )  # fmt: skip
        own, other = tiles(query, starts.longest_key, starts.longest_query)
        key_kernel[(starts.rows, heads, triton.cdiv(starts.longest_key, own))](
            gradient, query, key, value, sums, along, of_key, of_value, *known,
            rows_of_tile=other, keys_of_tile=own, **constants,
        )  # fmt: skip
    return of_query, of_key, of_value

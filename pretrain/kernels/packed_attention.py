"""Attention within packed rows of uneven length, also of one stream to another, with dropout.

torch's `varlen_attn` is taken where it serves: it has neither dropout nor float32 nor a form for
CPUs. What is dropped here is a function of the place: see `counter_dropout`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pretrain.kernels.counter_dropout import ShareDropout
from pretrain.models.attention import plain_attention


@dataclass(frozen=True)
class Starts:
    """Where the rows begin: int32 [rows + 1] of the queries and of the keys, and the longest."""

    query: Tensor
    key: Tensor
    longest_query: int
    longest_key: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.query) - 1


@dataclass(frozen=True)
class Draws:
    """`ShareDropout` as the kernels take it: seed int64 [1], the others of queries or keys."""

    seed: Tensor
    samples: Tensor
    asking: Tensor
    offering: Tensor
    site: int
    probability: float

    @classmethod
    def of(cls, dropout: ShareDropout | None, device: torch.device) -> "Draws":
        """Return the same in streams; of nothing, nothing is dropped and no tensor is read."""
        if dropout is None:
            none = torch.zeros(1, dtype=torch.int64, device=device)
            return cls(none, none, none, none, 0, 0.0)
        asking = dropout.asking
        return cls(
            asking.seed,
            asking.samples.flatten().contiguous(),
            asking.tokens.flatten().contiguous(),
            dropout.offering.flatten().contiguous(),
            dropout.site,
            dropout.probability,
        )


def plain(
    query: Tensor, key: Tensor, value: Tensor, starts: Starts, dropout: ShareDropout | None = None
) -> Tensor:
    """Return the attention one row after another: the reference, [queries, heads, size].

    query [queries, heads, size]; key, value [keys, heads, size]; of the dropout all is [queries]
    or [keys].
    """
    asking, offering = (each.diff().tolist() for each in (starts.query, starts.key))
    parts = zip(
        query.split(asking),
        key.split(offering),
        value.split(offering),
        torch.arange(len(query), device=query.device).split(asking),
        torch.arange(len(key), device=key.device).split(offering),
        strict=True,
    )
    mixed = []
    for asks, offers, tells, queries, keys in parts:
        factor = None
        if dropout is not None:
            of_row = ShareDropout(
                dropout.asking.at(queries),
                dropout.offering[keys],
                dropout.site,
                dropout.probability,
            )
            factor = of_row.factor(query.shape[1], query.dtype)[None]
        asks, offers, tells = (part.transpose(0, 1)[None] for part in (asks, offers, tells))
        mixed.append(plain_attention(asks, offers, tells, None, 0.0, factor)[0].transpose(0, 1))
    return torch.cat(mixed)


@torch.library.custom_op("trawl::packed_attention", mutates_args=())
def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest_query: int,
    longest_key: int,
    seed: Tensor,
    samples: Tensor,
    asking: Tensor,
    offering: Tensor,
    site: int,
    probability: float,
) -> tuple[Tensor, Tensor]:
    from pretrain.kernels.packed_attention_kernel import forward_by_kernel

    return forward_by_kernel(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        Starts(query_starts, key_starts, longest_query, longest_key),
        Draws(seed, samples, asking, offering, site, probability),
    )


@_forward.register_fake
def _(query: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    sums = query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)
    return query.new_empty(query.shape), sums


@torch.library.custom_op("trawl::packed_attention_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mixed: Tensor,
    sums: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest_query: int,
    longest_key: int,
    seed: Tensor,
    samples: Tensor,
    asking: Tensor,
    offering: Tensor,
    site: int,
    probability: float,
) -> tuple[Tensor, Tensor, Tensor]:
    from pretrain.kernels.packed_attention_kernel import backward_by_kernel

    return backward_by_kernel(
        gradient.contiguous(),
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        mixed,
        sums,
        Starts(query_starts, key_starts, longest_query, longest_key),
        Draws(seed, samples, asking, offering, site, probability),
    )


@_backward.register_fake
def _(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: object
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, query_starts, key_starts, *longest, seed, samples, asking = inputs[:10]
    offering, *of_dropout = inputs[10:]
    starts, draws = (query_starts, key_starts), (seed, samples, asking, offering)
    ctx.save_for_backward(query, key, value, *output, *starts, *draws)
    ctx.settings = (*longest, *of_dropout)


def _pull(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *saved, seed, samples, asking, offering = ctx.saved_tensors
    longest_query, longest_key, *of_dropout = ctx.settings
    draws = (seed, samples, asking, offering, *of_dropout)
    return (*_backward(gradient, *saved, longest_query, longest_key, *draws), *[None] * 10)


_forward.register_autograd(_pull, setup_context=_keep)


def by_kernel(
    query: Tensor, key: Tensor, value: Tensor, starts: Starts, dropout: ShareDropout | None = None
) -> Tensor:
    """Return what `plain` does, by the Triton kernels.

    The same within the tolerances of tests/pretrain/kernels/test_packed_attention.py.
    """
    draws = Draws.of(dropout, query.device)
    mixed, _ = _forward(
        query, key, value, starts.query, starts.key, starts.longest_query, starts.longest_key,
        draws.seed, draws.samples, draws.asking, draws.offering, draws.site, draws.probability,
    )  # fmt: skip
    return mixed

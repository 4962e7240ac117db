"""Scaled dot-product attention in two forms: plain, the reference, and fused, the fast one.

Both add a mask of 0 and -10000 to the scores, as BERT does, so a row in which everything is masked
still sums to one; they agree to 1e-5 in float32 (tests/pretrain/models/test_blocks.py).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

MASKED_SCORE = -10000.0

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]


def mask_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores: 0 where `mask` is 1, -10000 where it is 0.

    `mask` is [batch, keys] or, with a row for each query, [batch, queries, keys]; the result has a
    dimension for the heads: [batch, 1, 1 or queries, keys].
    """
    expanded = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
    return (1.0 - expanded.to(dtype)) * MASKED_SCORE


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    dropout: float,
    shares_factor: Tensor | None = None,
) -> Tensor:
    """Return softmax(query key' / sqrt(size) + bias) value, step by step.

    query [batch, heads, queries, size], key and value [batch, heads, keys, size]; shares_factor
    [batch, heads, queries, keys]: what the shares are multiplied by, a dropout that was drawn.
    """
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    shares = functional.dropout(scores.softmax(dim=-1), dropout, training=dropout > 0.0)
    if shares_factor is not None:
        shares = shares * shares_factor
    return shares @ value  # [batch, heads, queries, size]


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float
) -> Tensor:
    """Return the same as `plain_attention` through torch's fused kernels."""
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias, dropout_p=dropout
    )


def attention_named(name: str | None) -> Attend:
    """Return the attention that transformers calls `name`: "eager" is plain, all else is fused."""
    return plain_attention if name == "eager" else fused_attention

"""The parts of BERT that all families share: post-norm transformer layers, embeddings, pooler.

Numerics and parameter names are those of Devlin et al. (2019): exact GELU, LayerNorm with epsilon
1e-12 inside the root, masks of -10000, dropout after the embeddings' norm, on attention shares and
on the output of both halves of a layer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pretrain.kernels.counter_dropout import Dropout, Places, ShareDropout, site_of
from pretrain.kernels.dropout_residual_norm import dropout_residual_norm
from pretrain.models.attention import Attend, attention_named, plain_attention
from pretrain.models.packing import (
    Asked,
    Between,
    Packed,
    Padded,
    Rows,
    Sight,
    packed_attention,
    places_of,
)


@dataclass(frozen=True)
class BlockShape:
    """The sizes of a stack of layers, and which attention runs in it."""

    hidden: int
    heads: int
    intermediate: int
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm_epsilon: float = 1e-12
    attention: str | None = "sdpa"

    def norm(self) -> nn.LayerNorm:
        """Return a new LayerNorm of this shape."""
        return nn.LayerNorm(self.hidden, eps=self.norm_epsilon)


def padded_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sight: Tensor | Padded | None,
    dropout: float,
    attend: Attend,
    site: int | None,
) -> Tensor:
    """Return what padded states find, all [batch, heads, length, size]; site: which attention."""
    if not isinstance(sight, Padded):
        return attend(query, key, value, sight, dropout)
    if dropout == 0.0:
        return attend(query, key, value, sight.bias, dropout)
    assert site is not None
    counted = ShareDropout(sight.places, sight.keys, site, dropout)
    factor = counted.factor(query.shape[1], query.dtype)
    return plain_attention(query, key, value, sight.bias, 0.0, factor)


def residual_norm(
    dense: nn.Linear,
    dropout: Dropout,
    norm: nn.LayerNorm,
    states: Tensor,
    residual: Tensor,
    places: Places | None,
) -> Tensor:
    """Return LN(residual + dropout(dense(states))), in one where dropout is counted by places."""
    if places is None or not dropout.training or dropout.p == 0:
        normed: Tensor = norm(residual + dropout(dense(states)))
        return normed
    multiplied = functional.linear(states, dense.weight)
    parts = (multiplied, dense.bias, residual, norm.weight, norm.bias, places)
    return dropout_residual_norm(*parts, site_of(dropout), dropout.p, norm.eps)


class SelfAttention(nn.Module):
    """Queries, keys and values, and the attention between them."""

    site: int | None = None

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        if shape.hidden % shape.heads:
            raise ValueError(f"hidden size {shape.hidden} does not divide by {shape.heads} heads")
        self.head_size = shape.hidden // shape.heads
        self.dropout = shape.attention_dropout
        self.attend = attention_named(shape.attention)
        self.query = nn.Linear(shape.hidden, shape.hidden)
        self.key = nn.Linear(shape.hidden, shape.hidden)
        self.value = nn.Linear(shape.hidden, shape.hidden)

    @torch.no_grad()
    def start_comparing(self, heads: int) -> None:
        """Let the first `heads` heads find equal tokens, and the others average, from the start.

        Keys that are copies of the queries make equal tokens attend to each other; queries of zero
        attend to all alike.
        """
        rows = heads * self.head_size
        self.key.weight[:rows] = self.query.weight[:rows]
        self.query.weight[rows:] = 0

    def _heads(self, states: Tensor) -> Tensor:
        """Return [batch, heads, length, head size] from [batch, length, hidden]."""
        return states.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

    def forward(self, states: Tensor, bias: Sight, source: Tensor) -> Tensor:
        """Return what the queries of `states` find in `source`: [batch, queries, hidden]."""
        if isinstance(bias, Packed):
            parts = (self.query(states), self.key(source), self.value(source))
            query, key, value = (part.unflatten(-1, (-1, self.head_size)) for part in parts)
            dropout = self.dropout if self.training else 0.0
            mixed = packed_attention(query, key, value, bias, dropout, self.attend, self.site)
            return mixed.flatten(2)
        mixed = padded_attention(
            self._heads(self.query(states)),
            self._heads(self.key(source)),
            self._heads(self.value(source)),
            bias,
            self.dropout if self.training else 0.0,
            self.attend,
            self.site,
        )
        return mixed.transpose(1, 2).flatten(2)

    def exchanged(self, joint: Tensor, one: Rows, other: Rows) -> Tensor:
        """Return what two packed streams find in each other, from one and the other end to end.

        joint [1, places, hidden]. The same numbers as two calls, each product of which is half as
        large: they keep a processor busier together.
        """
        parts = (self.query(joint), self.key(joint), self.value(joint))
        heads = (part.unflatten(-1, (-1, self.head_size)) for part in parts)
        query, key, value = (part.tensor_split([len(one.row)], dim=1) for part in heads)
        dropout = self.dropout if self.training else 0.0
        mixed = [
            packed_attention(
                query[here], key[1 - here], value[1 - here], sight, dropout, self.attend, self.site
            )
            for here, sight in enumerate((Between(one, other), Between(other, one)))
        ]
        return torch.cat(mixed, dim=1).flatten(2)


class ResidualOutput(nn.Module):
    """The end of both halves of a layer: LN(residual + dropout(dense(states)))."""

    def __init__(self, shape: BlockShape, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, shape.hidden)
        self.LayerNorm = shape.norm()
        self.dropout = Dropout(shape.dropout)

    def forward(self, states: Tensor, residual: Tensor, places: Places | None = None) -> Tensor:
        """Return [batch, length, hidden] from states [batch, length, width] and the residual."""
        parts = (self.dense, self.dropout, self.LayerNorm)
        return residual_norm(*parts, states, residual, places)


class Attention(nn.Module):
    """The first half of a layer."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.self = SelfAttention(shape)
        self.output = ResidualOutput(shape, shape.hidden)

    def forward(self, states: Tensor, bias: Sight, source: Tensor) -> Tensor:
        """Return [batch, queries, hidden] from `states`, attending to `source`."""
        mixed: Tensor = self.output(self.self(states, bias, source), states, places_of(bias))
        return mixed


class Intermediate(nn.Module):
    """The widening of the second half of a layer: gelu(dense(states))."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden, shape.intermediate)

    def forward(self, states: Tensor) -> Tensor:
        """Return [batch, length, intermediate]."""
        return functional.gelu(self.dense(states))


class Layer(nn.Module):
    """One transformer layer, normalised after each half."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.intermediate = Intermediate(shape)
        self.output = ResidualOutput(shape, shape.intermediate)

    def forward(self, states: Tensor, bias: Sight, source: Tensor | None = None) -> Tensor:
        """Return [batch, queries, hidden]; keys and values come from `source`, else from `states`.

        bias is added to the scores: [batch, 1, 1 or queries, keys]; or says where packed rows lie.
        """
        mixed = self.attention(states, bias, states if source is None else source)
        deep: Tensor = self.output(self.intermediate(mixed), mixed, places_of(bias))
        return deep


class Encoder(nn.Module):
    """A stack of layers."""

    gradient_checkpointing = False

    def __init__(self, shape: BlockShape, layers: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(shape) for _ in range(layers))

    def forward(
        self, states: Tensor, bias: Sight, history: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Return the input and the output of each layer, all [batch, length, hidden].

        `history` holds, for each layer, states [batch, earlier, hidden] of positions that came
        before: keys and values are computed from them and `states` together (Oscar's decoding).
        """
        reached = [states]
        for number, layer in enumerate(self.layer):
            source = None if history is None else torch.cat([history[number], reached[-1]], dim=1)
            reached.append(self._run(layer, reached[-1], bias, source))
        return reached

    def _run(
        self, layer: nn.Module, states: Tensor, bias: Sight, source: Tensor | None = None
    ) -> Tensor:
        """Run one layer, computed again in the backward pass where that is wished."""
        if self.gradient_checkpointing and self.training:
            kept: Tensor = checkpoint(layer, states, bias, source, use_reentrant=False)
            return kept
        done: Tensor = layer(states, bias, source)
        return done

    def at(self, states: Tensor, rows: Rows, asked: Asked) -> Tensor:
        """Return the last layer's states of packed `rows` at the places `asked`, rising.

        The same numbers as `forward`, but the last layer computes no others: [1, asked, hidden].
        """
        *lower, last = self.layer
        for layer in lower:
            states = self._run(layer, states, rows)
        return self._run(last, *asked.of(rows, states))

    def first_position(self, states: Tensor, bias: Tensor | None) -> Tensor:
        """Return the last layer's state of position 0 alone: [batch, 1, hidden].

        The same numbers as `forward`, but the last layer computes one query instead of all.
        bias is [batch, 1, 1, keys].
        """
        *lower, last = self.layer
        for layer in lower:
            states = layer(states, bias)
        first: Tensor = last(states[:, :1], bias, states)
        return first


class TextEmbeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalised."""

    def __init__(self, shape: BlockShape, words: int, positions: int, segments: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, shape.hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(positions, shape.hidden)
        self.token_type_embeddings = nn.Embedding(segments, shape.hidden)
        self.LayerNorm = shape.norm()
        self.dropout = Dropout(shape.dropout)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """Return [batch, length, hidden]; segments default to 0, positions count from 0.

        places [batch, length]: whose states these are, where dropout is a function of that.
        """
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        total = (
            self.word_embeddings(input_ids)
            + self.token_type_embeddings(token_type_ids)
            + self.position_embeddings(position_ids)
        )
        embedded: Tensor = self.dropout(self.LayerNorm(total), places)
        return embedded


class Pooler(nn.Module):
    """tanh(dense(state of token 0))."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, states: Tensor) -> Tensor:
        """Return [batch, hidden] from [batch, length, hidden]."""
        return torch.tanh(self.dense(states[:, 0]))

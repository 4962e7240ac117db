"""The way of packed rows through a model: into a stream, and what is read of its last states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pretrain.kernels.counter_dropout import REGIONS, CountedDropout, Places
from pretrain.models.fused_regions import Embedded, Features, streamed
from pretrain.models.heads import at_places
from pretrain.models.packing import Asked, Packing, Rows


class PackedStream:
    """One stream of packed rows, whose states are of one kind or two: see `Packing`.

    asked: the places whose last states are read, after the first one of each row; nothing: all.
    """

    def __init__(self, packing: Packing, read: Tensor | None) -> None:
        """Take what is read as places int64 [read] of all states of one kind and then the other."""
        self.packing = packing
        self.asked = None if read is None else Asked.at(packing.rows, packing.back[read])

    @classmethod
    def of(
        cls,
        lengths: Tensor,
        total: int,
        bound: int,
        read: Tensor | None,
        places: Places | None = None,
    ) -> "PackedStream":
        """Return a stream of states of one kind, of rows of `lengths` [rows]; see `Packing.of`."""
        both = torch.stack([lengths, torch.zeros_like(lengths)])
        return cls(Packing.of(both, total, total, bound).placed(places), read)

    @property
    def rows(self) -> Rows:
        """Where the rows lie."""
        return self.packing.rows

    def last(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first state of each row [rows, 1, hidden], and those read [1, read, hidden].

        states: what the last layer made, of the places asked or of all.
        """
        if self.asked is None:
            return self.rows.first(states), self.packing.unstreamed(states)
        firsts, others = self.asked.ordered(states).tensor_split([self.rows.count], dim=1)
        return firsts.transpose(0, 1), others

    def history(self, states: Sequence[Tensor], wanted: bool) -> tuple[Tensor, ...] | None:
        """Return all states of all layers, in the order of the input, where they are wanted."""
        return tuple(map(self.packing.unstreamed, states)) if wanted else None


def input_places(
    counted: CountedDropout | None, text: int, regions: int, row_lengths: Tensor | None
) -> tuple[Places | None, Places | None]:
    """Return the places of text and of regions as a batch holds them, where they are wanted.

    text, regions: how many of each a row of the batch has; row_lengths: of packed rows.
    """
    if counted is None:
        return None, None
    if row_lengths is None:
        return counted.padded(text), counted.padded(regions, REGIONS)
    words, seen = row_lengths
    return counted.packed(words, text), counted.packed(seen, regions, REGIONS)


def joint(one: Places | None, other: Places | None) -> Places | None:
    """Return the places of one kind and then the other."""
    return None if one is None or other is None else one.and_then(other)


class PackedRows:
    """Rows of text and regions in one stream, packed by `row_lengths` [2, rows]."""

    def __init__(
        self,
        longest: int,
        row_lengths: Tensor,
        input_ids: Tensor,
        img_feats: Features | None,
        places: Places | None = None,
    ) -> None:
        """Take the places of all text and then all regions where dropout is counted by them."""
        text = input_ids.shape[1]
        regions = 0 if img_feats is None else img_feats.shape[1]
        packing = Packing.of(row_lengths, text, text + regions, longest)
        self.packing = packing.placed(places)

    def through(
        self,
        model: Any,
        text: Tensor,
        regions: Embedded | None,
        output_hidden_states: bool,
        read: Tensor | None,
    ) -> BaseModelOutputWithPooling:
        """Return what encoder and pooler of `model` make of embedded text and regions.

        States are [1, text + regions, hidden], all text first; the pooled state is [rows, hidden].
        read int64 [read]: places of all text and then all regions whose last states alone are
        wanted, [1, read, hidden]; the hidden states are then left out.
        """
        stream = PackedStream(self.packing, read)
        states = streamed(self.packing, text, regions)
        if stream.asked is None:
            reached = model.encoder(states, stream.rows)
        else:
            reached = [model.encoder.at(states, stream.rows, stream.asked)]
        firsts, others = stream.last(reached[-1])
        return BaseModelOutputWithPooling(
            last_hidden_state=others,
            pooler_output=model.pooler(firsts),
            hidden_states=stream.history(reached, output_hidden_states and read is None),
        )


@dataclass(frozen=True)
class HeadPlaces:
    """What the prediction heads read of a single stream.

    text: tokens of a row, or of all packed rows; masked int64 [masked]: places in the flattened
    text, predicted int64 [predicted]: in the flattened regions; nothing: all of them.
    """

    text: int
    masked: Tensor | None
    predicted: Tensor | None

    def joint(self) -> Tensor | None:
        """Return the places in all text and then all regions, nothing where some head reads all."""
        if self.masked is None or self.predicted is None:
            return None
        return torch.cat([self.masked, self.text + self.predicted])

    def parts(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of text and of regions for the heads, from states of everything.

        [masked, hidden] and [predicted, hidden], or [batch, text, hidden] and [batch, regions,
        hidden]; states [batch, text + regions, hidden].
        """
        text, regions = states.tensor_split([self.text], dim=1)
        return at_places(text, self.masked), at_places(regions, self.predicted)

    def parts_read(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same from the states [1, masked + predicted, hidden] that `joint` chose."""
        assert self.masked is not None
        text, regions = states[0].tensor_split([len(self.masked)])
        return text, regions

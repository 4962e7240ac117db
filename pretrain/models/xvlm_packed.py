"""X-VLM's packed texts, and their way through the fusion encoder beside what they look at.

All pairs of a text and a view, right ones, wrong ones and masked ones, go through together, those
of one view side by side. So keys and values of a view are made once for all texts that look at it,
and of the patches that it shows alone: those behind its mask have a share of exactly 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.models.packing import Asked, Between, Rows
from pretrain.models.xvlm_encoders import Vision
from pretrain.models.xvlm_text import FusionBert, FusionEncoder


@dataclass(frozen=True)
class PackedStates:
    """States [1, total, width] of packed rows, and where those lie."""

    states: Tensor
    rows: Rows

    @property
    def first(self) -> Tensor:
        """The first state of each row: [rows, 1, width]."""
        return self.rows.first(self.states)


def read_texts(
    bert: FusionBert, copies: Sequence[Tensor], lengths: Tensor, longest: int
) -> PackedStates:
    """Return what the text layers make of `copies`, one after another in the same stream.

    copies: ids [1, text] of the same rows of `lengths` int64 [batch], as they are or masked.
    """
    ids = torch.cat(list(copies), dim=1)
    rows = Rows.of(lengths.repeat(len(copies)), ids.shape[1], longest)
    embedded = bert.embeddings(ids, None, rows.column[None])
    return PackedStates(bert.encoder.read(embedded, rows)[-1], rows)


def views(image: Vision) -> PackedStates:
    """Return what texts look at: what is shown of each row, then with masks each whole image.

    Waits for the count of visible patches, also on a GPU.
    """
    count, patches, _ = image.states.shape
    shown = image.states.flatten(0, 1)
    lengths = torch.full((count,), patches, device=shown.device)
    if image.mask is None:
        return PackedStates(shown[None], Rows.of(lengths, len(shown), patches))
    visible = shown.index_select(0, image.mask.flatten().nonzero()[:, 0])
    whole = image.images.flatten(0, 1)
    lengths = torch.cat([image.mask.sum(1), lengths.new_full((len(image.images),), patches)])
    states = torch.cat([visible, whole])
    return PackedStates(states[None], Rows.of(lengths, len(states), patches))


def fuse_pairs(
    encoder: FusionEncoder,
    texts: PackedStates,
    seen: PackedStates,
    pairs: Sequence[tuple[Tensor, Tensor]],
    masked: Tensor,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the last states of [CLS] of `pairs`, and those of masked tokens [masked, hidden].

    pairs: which text and which view, int64 [batch] both, for [batch, hidden] each; masked int64
    [masked]: places in the text whose copy the last of the pairs hold.
    """
    text, view = (torch.cat(numbers) for numbers in zip(*pairs, strict=True))
    order = view.argsort(stable=True)
    numbers = torch.arange(len(order), device=order.device)
    place_of = torch.empty_like(order).index_copy_(0, order, numbers)
    rows, places = texts.rows.chosen(text[order])
    batch = len(pairs[-1][0])
    holders = place_of[len(order) - batch + texts.rows.row[masked]]
    asked = Asked.at(rows, rows.firsts[holders] + texts.rows.column[masked])
    every = torch.arange(seen.rows.count + 1, device=order.device)
    looking = Rows.of(rows.starts[torch.searchsorted(view[order], every)].diff(), len(places))
    states = texts.states.index_select(1, places)
    reached = encoder.fuse_at(states, rows, seen.states, Between(looking, seen.rows), asked)
    firsts, others = asked.ordered(reached)[0].tensor_split([rows.count])
    return firsts.index_select(0, place_of).split(batch), others

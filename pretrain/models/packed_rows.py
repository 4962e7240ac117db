"""The way of packed rows through a single-stream model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pretrain.models.packing import Packing


class PackedRows:
    """Rows of text and regions, packed by `row_lengths` [2, rows]; see `Packing`."""

    def __init__(
        self, longest: int, row_lengths: Tensor, input_ids: Tensor, img_feats: Tensor | None
    ) -> None:
        text = input_ids.shape[1]
        regions = 0 if img_feats is None else img_feats.shape[1]
        self.packing = Packing.of(row_lengths, text, text + regions, longest)

    def through(
        self, model: Any, parts: Sequence[Tensor], output_hidden_states: bool
    ) -> BaseModelOutputWithPooling:
        """Return what encoder and pooler of `model` make of embedded text and regions.

        States are [1, text + regions, hidden], all text first; the pooled state is [rows, hidden].
        """
        packing = self.packing
        reached = model.encoder(packing.streamed(torch.cat(list(parts), dim=1)), packing)
        hidden = None
        if output_hidden_states:
            hidden = tuple(packing.unstreamed(state) for state in reached)
        return BaseModelOutputWithPooling(
            last_hidden_state=packing.unstreamed(reached[-1]),
            pooler_output=model.pooler(packing.first(reached[-1])),
            hidden_states=hidden,
        )

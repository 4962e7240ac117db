"""The parts of LXMERT that are its own: embedded regions, cross layers, both streams stacked.

Tan and Bansal, EMNLP 2019, section 2; names of tensors as in the published checkpoints.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.kernels.counter_dropout import Dropout, Places
from pretrain.kernels.region_embedding import Layers
from pretrain.models.blocks import (
    Attention,
    BlockShape,
    Intermediate,
    Layer,
    ResidualOutput,
    SelfAttention,
)
from pretrain.models.fused_regions import Features, FusedRegions, assembled, by_kernel
from pretrain.models.lxmert_config import LxmertConfig
from pretrain.models.packed_rows import joint as joint_places
from pretrain.models.packing import Asked, Rows, Sight, between, places_of


class RegionEmbeddings(nn.Module):
    """The mean of a region's projected feature and its projected box, each normalised."""

    def __init__(self, config: LxmertConfig, shape: BlockShape) -> None:
        super().__init__()
        self.visn_fc = nn.Linear(config.visual_feat_dim, shape.hidden)
        self.visn_layer_norm = shape.norm()
        self.box_fc = nn.Linear(config.visual_pos_dim, shape.hidden)
        self.box_layer_norm = shape.norm()
        self.dropout = Dropout(shape.dropout)

    def forward(self, features: Features, boxes: Tensor, places: Places | None = None) -> Tensor:
        """Return [batch, regions, hidden] from [batch, regions, 2048] and [batch, regions, 4]."""
        dtype = self.visn_fc.weight.dtype
        if by_kernel(features, self.visn_fc.weight):
            return FusedRegions(features, boxes, self._layers(), self.dropout, places).rows()
        seen = self.visn_layer_norm(self.visn_fc(assembled(features).to(dtype)))
        placed = self.box_layer_norm(self.box_fc(boxes.to(dtype)))
        embedded: Tensor = self.dropout((seen + placed) / 2, places)
        return embedded

    def _layers(self) -> Layers:
        seen, placed = self.visn_layer_norm, self.box_layer_norm
        return Layers(
            self.visn_fc.weight,
            self.box_fc.weight,
            self.visn_fc.bias.float(),
            seen.weight,
            seen.bias,
            seen.eps,
            self.box_fc.bias.float(),
            placed.weight,
            placed.bias,
        )


class CrossAttention(nn.Module):
    """Attention of one stream to the other, the same weights for both directions."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.att = SelfAttention(shape)
        self.output = ResidualOutput(shape, shape.hidden)

    def forward(self, states: Tensor, source: Tensor, source_bias: Sight) -> Tensor:
        """Return [batch, queries, hidden] from `states`, attending to `source`."""
        found = self.att(states, source_bias, source)
        mixed: Tensor = self.output(found, states, places_of(source_bias))
        return mixed

    def both(
        self, text: Tensor, regions: Tensor, text_bias: Sight, region_bias: Sight
    ) -> tuple[Tensor, Tensor]:
        """Return what the text finds in the regions, and they in the text, each as it came in."""
        if isinstance(text_bias, Rows) and isinstance(region_bias, Rows):
            joint = torch.cat([text, regions], dim=1)
            found = self.att.exchanged(joint, text_bias, region_bias)
            places = joint_places(text_bias.places, region_bias.places)
            mixed = self.output(found, joint, places)
            read_text, read_regions = mixed.tensor_split([text.shape[1]], dim=1)
            return read_text, read_regions
        return (
            self(text, regions, between(text_bias, region_bias)),
            self(regions, text, between(region_bias, text_bias)),
        )


class CrossLayer(nn.Module):
    """One layer in which both streams read each other, then each itself.

    Each reads the other as it was before the layer; the feed-forward halves are their own.
    """

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.visual_attention = CrossAttention(shape)
        self.lang_self_att = Attention(shape)
        self.visn_self_att = Attention(shape)
        self.lang_inter = Intermediate(shape)
        self.lang_output = ResidualOutput(shape, shape.intermediate)
        self.visn_inter = Intermediate(shape)
        self.visn_output = ResidualOutput(shape, shape.intermediate)

    def forward(
        self,
        text: Tensor,
        regions: Tensor,
        text_bias: Sight,
        region_bias: Sight,
        asked: tuple[Asked | None, Asked | None] = (None, None),
    ) -> tuple[Tensor, Tensor]:
        """Return both streams, text [batch, text, hidden] and regions [batch, regions, hidden].

        asked: the places of packed text and regions that alone are returned, rising.
        """
        read_text, read_regions = self.visual_attention.both(text, regions, text_bias, region_bias)
        asks_text = _asking(read_text, text_bias, asked[0])
        asks_regions = _asking(read_regions, region_bias, asked[1])
        read_text, read_regions = self.lang_self_att(*asks_text), self.visn_self_att(*asks_regions)
        inner_text, inner_regions = self.lang_inter(read_text), self.visn_inter(read_regions)
        return (
            self.lang_output(inner_text, read_text, places_of(asks_text[1])),
            self.visn_output(inner_regions, read_regions, places_of(asks_regions[1])),
        )


def _asking(states: Tensor, bias: Sight, asked: Asked | None) -> tuple[Tensor, Sight, Tensor]:
    """Return the states that ask, what they see, and all states: asking are all but for `asked`."""
    if asked is not None and isinstance(bias, Rows):
        return asked.of(bias, states)
    return states, bias, states


class TwoStreamEncoder(nn.Module):
    """The layers of each stream alone, then those of both; embeds the regions as well."""

    gradient_checkpointing = False

    def __init__(self, config: LxmertConfig, shape: BlockShape) -> None:
        super().__init__()
        self.visn_fc = RegionEmbeddings(config, shape)
        self.layer = nn.ModuleList(Layer(shape) for _ in range(config.l_layers))
        self.r_layers = nn.ModuleList(Layer(shape) for _ in range(config.r_layers))
        self.x_layers = nn.ModuleList(CrossLayer(shape) for _ in range(config.x_layers))

    def forward(
        self,
        text: Tensor,
        regions: Tensor,
        text_bias: Sight,
        region_bias: Sight,
        asked: tuple[Asked | None, Asked | None] = (None, None),
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the input and the output of each layer of the text, and of the regions.

        text and regions are embedded: [batch, text or regions, hidden]. asked: the places of packed
        text and regions whose last states alone are computed, rising.
        """
        texts, seen = [text], [regions]
        for layer in self.layer:
            texts.append(self._through(layer, texts[-1], text_bias))
        for layer in self.r_layers:
            seen.append(self._through(layer, seen[-1], region_bias))
        for number, layer in enumerate(self.x_layers, 1):
            inputs = (texts[-1], seen[-1], text_bias, region_bias)
            last = number == len(self.x_layers)
            both = self._through(layer, *inputs, *([asked] if last else []))
            texts.append(both[0])
            seen.append(both[1])
        return texts, seen

    def _through(self, layer: nn.Module, *arguments: Any) -> Any:
        """Run one layer, keeping nothing of it for the backward pass if so switched."""
        if self.gradient_checkpointing and self.training:
            return checkpoint(layer, *arguments, use_reentrant=False)
        return layer(*arguments)

"""The parts that ViLBERT alone has: its embeddings, connection layers, and the two streams.

In names, 1 is vision and 2 is text, as in the published checkpoints (Lu et al., NeurIPS 2019).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.kernels.counter_dropout import REGIONS, CountedDropout, Dropout, Places
from pretrain.kernels.region_embedding import Layers
from pretrain.models.attention import attention_named
from pretrain.models.blocks import (
    Intermediate,
    Layer,
    ResidualOutput,
    padded_attention,
    residual_norm,
)
from pretrain.models.fused_regions import (
    Embedded,
    Features,
    FusedRegions,
    assembled,
    by_kernel,
)
from pretrain.models.packing import Asked, Packed, Rows, Sight, between, packed_attention, places_of
from pretrain.models.vilbert_config import ViLBertConfig

TASKS = 20
LOCATION = 5


def stream_places(
    counted: CountedDropout | None, text: int, regions: int, row_lengths: Tensor | None, tasks: bool
) -> tuple[Places | None, Places | None]:
    """Return the places of text and regions, as they come embedded, where dropout is counted.

    text, regions: how many of each a row of the batch has, tasks' tokens not counted and whole
    images counted; row_lengths: of packed rows, as in `ViLBertModel.forward`.
    """
    if counted is None:
        return None, None
    of_tasks = counted.pairs()
    if row_lengths is None:
        of_text, task = counted.padded(text), of_tasks.columns()
        first = torch.arange(1, device=task.tokens.device)
        behind = torch.arange(1, text, device=task.tokens.device)
        with_task = of_text.at(first).and_then(task).and_then(of_text.at(behind))
        return with_task if tasks else of_text, counted.padded(regions, REGIONS)
    words, looked_at = row_lengths
    ones = torch.ones_like(words)
    of_text = counted.packed(words, text)
    whole = counted.packed(ones, len(words), REGIONS)
    others = counted.packed(looked_at - 1, regions - len(words), REGIONS + 1)
    with_tasks = of_text.and_then(of_tasks.in_row())
    return with_tasks if tasks else of_text, whole.and_then(others)


class TextEmbeddings(nn.Module):
    """Sum of word, position and segment embeddings, a task's token put in, normalised.

    A task's token stands behind [CLS] and has neither position nor segment (Lu et al., CVPR 2020).
    """

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        shape = config.text_shape()
        self.word_embeddings = nn.Embedding(config.vocab_size, shape.hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, shape.hidden)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, shape.hidden)
        self.task_embeddings = (
            nn.Embedding(TASKS, shape.hidden) if config.task_specific_tokens else None
        )
        self.LayerNorm = shape.norm()
        self.dropout = Dropout(shape.dropout)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None,
        task_ids: Tensor | None,
        columns: Tensor | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """Return [batch, text, hidden], or with tasks [batch, text + 1, hidden].

        input_ids, token_type_ids [batch, text], segments default to 0; task_ids [batch, 1]. Packed
        rows say by `columns` [text] where in its row each token stands; all else is [1, text], and
        their tasks follow all text: [1, text + rows, hidden].
        """
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        positions = columns
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        total = (
            self.word_embeddings(input_ids)
            + self.position_embeddings(positions[None])
            + self.token_type_embeddings(token_type_ids)
        )
        if self.task_embeddings is not None:
            task = self.task_embeddings(task_ids)  # [batch, 1, hidden]
            if columns is None:
                total = torch.cat([total[:, :1], task, total[:, 1:]], dim=1)
            else:
                total = torch.cat([total, task.transpose(0, 1)], dim=1)
        embedded: Tensor = self.dropout(self.LayerNorm(total), places)
        return embedded


class RegionEmbeddings(nn.Module):
    """Sum of the projected feature and the projected place of each region, normalised."""

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        self.image_embeddings = nn.Linear(config.v_feature_size, config.v_hidden_size)
        self.image_location_embeddings = nn.Linear(LOCATION, config.v_hidden_size)
        self.LayerNorm = config.vision_shape().norm()
        # The text stream's share, as published.
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self, features: Features, locations: Tensor, places: Places | None = None
    ) -> Embedded:
        """Return [batch, regions, hidden] of features [.., 2048] and locations [.., 5]."""
        feature, location, norm = (
            self.image_embeddings,
            self.image_location_embeddings,
            self.LayerNorm,
        )
        if by_kernel(features, feature.weight):
            offset = feature.bias.float() + location.bias.float()
            parts = (feature.weight, location.weight, offset, norm.weight, norm.bias, norm.eps)
            return FusedRegions(features, locations, Layers(*parts), self.dropout, places)
        dtype = feature.weight.dtype
        total = feature(assembled(features).to(dtype)) + location(locations.to(dtype))
        embedded: Tensor = self.dropout(self.LayerNorm(total), places)
        return embedded


class CoAttention(nn.Module):
    """Attention of the text to the regions and of the regions to the text, at once."""

    site: int | None = None

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        width, heads = config.bi_hidden_size, config.bi_num_attention_heads
        if width % heads:
            raise ValueError(f"hidden size {width} does not divide by {heads} heads")
        self.head_size = width // heads
        self.attend = attention_named(config._attn_implementation)
        self.query1 = nn.Linear(config.v_hidden_size, width)
        self.key1 = nn.Linear(config.v_hidden_size, width)
        self.value1 = nn.Linear(config.v_hidden_size, width)
        self.query2 = nn.Linear(config.hidden_size, width)
        self.key2 = nn.Linear(config.hidden_size, width)
        self.value2 = nn.Linear(config.hidden_size, width)
        # Each dropout is that of the stream whose keys are read.
        self.dropout1 = config.v_attention_probs_dropout_prob
        self.dropout2 = config.attention_probs_dropout_prob

    def _heads(self, states: Tensor) -> Tensor:
        """Return [batch, heads, length, head size] from [batch, length, width]."""
        return states.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

    def _mix(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Sight, dropout: float
    ) -> Tensor:
        """Return what `query` finds in `key` and `value`, all [batch, length, width]."""
        dropout = dropout if self.training else 0.0
        if isinstance(bias, Packed):
            query, key, value = (
                part.unflatten(-1, (-1, self.head_size)) for part in (query, key, value)
            )
            settings = (bias, dropout, self.attend, self.site)
            return packed_attention(query, key, value, *settings).flatten(2)
        query, key, value = map(self._heads, (query, key, value))
        mixed = padded_attention(query, key, value, bias, dropout, self.attend, self.site)
        return mixed.transpose(1, 2).flatten(2)

    def forward(
        self, regions: Tensor, region_bias: Sight, text: Tensor, text_bias: Sight
    ) -> tuple[Tensor, Tensor]:
        """Return what the regions find in the text and the text in the regions.

        regions [batch, regions, v_hidden], text [batch, text, hidden]; each bias masks its own
        stream where that is read, [batch, 1, 1, keys], or says where packed rows lie. Returns
        [batch, regions, width] and [batch, text, width].
        """
        of_regions = self.query1(regions), self.key1(regions), self.value1(regions)
        of_text = self.query2(text), self.key2(text), self.value2(text)
        to_text, to_regions = between(region_bias, text_bias), between(text_bias, region_bias)
        from_text = self._mix(of_regions[0], *of_text[1:], to_text, self.dropout2)
        from_regions = self._mix(of_text[0], *of_regions[1:], to_regions, self.dropout1)
        return from_text, from_regions


class CoAttentionOutput(nn.Module):
    """LN(residual + dropout(dense(states))) of both streams.

    `q_dense1` and `q_dense2` lie in the published checkpoints and are never read.
    """

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        vision, text = config.vision_shape(), config.text_shape()
        width = config.bi_hidden_size
        self.dense1 = nn.Linear(width, vision.hidden)
        self.LayerNorm1 = vision.norm()
        self.dropout1 = Dropout(vision.dropout)
        self.q_dense1 = nn.Linear(width, vision.hidden)
        self.dense2 = nn.Linear(width, text.hidden)
        self.LayerNorm2 = text.norm()
        self.dropout2 = Dropout(text.dropout)
        self.q_dense2 = nn.Linear(width, text.hidden)

    def forward(
        self,
        from_text: Tensor,
        regions: Tensor,
        from_regions: Tensor,
        text: Tensor,
        places: tuple[Places | None, Places | None] = (None, None),
    ) -> tuple[Tensor, Tensor]:
        """Return new regions and text from what each found in the other, and from the old.

        places: of the regions and of the text.
        """
        of_regions = (self.dense1, self.dropout1, self.LayerNorm1)
        of_text = (self.dense2, self.dropout2, self.LayerNorm2)
        return (
            residual_norm(*of_regions, from_text, regions, places[0]),
            residual_norm(*of_text, from_regions, text, places[1]),
        )


class ConnectionLayer(nn.Module):
    """Co-attention, then for each stream the second half of a transformer layer."""

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        vision, text = config.vision_shape(), config.text_shape()
        self.biattention = CoAttention(config)
        self.biOutput = CoAttentionOutput(config)
        self.v_intermediate = Intermediate(vision)
        self.v_output = ResidualOutput(vision, vision.intermediate)
        self.t_intermediate = Intermediate(text)
        self.t_output = ResidualOutput(text, text.intermediate)

    def forward(
        self, regions: Tensor, region_bias: Sight, text: Tensor, text_bias: Sight
    ) -> tuple[Tensor, Tensor]:
        """Return regions [batch, regions, v_hidden] and text [batch, text, hidden]."""
        found = self.biattention(regions, region_bias, text, text_bias)
        places = places_of(region_bias), places_of(text_bias)
        regions, text = self.biOutput(found[0], regions, found[1], text, places)
        return (
            self.v_output(self.v_intermediate(regions), regions, places[0]),
            self.t_output(self.t_intermediate(text), text, places[1]),
        )


class TwoStreams(nn.Module):
    """The layers of both streams and the connections between them.

    Each connection runs before the layers that `v_biattention_id` and `t_biattention_id` number:
    at base size text layers 0 to 5 come first, then six times a connection, a visual layer and a
    text layer, so the first connection reads the regions' embeddings as they are.
    """

    gradient_checkpointing = False

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        text, vision = config.text_shape(), config.vision_shape()
        self.layer = nn.ModuleList(Layer(text) for _ in range(config.num_hidden_layers))
        self.v_layer = nn.ModuleList(Layer(vision) for _ in range(config.v_num_hidden_layers))
        self.c_layer = nn.ModuleList(ConnectionLayer(config) for _ in config.v_biattention_id)
        self._text_ends = [*config.t_biattention_id, config.num_hidden_layers]
        self._vision_ends = [*config.v_biattention_id, config.v_num_hidden_layers]

    def _run(self, layer: nn.Module, *inputs: Tensor | Sight) -> Any:
        """Return layer(*inputs), computed again in the backward pass where that is wished."""
        if self.gradient_checkpointing and self.training:
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def _stack(
        self, layers: nn.ModuleList, states: list[Tensor], bias: Sight, asked: Asked | None
    ) -> None:
        """Append to `states` what each of `layers` makes of them, the last at the places `asked`.

        asked: of packed rows, where those are the last layers of a stream; nothing: all places.
        """
        for layer in layers[:-1]:
            states.append(self._run(layer, states[-1], bias))
        if asked is not None and isinstance(bias, Rows):
            inputs = asked.of(bias, states[-1])
            states.append(self._run(layers[-1], *inputs) if len(layers) else inputs[0])
        elif len(layers):
            states.append(self._run(layers[-1], states[-1], bias))

    def forward(
        self,
        text: Tensor,
        text_bias: Sight,
        regions: Tensor,
        region_bias: Sight,
        asked: tuple[Asked | None, Asked | None] = (None, None),
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the states of text and of regions: their inputs, then those after each step.

        text [batch, text, hidden], regions [batch, regions, v_hidden]. A step is a layer of the
        stream or a connection. asked: the places of packed text and regions whose last states
        alone are computed, rising.
        """
        texts, images = [text], [regions]
        text_start = vision_start = 0
        ends = zip(self._text_ends, self._vision_ends, strict=True)
        for number, (text_end, vision_end) in enumerate(ends):
            last = number == len(self.c_layer)
            text_asked, regions_asked = asked if last else (None, None)
            self._stack(self.layer[text_start:text_end], texts, text_bias, text_asked)
            self._stack(self.v_layer[vision_start:vision_end], images, region_bias, regions_asked)
            if not last:
                image, text = self._run(
                    self.c_layer[number], images[-1], region_bias, texts[-1], text_bias
                )
                images.append(image)
                texts.append(text)
            text_start, vision_start = text_end, vision_end
        return texts, images


class ReluPooler(nn.Module):
    """relu(dense(state of token 0)), into the width that both streams share."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, width)

    def forward(self, states: Tensor) -> Tensor:
        """Return [batch, width] from [batch, length, hidden]."""
        return torch.relu(self.dense(states[:, 0]))

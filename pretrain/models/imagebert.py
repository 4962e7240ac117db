"""ImageBERT (Qi et al., 2020): one BERT reads `[CLS] text [SEP]` and the regions of the image.

A region is the sum of its feature, its location, a segment that says "region" and one position
that all regions share. No code or weights were published; tensors are named as Oscar's, and what
Oscar has not: `bert.img_location_embedding`, `cls.object_classifier`, `cls.feature_regressor` and
`cls.itm`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput

from pretrain.kernels.counter_dropout import CountedDropout, Dropout, Places
from pretrain.kernels.region_embedding import Layers
from pretrain.models.attention import mask_bias
from pretrain.models.blocks import BlockShape, Encoder, Pooler, TextEmbeddings
from pretrain.models.comparing import start_comparing
from pretrain.models.fused_regions import (
    Embedded,
    Features,
    FusedRegions,
    assembled,
    by_kernel,
    rows_of,
)
from pretrain.models.heads import MaskedTokenHead, RegionHeads
from pretrain.models.imagebert_config import ImageBertConfig
from pretrain.models.initial_weights import draw_as_bert
from pretrain.models.packed_rows import HeadPlaces, PackedRows, input_places, joint
from pretrain.models.packing import seen
from pretrain.objectives import check_targets

LOCATION = 5
REGION_SEGMENT = 1


class ImageBertPreTrainedModel(PreTrainedModel):
    """What both forms of ImageBERT share: configuration, prefix, initial values."""

    config_class = ImageBertConfig
    config: ImageBertConfig
    base_model_prefix = "bert"
    _input_embed_layer = "word_embeddings"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights from N(0, 0.02), as BERT does; biases are 0, gains 1."""
        draw_as_bert(module, self.config.initializer_range)


class ImageBertModel(ImageBertPreTrainedModel):
    """The network without prediction heads."""

    # A published folder holds the heads too.
    _keys_to_ignore_on_load_unexpected = [r"^cls\."]

    def __init__(self, config: ImageBertConfig) -> None:
        super().__init__(config)
        shape = config.block_shape()
        self.embeddings = TextEmbeddings(
            shape, config.vocab_size, config.max_position_embeddings, config.type_vocab_size
        )
        self.img_embedding = nn.Linear(config.img_feature_dim, config.hidden_size)
        self.img_location_embedding = nn.Linear(LOCATION, config.hidden_size)
        self.LayerNorm = shape.norm()
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.encoder = Encoder(shape, config.num_hidden_layers)
        self.pooler = Pooler(config.hidden_size)
        self.post_init()
        start_comparing(self.embeddings, self.encoder, config.comparing_heads)

    def embed_regions(
        self, img_feats: Features, img_locations: Tensor, places: Places | None = None
    ) -> Embedded:
        """Return regions [batch, regions, hidden]; one LN over the sum (section 4.1).

        img_feats [batch, regions, feature]; img_locations [batch, regions, 5].
        """
        feature, location, norm = self.img_embedding, self.img_location_embedding, self.LayerNorm
        segment = self.embeddings.token_type_embeddings.weight[REGION_SEGMENT]
        position = self.embeddings.position_embeddings.weight[self.config.visual_position]
        if by_kernel(img_feats, feature.weight):
            added = (feature.bias, location.bias, segment, position)
            offset = torch.stack([each.float() for each in added]).sum(0)
            parts = (feature.weight, location.weight, offset, norm.weight, norm.bias, norm.eps)
            return FusedRegions(img_feats, img_locations, Layers(*parts), self.dropout, places)
        kind = feature.weight.dtype
        total = (
            self.img_embedding(assembled(img_feats).to(kind))
            + self.img_location_embedding(img_locations.to(kind))
            + segment
            + position
        )
        embedded: Tensor = self.dropout(self.LayerNorm(total), places)
        return embedded

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        img_feats: Features | None = None,
        img_locations: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        read: Tensor | None = None,
        counted: CountedDropout | None = None,
    ) -> BaseModelOutputWithPooling:
        """Read text and regions.

        input_ids [batch, text]; img_feats [batch, regions, feature] with img_locations [batch,
        regions, 5]; attention_mask [batch, text + regions], 1 to see, 0 to mask, text first
        whatever the order of blocks is; by default all is seen. Returns states [batch, text +
        regions, hidden], also text first, and the pooled state of [CLS] [batch, hidden].
        row_lengths int64 [2, batch], tokens and regions of each row: the rows are packed, all else
        has one row that holds them end to end, and no mask is given.
        read int64 [read]: of packed rows the places, of all text and then all regions, whose states
        alone are wanted. counted: what makes dropout a function of sample and token.
        """
        seeing = 0 if img_feats is None else img_feats.shape[1]
        of_text, of_regions = input_places(counted, input_ids.shape[1], seeing, row_lengths)
        places = joint(of_text, of_regions)
        regions: Embedded | None = None
        if img_feats is not None:
            if img_locations is None:
                raise ValueError("img_feats need img_locations [batch, regions, 5]")
            regions = self.embed_regions(img_feats, img_locations, of_regions)
        if row_lengths is not None:
            longest = self.config.longest_sample
            packed = PackedRows(longest, row_lengths, input_ids, img_feats, places)
            text = self.embeddings(input_ids, None, packed.packing.first_columns[None], of_text)
            return packed.through(self, text, regions, output_hidden_states, read)
        text, count = self.embeddings(input_ids, places=of_text), input_ids.shape[1]
        states = text if regions is None else torch.cat([text, rows_of(regions)], dim=1)
        bias = None
        if attention_mask is not None:
            if attention_mask.shape[-1] != states.shape[1]:
                raise ValueError(
                    f"attention_mask covers {attention_mask.shape[-1]} positions, text and regions "
                    f"are {states.shape[1]}"
                )
            bias = mask_bias(attention_mask, states.dtype)
        behind = states.shape[1] - count
        swapped = self.config.block_order == "regions-first"
        if swapped:
            states = states.roll(behind, dims=1)
            bias = None if bias is None else bias.roll(behind, dims=-1)
            places = places and places.rolled(behind)
        reached = self.encoder(states, seen(bias, places))
        if swapped:
            reached = [state.roll(-behind, dims=1) for state in reached]
        return BaseModelOutputWithPooling(
            last_hidden_state=reached[-1],
            pooler_output=self.pooler(reached[-1]),
            hidden_states=tuple(reached) if output_hidden_states else None,
        )


@dataclass
class ImageBertPreTrainingOutput(ModelOutput):
    """What the pretraining heads say.

    prediction_logits: [masked, vocabulary], or [batch, text, vocabulary] where no positions were
    given; object_logits and feature_predictions: [predicted regions, classes or feature], or
    [batch, regions, ...]; match_logits: [batch, 1], the log-odds that text and image belong
    together.
    masked_token_losses float32 [masked]: in training, where a kernel brings them in place of
    prediction_logits.
    """

    prediction_logits: Tensor | None = None
    masked_token_losses: Tensor | None = None
    object_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    match_logits: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class ImageBertHeads(RegionHeads):
    """The heads of pretraining: masked tokens, masked regions and matching."""

    def __init__(self, config: ImageBertConfig, shape: BlockShape) -> None:
        super().__init__(config.hidden_size, config.object_classes, config.img_feature_dim)
        self.predictions = MaskedTokenHead(shape, config.vocab_size)
        self.itm = nn.Linear(config.hidden_size, 1)


class ImageBertForPreTraining(ImageBertPreTrainedModel):
    """ImageBERT with the heads of its pretraining."""

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: ImageBertConfig) -> None:
        super().__init__(config)
        self.bert = ImageBertModel(config)
        self.cls = ImageBertHeads(config, config.block_shape())
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder of the masked-token head, which is tied to the word table."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another decoder in place."""
        self.cls.predictions.decoder = new_embeddings  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        img_feats: Features | None = None,
        img_locations: Tensor | None = None,
        masked_positions: Tensor | None = None,
        predicted_regions: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        counted: CountedDropout | None = None,
        **targets: Tensor,
    ) -> ImageBertPreTrainingOutput:
        """Read a batch, as `ImageBertModel` does, and predict.

        masked_positions [masked]: places in the flattened text (row * text length + column) that
        the masked-token head reads; predicted_regions [predicted]: places in the flattened regions
        for the heads of regions; nothing: all of them. A batch's targets may be passed along.
        """
        check_targets(targets)
        predicted_regions = self.cls.read(predicted_regions, input_ids.device)
        heads = HeadPlaces(input_ids.shape[1], masked_positions, predicted_regions)
        # The last layer of packed rows computes what the heads read and nothing else.
        read = None if row_lengths is None or output_hidden_states else heads.joint()
        outputs = self.bert(
            input_ids,
            attention_mask,
            img_feats,
            img_locations,
            output_hidden_states,
            row_lengths,
            read,
            counted,
        )
        parts = heads.parts if read is None else heads.parts_read
        text, regions = parts(outputs.last_hidden_state)
        return ImageBertPreTrainingOutput(
            **self.cls.predictions.said(text, targets),
            **self.cls.about_regions(regions),
            match_logits=self.cls.itm(outputs.pooler_output),
            pooler_output=outputs.pooler_output,
            hidden_states=outputs.hidden_states,
        )

    def score(self, **batch: Tensor) -> Tensor:
        """Return the log-odds [batch] that the text and the image of each row belong together."""
        nothing = torch.zeros(0, dtype=torch.long, device=self.device)
        unread = {"masked_positions": nothing, "predicted_regions": nothing}
        logits: Tensor = self(**{**batch, **unread}).match_logits
        return logits[:, 0].float()

"""Oscar (Li et al., ECCV 2020) and Oscar+ (VinVL, Zhang et al., CVPR 2021).

One BERT reads `[CLS] caption [SEP] tags [SEP]` and, after it, the projected regions of the image.
Regions have neither position nor segment. Tensors are named as in the published checkpoints.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput

from pretrain.batches.layout import GEOMETRY
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
from pretrain.models.initial_weights import draw_as_bert
from pretrain.models.oscar_config import OscarConfig
from pretrain.models.packed_rows import HeadPlaces, PackedRows, input_places, joint
from pretrain.models.packing import seen
from pretrain.objectives import check_targets
from pretrain.objectives.matching import log_odds
from pretrain.objectives.tag_contrast import clean_scores


class OscarPreTrainedModel(PreTrainedModel):
    """What both forms of Oscar share: configuration, prefix, initial values."""

    config_class = OscarConfig
    config: OscarConfig
    base_model_prefix = "bert"
    _input_embed_layer = "word_embeddings"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights from N(0, 0.02), the row of the padding token included, as published."""
        draw_as_bert(module, self.config.initializer_range)


class OscarModel(OscarPreTrainedModel):
    """The network without prediction heads."""

    # A published folder holds the heads too.
    _keys_to_ignore_on_load_unexpected = [r"^cls\."]

    def __init__(self, config: OscarConfig) -> None:
        super().__init__(config)
        shape = config.block_shape()
        self.embeddings = TextEmbeddings(
            shape, config.vocab_size, config.max_position_embeddings, config.type_vocab_size
        )
        self.img_embedding = nn.Linear(config.img_feature_dim, config.hidden_size)
        self.LayerNorm = (
            nn.LayerNorm(config.hidden_size, eps=config.img_layer_norm_eps)
            if config.use_img_layernorm
            else None
        )
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.encoder = Encoder(shape, config.num_hidden_layers)
        self.pooler = Pooler(config.hidden_size)
        self.post_init()
        start_comparing(self.embeddings, self.encoder, config.comparing_heads)

    def embed_regions(self, img_feats: Features, places: Places | None = None) -> Embedded:
        """Return regions [batch, regions, hidden] from vectors [batch, regions, 2054]."""
        weight, norm = self.img_embedding.weight, self.LayerNorm
        if by_kernel(img_feats, weight):
            parts = weight[:, :-GEOMETRY], weight[:, -GEOMETRY:], self.img_embedding.bias.float()
            layers = Layers(*parts)
            if norm is not None:
                layers = replace(layers, gain=norm.weight, shift=norm.bias, epsilon=norm.eps)
            return FusedRegions(img_feats, None, layers, self.dropout, places)
        projected = self.img_embedding(assembled(img_feats).to(weight.dtype))
        if self.LayerNorm is not None:
            projected = self.LayerNorm(projected)
        embedded: Tensor = self.dropout(projected, places)
        return embedded

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        img_feats: Features | None = None,
        encoder_history_states: list[Tensor] | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        read: Tensor | None = None,
        counted: CountedDropout | None = None,
    ) -> BaseModelOutputWithPooling:
        """Read caption, tags and regions.

        input_ids, token_type_ids, position_ids: [batch, text]; img_feats: [batch, regions, 2054];
        attention_mask: 1 to see, 0 to mask, over text then regions, [batch, text + regions] or,
        with a row for each query, [batch, text + regions, text + regions]; by default all is seen.
        encoder_history_states: for each layer, states [batch, earlier, hidden] of positions before
        these; the mask then covers them first. Returns states [batch, text + regions, hidden] and
        the pooled state of [CLS] [batch, hidden].
        row_lengths int64 [2, batch], tokens and regions of each row: the rows are packed, all else
        has one row that holds them end to end, and no mask is given.
        read int64 [read]: of packed rows the places, of all text and then all regions, whose states
        alone are wanted. counted: what makes dropout a function of sample and token.
        """
        seeing = 0 if img_feats is None else img_feats.shape[1]
        of_text, of_regions = input_places(counted, input_ids.shape[1], seeing, row_lengths)
        places = joint(of_text, of_regions)
        if row_lengths is not None:
            longest = self.config.longest_sample
            packed = PackedRows(longest, row_lengths, input_ids, img_feats, places)
            columns = packed.packing.first_columns[None]
            states = self.embeddings(input_ids, token_type_ids, columns, of_text)
            regions = None if img_feats is None else self.embed_regions(img_feats, of_regions)
            return packed.through(self, states, regions, output_hidden_states, read)
        states = self.embeddings(input_ids, token_type_ids, position_ids, of_text)
        if img_feats is not None:
            regions = rows_of(self.embed_regions(img_feats, of_regions))
            states = torch.cat([states, regions], dim=1)
        bias = None
        if attention_mask is not None:
            earlier = encoder_history_states[0].shape[1] if encoder_history_states else 0
            if attention_mask.shape[-1] != states.shape[1] + earlier:
                raise ValueError(
                    f"attention_mask covers {attention_mask.shape[-1]} positions, text and regions "
                    f"are {states.shape[1] + earlier}"
                )
            bias = mask_bias(attention_mask, states.dtype)
        reached = self.encoder(states, seen(bias, places), encoder_history_states)
        return BaseModelOutputWithPooling(
            last_hidden_state=reached[-1],
            pooler_output=self.pooler(reached[-1]),
            hidden_states=tuple(reached) if output_hidden_states else None,
        )


@dataclass
class OscarPreTrainingOutput(ModelOutput):
    """What the pretraining heads say.

    prediction_logits: [masked, vocabulary], or [batch, text, vocabulary] where no positions were
    given; seq_relationship_logits: [batch, 2 or 3], class 0 for clean pairs; match_logits:
    [batch, 2], class 1 for pairs that match, with `match_head` alone; object_logits and
    feature_predictions: [predicted regions, classes or feature], with the heads of regions alone.
    masked_token_losses float32 [masked]: in training, where a kernel brings them in place of
    prediction_logits.
    """

    prediction_logits: Tensor | None = None
    masked_token_losses: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    match_logits: Tensor | None = None
    object_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class PreTrainingHeads(RegionHeads):
    """The heads of pretraining: masked tokens, contrast; matching and regions where wanted."""

    def __init__(self, config: OscarConfig, shape: BlockShape) -> None:
        feature = config.img_feature_dim - GEOMETRY if config.feature_head else 0
        super().__init__(config.hidden_size, config.object_classes, feature)
        self.predictions = MaskedTokenHead(shape, config.vocab_size)
        self.seq_relationship = nn.Linear(config.hidden_size, config.num_contrast_classes or 2)
        self.itm = nn.Linear(config.hidden_size, 2) if config.match_head else None


class OscarForPreTraining(OscarPreTrainedModel):
    """Oscar with the heads of its pretraining."""

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: OscarConfig) -> None:
        super().__init__(config)
        self.bert = OscarModel(config)
        self.cls = PreTrainingHeads(config, config.block_shape())
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
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        img_feats: Features | None = None,
        masked_positions: Tensor | None = None,
        predicted_regions: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        counted: CountedDropout | None = None,
        **targets: Tensor,
    ) -> OscarPreTrainingOutput:
        """Read a batch, as `OscarModel` does, and predict.

        masked_positions [masked]: places in the flattened text (row * text length + column) that
        the masked-token head reads; predicted_regions [predicted]: places in the flattened regions
        (row * regions + column) for the heads of regions; nothing: all of them. A batch's targets
        may be passed along, `pretrain.objectives.compute` reads them.
        """
        check_targets(targets)
        predicted_regions = self.cls.read(predicted_regions, input_ids.device)
        heads = HeadPlaces(input_ids.shape[1], masked_positions, predicted_regions)
        # The last layer of packed rows computes what the heads read and nothing else.
        read = None if row_lengths is None or output_hidden_states else heads.joint()
        outputs = self.bert(
            input_ids,
            token_type_ids,
            attention_mask,
            position_ids,
            img_feats,
            output_hidden_states=output_hidden_states,
            row_lengths=row_lengths,
            read=read,
            counted=counted,
        )
        parts = heads.parts if read is None else heads.parts_read
        text, regions = parts(outputs.last_hidden_state)
        return OscarPreTrainingOutput(
            **self.cls.predictions.said(text, targets),
            **self.relate(outputs.pooler_output),
            **self.cls.about_regions(regions),
            pooler_output=outputs.pooler_output,
            hidden_states=outputs.hidden_states,
        )

    def relate(self, pooled: Tensor) -> dict[str, Tensor]:
        """Return the logits of the heads that read the pooled state [batch, hidden], by name."""
        logits = {"seq_relationship_logits": self.cls.seq_relationship(pooled)}
        if self.cls.itm is not None:
            logits["match_logits"] = self.cls.itm(pooled)
        return logits

    def score(self, **batch: Tensor) -> Tensor:
        """Return the log-odds [batch] that the caption and the image of each row belong together.

        By the match head, else by the contrast head. `batch` is what `forward` takes.
        """
        nothing = torch.zeros(0, dtype=torch.long, device=self.device)
        unread = {"masked_positions": nothing, "predicted_regions": nothing}
        outputs = self(**{**batch, **unread})
        if outputs.match_logits is None:
            return clean_scores(outputs.seq_relationship_logits)
        return log_odds(outputs.match_logits, self.config.match_class)

"""LXMERT (Tan and Bansal, EMNLP 2019): text and regions in two streams that read each other.

The text passes its own layers and the regions theirs, then both pass cross layers. One attention
serves both directions of a cross layer. Tensors are named as in the published checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from pretrain.kernels.counter_dropout import CountedDropout
from pretrain.models.attention import mask_bias
from pretrain.models.blocks import BlockShape, Pooler, TextEmbeddings
from pretrain.models.comparing import start_comparing, start_faint
from pretrain.models.fused_regions import Features
from pretrain.models.heads import MaskedTokenHead, PredictionTransform, at_places
from pretrain.models.initial_weights import draw_as_bert
from pretrain.models.lxmert_config import LxmertConfig
from pretrain.models.lxmert_layers import TwoStreamEncoder
from pretrain.models.packed_rows import PackedStream, input_places
from pretrain.models.packing import seen as sees
from pretrain.objectives import TARGETS, check_targets
from pretrain.objectives.matching import log_odds


class LxmertPreTrainedModel(PreTrainedModel):
    """What both forms of LXMERT share: configuration, prefix, initial values."""

    config_class = LxmertConfig
    config: LxmertConfig
    base_model_prefix = "bert"
    _input_embed_layer = "word_embeddings"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights from N(0, 0.02), rows of padding included, as published."""
        draw_as_bert(module, self.config.initializer_range)


@dataclass
class LxmertModelOutput(ModelOutput):
    """What the network says.

    last_hidden_state: the text [batch, text, hidden]; regions_hidden_state [batch, regions,
    hidden]; pooler_output [batch, hidden]; text_hidden_states and region_hidden_states: the
    embeddings and the output of each layer of the stream.
    """

    last_hidden_state: Tensor | None = None
    regions_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    text_hidden_states: tuple[Tensor, ...] | None = None
    region_hidden_states: tuple[Tensor, ...] | None = None


class LxmertModel(LxmertPreTrainedModel):
    """The network without prediction heads."""

    # A published folder holds the heads too.
    _keys_to_ignore_on_load_unexpected = [
        r"^cls\.",
        r"^obj_predict_head\.",
        r"^answer_head\.",
        r"^contrast_head\.",
    ]

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        shape = config.block_shape()
        self.embeddings = TextEmbeddings(
            shape, config.vocab_size, config.max_position_embeddings, config.type_vocab_size
        )
        if config.frozen_rows == "as_published":
            self.embeddings.position_embeddings.padding_idx = 0
            self.embeddings.token_type_embeddings.padding_idx = 0
        self.encoder = TwoStreamEncoder(config, shape)
        self.pooler = Pooler(config.hidden_size)
        self.post_init()
        # The layers that text passes, whether alone or between two looks at the regions.
        text_layers = [*self.encoder.layer, *(each.lang_self_att for each in self.encoder.x_layers)]
        start_comparing(self.embeddings, nn.ModuleList(text_layers), config.comparing_heads)
        if config.comparing_heads:
            name = "visual_attention.output.dense"
            start_faint(each.get_submodule(name) for each in self.encoder.x_layers)

    def forward(
        self,
        input_ids: Tensor,
        visual_feats: Features,
        visual_pos: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        read: tuple[Tensor | None, Tensor | None] = (None, None),
        counted: CountedDropout | None = None,
    ) -> LxmertModelOutput:
        """Read text and regions.

        input_ids, token_type_ids, attention_mask: [batch, text]; visual_feats:
        [batch, regions, 2048]; visual_pos: [batch, regions, 4], x1/W y1/H x2/W y2/H;
        visual_attention_mask: [batch, regions]. Masks are 1 to see, 0 to mask; by default all is
        seen. row_lengths int64 [2, batch], tokens and regions of each row, one of each at least:
        the rows are packed, all else has one row that holds them end to end, and no mask is given.
        read: of packed rows the places of text and of regions whose last states alone are wanted.
        counted: what makes dropout a function of sample and token.
        """
        sizes = input_ids.shape[1], visual_feats.shape[1]
        of_text, of_regions = input_places(counted, *sizes, row_lengths)
        regions = self.encoder.visn_fc(visual_feats, visual_pos, of_regions)
        if row_lengths is not None:
            config = self.config
            words, seen = row_lengths
            streams = (
                PackedStream.of(words, sizes[0], config.max_seq_length, read[0], of_text),
                PackedStream.of(seen, sizes[1], config.max_regions, read[1], of_regions),
            )
            columns = streams[0].rows.column[None]
            text = self.embeddings(input_ids, token_type_ids, columns, of_text)
            return self._packed(text, regions, streams, output_hidden_states)
        text = self.embeddings(input_ids, token_type_ids, places=of_text)
        text_bias, region_bias = (
            None if mask is None else mask_bias(mask, text.dtype)
            for mask in (attention_mask, visual_attention_mask)
        )
        texts, seen = self.encoder(
            text, regions, sees(text_bias, of_text), sees(region_bias, of_regions)
        )
        return LxmertModelOutput(
            last_hidden_state=texts[-1],
            regions_hidden_state=seen[-1],
            pooler_output=self.pooler(texts[-1]),
            text_hidden_states=tuple(texts) if output_hidden_states else None,
            region_hidden_states=tuple(seen) if output_hidden_states else None,
        )

    def _packed(
        self,
        text: Tensor,
        regions: Tensor,
        streams: tuple[PackedStream, PackedStream],
        output_hidden_states: bool,
    ) -> LxmertModelOutput:
        """Return what the streams say of embedded packed text and regions."""
        of_text, of_regions = streams
        asked = (of_text.asked, of_regions.asked)
        texts, seen = self.encoder(text, regions, of_text.rows, of_regions.rows, asked)
        starts, text_states = of_text.last(texts[-1])
        return LxmertModelOutput(
            last_hidden_state=text_states,
            regions_hidden_state=of_regions.last(seen[-1])[1],
            pooler_output=self.pooler(starts),
            text_hidden_states=of_text.history(texts, output_hidden_states),
            region_hidden_states=of_regions.history(seen, output_hidden_states),
        )


@dataclass
class LxmertPreTrainingOutput(ModelOutput):
    """What the pretraining heads say.

    prediction_logits [masked, vocabulary], or [batch, text, vocabulary] where no positions were
    given; match_logits [batch, 2], class 1 for pairs that match; object_logits [predicted, 1600],
    attribute_logits [predicted, 400] and feature_predictions [predicted, 2048], or
    [batch, regions, ..] where no regions were given; answer_logits [batch, 9500];
    seq_relationship_logits [batch, 2 or 3] of Oscar's contrast. What has no head is not there.
    masked_token_losses float32 [masked]: in training, where a kernel brings them in place of
    prediction_logits.
    """

    prediction_logits: Tensor | None = None
    masked_token_losses: Tensor | None = None
    match_logits: Tensor | None = None
    object_logits: Tensor | None = None
    attribute_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    answer_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    pooler_output: Tensor | None = None
    text_hidden_states: tuple[Tensor, ...] | None = None
    region_hidden_states: tuple[Tensor, ...] | None = None


class PreTrainingHeads(nn.Module):
    """The heads of the text: masked tokens, and matching on the pooled state."""

    def __init__(self, config: LxmertConfig, shape: BlockShape) -> None:
        super().__init__()
        self.predictions = MaskedTokenHead(shape, config.vocab_size)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)


class RegionHeads(nn.Module):
    """The heads of the regions: one transform, and a decoder each for what is predicted."""

    _OUTPUTS = {
        "obj": "object_logits",
        "attr": "attribute_logits",
        "feat": "feature_predictions",
    }

    def __init__(self, shape: BlockShape, widths: dict[str, int]) -> None:
        super().__init__()
        self.transform = PredictionTransform(shape)
        self.decoder_dict = nn.ModuleDict(
            {name: nn.Linear(shape.hidden, width) for name, width in widths.items()}
        )

    def forward(self, states: Tensor) -> dict[str, Tensor]:
        """Return [..., width] by the name of the output, from [..., hidden]."""
        states = self.transform(states)
        return {self._OUTPUTS[name]: decode(states) for name, decode in self.decoder_dict.items()}


class AnswerHead(nn.Module):
    """Scores of all answers from the pooled state: widened, gelu, LN, decoded."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        wide = 2 * config.hidden_size
        self.logit_fc = nn.Sequential(
            nn.Linear(config.hidden_size, wide),
            nn.GELU(),
            nn.LayerNorm(wide, eps=config.layer_norm_eps),
            nn.Linear(wide, config.num_qa_labels),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Return [batch, answers] from [batch, hidden]."""
        scores: Tensor = self.logit_fc(pooled)
        return scores


def _region_widths(config: LxmertConfig) -> dict[str, int]:
    """Return the width of each decoder of regions that `config` asks for, by its published name."""
    asked = {
        "obj": (config.object_head, config.num_object_labels),
        "attr": (config.attribute_head, config.num_attr_labels),
        "feat": (config.feature_head, config.visual_feat_dim),
    }
    return {name: width for name, (wanted, width) in asked.items() if wanted}


class LxmertForPreTraining(LxmertPreTrainedModel):
    """LXMERT with the heads of its pretraining."""

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        shape = config.block_shape()
        widths = _region_widths(config)
        self.bert = LxmertModel(config)
        self.cls = PreTrainingHeads(config, shape)
        self.obj_predict_head = RegionHeads(shape, widths) if widths else None
        self.answer_head = AnswerHead(config) if config.answer_head else None
        self.contrast_head = (
            nn.Linear(config.hidden_size, config.num_contrast_classes or 2)
            if config.contrast_head
            else None
        )
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
        visual_feats: Features,
        visual_pos: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        masked_positions: Tensor | None = None,
        predicted_regions: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        counted: CountedDropout | None = None,
        **targets: Tensor,
    ) -> LxmertPreTrainingOutput:
        """Read a batch, as `LxmertModel` does, and predict.

        masked_positions [masked]: places in the flattened text (row * text length + column) that
        the masked-token head reads; predicted_regions [predicted]: places in the flattened regions
        that the heads of regions read; nothing: all of them. A batch's targets may be passed along,
        `pretrain.objectives.compute` reads them. Raises TypeError for any other name.
        """
        check_targets(targets)
        read: tuple[Tensor | None, Tensor | None] = (None, None)
        if row_lengths is not None and not output_hidden_states:
            # The last layer of packed rows computes what the heads read and nothing else.
            read = (masked_positions, predicted_regions)
        outputs = self.bert(
            input_ids,
            visual_feats,
            visual_pos,
            token_type_ids,
            attention_mask,
            visual_attention_mask,
            output_hidden_states,
            row_lengths,
            read,
            counted,
        )
        text, regions = (
            at_places(states, places) if chosen is None else states[0]
            for states, places, chosen in zip(
                (outputs.last_hidden_state, outputs.regions_hidden_state),
                (masked_positions, predicted_regions),
                read,
                strict=True,
            )
        )
        said = {} if self.obj_predict_head is None else self.obj_predict_head(regions)
        return LxmertPreTrainingOutput(
            **self.cls.predictions.said(text, targets),
            **said,
            **self._relate(outputs.pooler_output),
            pooler_output=outputs.pooler_output,
            text_hidden_states=outputs.text_hidden_states,
            region_hidden_states=outputs.region_hidden_states,
        )

    def _relate(self, pooled: Tensor) -> dict[str, Tensor]:
        """Return the logits of the heads that read the pooled state [batch, hidden], by name."""
        logits = {"match_logits": self.cls.seq_relationship(pooled)}
        if self.answer_head is not None:
            logits["answer_logits"] = self.answer_head(pooled)
        if self.contrast_head is not None:
            logits["seq_relationship_logits"] = self.contrast_head(pooled)
        return logits

    def score(
        self,
        masked_positions: Tensor | None = None,
        predicted_regions: Tensor | None = None,
        **batch: Tensor,
    ) -> Tensor:
        """Return the log-odds [batch] that text and image of each row belong together.

        Takes what `forward` takes; places to predict and targets are passed over.
        """
        inputs = {name: value for name, value in batch.items() if name not in TARGETS}
        logits = self.cls.seq_relationship(self.bert(**inputs).pooler_output)
        return log_odds(logits, self.config.match_class)

"""ViLBERT (Lu et al., NeurIPS 2019) and its multi-task form, 12-in-1 (Lu et al., CVPR 2020).

A BERT for the text and a second one for the regions, with connection layers in which each reads
the other's states. Region 0 stands for the whole image. Tensors are named as in the published
checkpoints; those of the layers are in `vilbert_layers`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from pretrain.kernels.counter_dropout import CountedDropout, Dropout, Places
from pretrain.models.attention import mask_bias
from pretrain.models.blocks import BlockShape
from pretrain.models.comparing import start_comparing
from pretrain.models.fused_regions import Embedded, Features, rows_of, streamed
from pretrain.models.heads import MaskedTokenHead, PredictionTransform, at_places
from pretrain.models.initial_weights import draw_as_bert
from pretrain.models.packed_rows import PackedStream
from pretrain.models.packing import Packing, seen
from pretrain.models.vilbert_config import ViLBertConfig
from pretrain.models.vilbert_layers import (
    RegionEmbeddings,
    ReluPooler,
    TextEmbeddings,
    TwoStreams,
    stream_places,
)
from pretrain.objectives import check_targets
from pretrain.objectives.matching import log_odds

INPUTS = frozenset(
    {
        "input_ids",
        "features",
        "locations",
        "token_type_ids",
        "attention_mask",
        "region_mask",
        "task_ids",
        "row_lengths",
    }
)
"""What `ViLBertModel` reads of a batch."""


class ViLBertPreTrainedModel(PreTrainedModel):
    """What both forms of ViLBERT share: configuration, prefix, initial values."""

    config_class = ViLBertConfig
    config: ViLBertConfig
    base_model_prefix = "bert"
    _input_embed_layer = "word_embeddings"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights from N(0, 0.02) in both streams, the padding token's row included."""
        draw_as_bert(module, self.config.initializer_range)


@dataclass
class ViLBertOutput(ModelOutput):
    """What the two streams say.

    text_states [batch, text, hidden], with a task's token in second place where the model has
    them; region_states [batch, 1 + regions, v_hidden], the whole image first; pooled_text and
    pooled_regions [batch, bi_hidden]; text_hidden_states and region_hidden_states: a stream's
    embeddings, then its states after each layer and each connection, in the order they run.
    """

    text_states: Tensor | None = None
    region_states: Tensor | None = None
    pooled_text: Tensor | None = None
    pooled_regions: Tensor | None = None
    text_hidden_states: tuple[Tensor, ...] | None = None
    region_hidden_states: tuple[Tensor, ...] | None = None


class ViLBertModel(ViLBertPreTrainedModel):
    """The network without prediction heads."""

    # A published folder holds the heads too.
    _keys_to_ignore_on_load_unexpected = [r"^cls\."]

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__(config)
        self.embeddings = TextEmbeddings(config)
        self.v_embeddings = RegionEmbeddings(config)
        self.encoder = TwoStreams(config)
        self.t_pooler = ReluPooler(config.hidden_size, config.bi_hidden_size)
        self.v_pooler = ReluPooler(config.v_hidden_size, config.bi_hidden_size)
        self.post_init()
        start_comparing(self.embeddings, self.encoder.layer, config.comparing_heads)

    def forward(
        self,
        input_ids: Tensor,
        features: Features,
        locations: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
        task_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        read: tuple[Tensor | None, Tensor | None] = (None, None),
        counted: CountedDropout | None = None,
    ) -> ViLBertOutput:
        """Read text and regions.

        input_ids, token_type_ids [batch, text]; features [batch, 1 + regions, 2048], the whole
        image's first; locations [batch, 1 + regions, 5]: x1/W, y1/H, x2/W, y2/H, share of the
        area; attention_mask [batch, text] and region_mask [batch, 1 + regions], 1 to see and 0 to
        mask, by default all is seen; task_ids [batch, 1], with `task_specific_tokens` and only
        then. The co-attention mask of the original has no effect there and is left out.
        row_lengths int64 [2, batch], tokens and regions of each row, the whole image among them:
        the rows are packed, all else has one row that holds them end to end, whole images before
        all regions, and no mask is given. The states then are in the order of the input, tasks
        behind all text. read: of packed rows the places of text and of regions whose last states
        alone are wanted. counted: what makes dropout a function of sample and token.
        """
        wants_tasks = self.config.task_specific_tokens
        if (task_ids is not None) is not wants_tasks:
            raise ValueError(f"task_ids: this model reads {'them' if wants_tasks else 'none'}")
        sizes = input_ids.shape[1], features.shape[1]
        places = stream_places(counted, *sizes, row_lengths, wants_tasks)
        seeing = self.v_embeddings(features, locations, places[1])
        if row_lengths is not None:
            streams = self._streams(row_lengths, *sizes, read, places)
            columns = streams[0].packing.first_columns
            text = self.embeddings(input_ids, token_type_ids, task_ids, columns, places[0])
            return self._packed(text, seeing, streams, output_hidden_states)
        regions = rows_of(seeing)
        states = self.embeddings(input_ids, token_type_ids, task_ids, places=places[0])
        if attention_mask is not None and wants_tasks:
            attention_mask = torch.cat([attention_mask[:, :1], attention_mask], dim=1)
        text_bias, region_bias = (
            None if mask is None else mask_bias(mask, states.dtype)
            for mask in (attention_mask, region_mask)
        )
        texts, images = self.encoder(
            states, seen(text_bias, places[0]), regions, seen(region_bias, places[1])
        )
        return ViLBertOutput(
            text_states=texts[-1],
            region_states=images[-1],
            pooled_text=self.t_pooler(texts[-1]),
            pooled_regions=self.v_pooler(images[-1]),
            text_hidden_states=tuple(texts) if output_hidden_states else None,
            region_hidden_states=tuple(images) if output_hidden_states else None,
        )

    def _streams(
        self,
        row_lengths: Tensor,
        text: int,
        regions: int,
        read: tuple[Tensor | None, ...],
        places: tuple[Places | None, Places | None],
    ) -> tuple[PackedStream, PackedStream]:
        """Return the streams of packed text, tasks behind it, and of whole images and regions."""
        words, looked_at = row_lengths
        ones, tasks = torch.ones_like(words), int(self.config.task_specific_tokens)
        texts, rows = torch.stack([words, ones * tasks]), len(words)
        images = torch.stack([ones, looked_at - 1])
        longest = self.config.max_seq_length + tasks, self.config.max_regions + 1
        of_text = Packing.of(texts, text, text + rows * tasks, longest[0])
        of_regions = Packing.of(images, rows, regions, longest[1])
        return (
            PackedStream(of_text.placed(places[0]), read[0]),
            PackedStream(of_regions.placed(places[1]), read[1]),
        )

    def _packed(
        self,
        text: Tensor,
        regions: Embedded,
        streams: tuple[PackedStream, PackedStream],
        output_hidden_states: bool,
    ) -> ViLBertOutput:
        """Return what the streams say of embedded packed text and regions."""
        of_text, of_regions = streams
        texts, images = self.encoder(
            of_text.packing.streamed(text),
            of_text.rows,
            streamed(of_regions.packing, None, regions),
            of_regions.rows,
            (of_text.asked, of_regions.asked),
        )
        starts, text_states = of_text.last(texts[-1])
        whole, region_states = of_regions.last(images[-1])
        return ViLBertOutput(
            text_states=text_states,
            region_states=region_states,
            pooled_text=self.t_pooler(starts),
            pooled_regions=self.v_pooler(whole),
            text_hidden_states=of_text.history(texts, output_hidden_states),
            region_hidden_states=of_regions.history(images, output_hidden_states),
        )


@dataclass
class ViLBertPreTrainingOutput(ModelOutput):
    """What the pretraining heads say.

    prediction_logits [masked, vocabulary], or [batch, text, vocabulary] where no positions were
    given; object_logits [predicted, 1601] and, with `feature_head`, feature_predictions
    [predicted, 2048], or [batch, 1 + regions, ..] where no regions were given; match_logits
    [batch, 2], class 0 for pairs that match; seq_relationship_logits [batch, 2 or 3], with
    `contrast_head` alone; pooler_output [batch, bi_hidden], both streams fused.
    masked_token_losses float32 [masked]: in training, where a kernel brings them in place of
    prediction_logits.
    """

    prediction_logits: Tensor | None = None
    masked_token_losses: Tensor | None = None
    object_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    match_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    pooler_output: Tensor | None = None
    text_hidden_states: tuple[Tensor, ...] | None = None
    region_hidden_states: tuple[Tensor, ...] | None = None


class RegionHead(nn.Module):
    """What is said of each region: BERT's transform in the visual width, and a decoder."""

    def __init__(self, shape: BlockShape, width: int) -> None:
        super().__init__()
        self.transform = PredictionTransform(shape)
        self.decoder = nn.Linear(shape.hidden, width)

    def forward(self, states: Tensor) -> Tensor:
        """Return [..., width] from [..., v_hidden]."""
        decoded: Tensor = self.decoder(self.transform(states))
        return decoded


class PreTrainingHeads(nn.Module):
    """The heads of pretraining: masked tokens, objects, matching, and two that are not ViLBERT's.

    `featurePredictions` regresses masked features, `contrast` is Oscar's.
    """

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__()
        vision = config.vision_shape()
        self.predictions = MaskedTokenHead(config.text_shape(), config.vocab_size)
        self.bi_seq_relationship = nn.Linear(config.bi_hidden_size, 2)
        self.imagePredictions = RegionHead(vision, config.v_target_size)
        self.featurePredictions = (
            RegionHead(vision, config.v_feature_size) if config.feature_head else None
        )
        self.contrast = (
            nn.Linear(config.bi_hidden_size, config.num_contrast_classes or 2)
            if config.contrast_head
            else None
        )
        self.dropout = Dropout(config.fusion_dropout_prob)
        self._multiplies = config.fusion_method == "mul"

    def fuse(
        self, pooled_text: Tensor, pooled_regions: Tensor, places: Places | None = None
    ) -> Tensor:
        """Return one state for the pair [batch, bi_hidden] from the pooled states."""
        fused = pooled_text * pooled_regions if self._multiplies else pooled_text + pooled_regions
        kept: Tensor = self.dropout(fused, places)
        return kept


class ViLBertForPreTraining(ViLBertPreTrainedModel):
    """ViLBERT with the heads of its pretraining."""

    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"
    }

    def __init__(self, config: ViLBertConfig) -> None:
        super().__init__(config)
        self.bert = ViLBertModel(config)
        self.cls = PreTrainingHeads(config)
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
        features: Features,
        locations: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
        task_ids: Tensor | None = None,
        masked_positions: Tensor | None = None,
        predicted_regions: Tensor | None = None,
        output_hidden_states: bool = False,
        row_lengths: Tensor | None = None,
        counted: CountedDropout | None = None,
        **targets: Tensor,
    ) -> ViLBertPreTrainingOutput:
        """Read a batch, as `ViLBertModel` does, and predict.

        masked_positions [masked]: places in the flattened text (row * text + column) that the
        masked-token head reads; predicted_regions [predicted]: places in the flattened regions
        (row * regions + column) that the region heads read. Neither counts a task's token or the
        whole image. Where they are missing, the heads read everything, those two included. A
        batch's targets may be passed along, `pretrain.objectives.compute` reads them.
        """
        check_targets(targets)
        whole = 1 if row_lengths is None else row_lengths.shape[1]  # whole images before regions
        read: tuple[Tensor | None, Tensor | None] = (None, None)
        if row_lengths is not None and not output_hidden_states:
            # The last layers of packed rows compute what the heads read and nothing else.
            seen = None if predicted_regions is None else whole + predicted_regions
            read = (masked_positions, seen)
        outputs = self.bert(
            input_ids,
            features,
            locations,
            token_type_ids,
            attention_mask,
            region_mask,
            task_ids,
            output_hidden_states=output_hidden_states,
            row_lengths=row_lengths,
            read=read,
            counted=counted,
        )
        text, regions = outputs.text_states, outputs.region_states
        if read[0] is not None:
            text = text[0]
        elif masked_positions is not None:
            if self.config.task_specific_tokens and row_lengths is None:
                text = torch.cat([text[:, :1], text[:, 2:]], dim=1)
            text = at_places(text, masked_positions)
        if read[1] is not None:
            regions = regions[0]
        elif predicted_regions is not None:
            regions = at_places(regions[:, whole:], predicted_regions)
        pairs = None if counted is None else counted.pairs()
        fused = self.cls.fuse(outputs.pooled_text, outputs.pooled_regions, pairs)
        feature_head, contrast = self.cls.featurePredictions, self.cls.contrast
        return ViLBertPreTrainingOutput(
            **self.cls.predictions.said(text, targets),
            object_logits=self.cls.imagePredictions(regions),
            feature_predictions=None if feature_head is None else feature_head(regions),
            match_logits=self.cls.bi_seq_relationship(fused),
            seq_relationship_logits=None if contrast is None else contrast(fused),
            pooler_output=fused,
            text_hidden_states=outputs.text_hidden_states,
            region_hidden_states=outputs.region_hidden_states,
        )

    def score(self, **batch: Tensor) -> Tensor:
        """Return the log-odds [batch] that text and image of each row belong together.

        Takes the inputs of `ViLBertModel` and passes over all else that a batch holds.
        """
        outputs = self.bert(**{name: batch[name] for name in INPUTS & batch.keys()})
        fused = self.cls.fuse(outputs.pooled_text, outputs.pooled_regions)
        return log_odds(self.cls.bi_seq_relationship(fused), self.config.match_class)

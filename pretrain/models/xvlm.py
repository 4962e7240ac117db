"""X-VLM (Zeng et al., "Multi-grained vision language pre-training", ICML 2022).

Swin reads the image, the lower half of a BERT the text, and its upper half fuses both. A region of
an image is its patches behind a mask, so each image is encoded once for all that is said about it.
Tensors are named as in the published checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from pretrain.models.hard_negatives import choose_negatives
from pretrain.models.heads import MaskedTokenHead, at_places
from pretrain.models.swin import Swin
from pretrain.models.xvlm_config import XvlmConfig
from pretrain.models.xvlm_encoders import Vision, XvlmPreTrainedModel, init_as_torch
from pretrain.models.xvlm_packed import fuse_pairs, read_texts, views
from pretrain.models.xvlm_text import XvlmTextEncoder
from pretrain.objectives import check_targets
from pretrain.objectives.matching import log_odds

TEMPERATURES = (0.001, 0.5)


@dataclass
class XvlmModelOutput(ModelOutput):
    """What the encoders say.

    last_hidden_state: fused text [batch, text, hidden]; text_hidden_states, fused_hidden_states:
    the input and the outputs of text and fusion layers; image_hidden_state: [batch, 1 + patches,
    vision width].
    """

    last_hidden_state: Tensor | None = None
    image_hidden_state: Tensor | None = None
    text_hidden_states: tuple[Tensor, ...] | None = None
    fused_hidden_states: tuple[Tensor, ...] | None = None


class XvlmModel(XvlmPreTrainedModel):
    """The three encoders without prediction heads."""

    # A published folder holds the heads too.
    _keys_to_ignore_on_load_unexpected = [
        r"^text_encoder\.cls\.",
        r"^(vision_proj|text_proj|itm_head|bbox_head)\.",
        r"^temp$",
    ]

    def __init__(self, config: XvlmConfig) -> None:
        super().__init__(config)
        self.vision_encoder = Swin(config.swin_shape())
        self.text_encoder = XvlmTextEncoder(config, heads=False)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        idx_to_group_img: Tensor | None = None,
        image_atts: Tensor | None = None,
    ) -> XvlmModelOutput:
        """Read images and texts; arguments as for `embed_images` and `embed_texts`."""
        image = self.embed_images(pixel_values, idx_to_group_img, image_atts)
        text = self.embed_texts(input_ids, attention_mask)
        fused = self.fuse(text[-1], attention_mask, image.states, image.mask)
        return XvlmModelOutput(
            last_hidden_state=fused[-1],
            image_hidden_state=image.states,
            text_hidden_states=tuple(text),
            fused_hidden_states=tuple(fused),
        )


@dataclass
class XvlmPreTrainingOutput(ModelOutput):
    """What the pretraining heads say.

    prediction_logits: [masked, vocabulary], or [batch, text, vocabulary] where no positions were
    given; image_embeds, text_embeds: [batch, 256] of unit length; temperature: []; match_logits:
    [batch, 2], class 1 for pairs that match; hard_match_logits: [3 * batch, 2], the pairs, each
    text with a wrong image, each image with a wrong text; box_predictions: [batch, 4], centre and
    size as shares of the image.
    masked_token_losses float32 [masked]: in training, where a kernel brings them in place of
    prediction_logits.
    """

    prediction_logits: Tensor | None = None
    masked_token_losses: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    temperature: Tensor | None = None
    match_logits: Tensor | None = None
    hard_match_logits: Tensor | None = None
    box_predictions: Tensor | None = None


def prediction_mlp(width: int, outputs: int) -> nn.Sequential:
    """Return the head of matching and boxes; its LayerNorm has torch's epsilon, 1e-5."""
    return nn.Sequential(
        nn.Linear(width, 2 * width),
        nn.LayerNorm(2 * width),
        nn.GELU(),
        nn.Linear(2 * width, outputs),
    )


class XvlmForPreTraining(XvlmPreTrainedModel):
    """X-VLM with the heads of its pretraining."""

    _tied_weights_keys = {
        "text_encoder.cls.predictions.decoder.weight": (
            "text_encoder.bert.embeddings.word_embeddings.weight"
        )
    }

    def __init__(self, config: XvlmConfig) -> None:
        super().__init__(config)
        self.vision_encoder = Swin(config.swin_shape())
        self.text_encoder = XvlmTextEncoder(config, heads=True)
        self.vision_proj = nn.Linear(config.vision_width, config.embed_dim)
        self.text_proj = nn.Linear(config.hidden_size, config.embed_dim)
        self.temp = nn.Parameter(torch.ones([]) * config.temperature)
        self.itm_head = prediction_mlp(config.hidden_size, 2)
        self.bbox_head = prediction_mlp(config.hidden_size, 4)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights; the heads' are torch's own, as in the original."""
        super()._init_weights(module)
        if module is self:
            init.constant_(self.temp, self.config.temperature)
            for head in (self.vision_proj, self.text_proj, self.itm_head, self.bbox_head):
                for part in head.modules():
                    if isinstance(part, nn.Linear):
                        init_as_torch(part)

    def network(self) -> XvlmModel:
        """Return the network without prediction heads, on the same weights.

        The published names have no prefix for it, so transformers' `base_model` does not find it.
        """
        with torch.device("meta"):
            network = XvlmModel(self.config)
        network.vision_encoder, network.text_encoder = self.vision_encoder, self.text_encoder
        return network

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder of the masked-token head, which is tied to the word table."""
        return self._masked_token_head().decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another decoder in place."""
        self._masked_token_head().decoder = new_embeddings  # type: ignore[assignment]

    def _masked_token_head(self) -> MaskedTokenHead:
        assert self.text_encoder.cls is not None
        return self.text_encoder.cls.predictions

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        idx_to_group_img: Tensor | None = None,
        image_atts: Tensor | None = None,
        masked_input_ids: Tensor | None = None,
        masked_positions: Tensor | None = None,
        negative_draws: Tensor | None = None,
        match_groups: Tensor | None = None,
        row_lengths: Tensor | None = None,
        **targets: Tensor,
    ) -> XvlmPreTrainingOutput:
        """Read a batch and predict.

        pixel_values, idx_to_group_img, image_atts: as `embed_images` takes them; input_ids,
        attention_mask [batch, text]; masked_input_ids [batch, text]: the text for the masked-token
        head, which has a pass of its own; masked_positions [masked]: places in the flattened text
        (row * text length + column) that this head reads, nothing: all of them; negative_draws
        [batch, 2], in [0, 1): chooses a wrong image and a wrong text for each row, weighted by
        likeness; match_groups int64 [batch]: rows of one group are no negatives of each other.
        row_lengths int64 [1, batch], tokens of each row: the texts are packed, their ids have one
        row that holds them end to end, and no mask is given. A batch's targets may be passed along,
        `pretrain.objectives.compute` reads them.
        """
        check_targets(targets)
        with torch.no_grad():
            self.temp.clamp_(*TEMPERATURES)
        image = self.embed_images(pixel_values, idx_to_group_img, image_atts)
        if row_lengths is not None:
            copies = [input_ids] if masked_input_ids is None else [input_ids, masked_input_ids]
            return self._packed(
                image,
                copies,
                row_lengths[0],
                masked_positions,
                negative_draws,
                match_groups,
                targets,
            )
        text = self.embed_texts(input_ids, attention_mask)[-1]
        image_embeds, text_embeds = self.project(image.states, text)
        first = self.fuse_first(text, attention_mask, image.states, image.mask)
        right: Tensor = self.itm_head(first)
        outputs = XvlmPreTrainingOutput(
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            temperature=self.temp,
            match_logits=right,
            box_predictions=self._boxes(first, text, attention_mask, image),
        )
        if negative_draws is not None:
            chosen = self._negatives(image_embeds, text_embeds, negative_draws, match_groups)
            wrong = self._match_wrong(text, attention_mask, image, *chosen)
            outputs["hard_match_logits"] = torch.cat([right, wrong])
        if masked_input_ids is not None:
            states = self._masked_states(masked_input_ids, attention_mask, image, masked_positions)
            for name, value in self._masked_token_head().said(states, targets).items():
                outputs[name] = value
        return outputs

    def _packed(
        self,
        image: Vision,
        copies: list[Tensor],
        lengths: Tensor,
        masked_positions: Tensor | None,
        negative_draws: Tensor | None,
        match_groups: Tensor | None,
        targets: Mapping[str, Tensor],
    ) -> XvlmPreTrainingOutput:
        """Predict from packed texts: ids [1, text], and where they are there the masked ones.

        Without places the masked-token head reads all tokens.
        """
        texts = read_texts(self.text_encoder.bert, copies, lengths, self.config.max_seq_length)
        batch = len(lengths)
        image_embeds, text_embeds = self.project(image.states, texts.first[:batch])
        own = torch.arange(batch, device=lengths.device)
        pairs = {"right": (own, own)}
        if negative_draws is not None:
            chosen = self._negatives(image_embeds, text_embeds, negative_draws, match_groups)
            pairs["wrong image"], pairs["wrong text"] = (own, chosen[0]), (chosen[1], own)
        if image.mask is not None:
            pairs["whole image"] = (own, batch + (own if image.image is None else image.image))
        masked = own[:0]
        if len(copies) > 1:
            pairs["masked"] = (batch + own, own)
            every = torch.arange(copies[1].shape[1], device=lengths.device)
            masked = every if masked_positions is None else masked_positions
        encoder = self.text_encoder.bert.encoder
        firsts, states = fuse_pairs(encoder, texts, views(image), list(pairs.values()), masked)
        first = dict(zip(pairs, firsts, strict=True))
        right: Tensor = self.itm_head(first["right"])
        outputs = XvlmPreTrainingOutput(
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            temperature=self.temp,
            match_logits=right,
            box_predictions=self.bbox_head(first.get("whole image", first["right"])).sigmoid(),
        )
        if negative_draws is not None:
            wrong = self.itm_head(torch.cat([first["wrong image"], first["wrong text"]]))
            outputs["hard_match_logits"] = torch.cat([right, wrong])
        if "masked" in pairs:
            for name, value in self._masked_token_head().said(states, targets).items():
                outputs[name] = value
        return outputs

    def project(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of unit length [batch, 256] that contrast compares.

        image [batch, 1 + patches, vision width], text [batch, text, hidden]: encoders' outputs.
        """
        return (
            functional.normalize(self.vision_proj(image[:, 0]), dim=-1),
            functional.normalize(self.text_proj(text[:, 0]), dim=-1),
        )

    def score(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        idx_to_group_img: Tensor | None = None,
    ) -> Tensor:
        """Return the log-odds [batch] that image and text of each row belong together.

        By the matching head; `similarity` is the cheaper first stage of the published retrieval.
        """
        image = self.embed_images(pixel_values, idx_to_group_img)
        text = self.embed_texts(input_ids, attention_mask)[-1]
        return self.match(text, attention_mask, image.states)

    def match(self, text: Tensor, attention_mask: Tensor | None, image: Tensor) -> Tensor:
        """Return the log-odds [batch] of text states and image states that are there already."""
        logits = self.itm_head(self.fuse_first(text, attention_mask, image, None))
        return log_odds(logits, self.config.match_class)

    def similarity(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Return the contrast's logits [images, texts]: cosine / temperature of every pair."""
        image = self.embed_images(pixel_values).states
        text = self.embed_texts(input_ids, attention_mask)[-1]
        images, texts = self.project(image, text)
        return images @ texts.t() / self.temp

    def _boxes(
        self, first: Tensor, text: Tensor, attention_mask: Tensor | None, image: Vision
    ) -> Tensor:
        """Return where in the whole image each text's object is: [batch, 4].

        first [batch, hidden]: [CLS] fused with the region; without a mask, that is the whole image.
        """
        if image.mask is not None:
            first = self.fuse_first(text, attention_mask, image.whole, None)
        boxes: Tensor = self.bbox_head(first).sigmoid()
        return boxes

    @torch.no_grad()
    def _negatives(
        self, images: Tensor, texts: Tensor, draws: Tensor, groups: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return a wrong image for each text and a wrong text for each image: int64 [batch] both.

        Likely mistakes come more often: weights are softmax(similarity / temperature) + 1e-5.
        """
        if images.shape[0] < 2:
            raise ValueError("hard negatives need a batch of two samples at least")
        likeness = images.float() @ texts.float().t() / self.temp.float()
        same = torch.eye(len(images), dtype=torch.bool, device=images.device)
        if groups is not None:
            same = groups[:, None] == groups[None, :]
        wrong_images = choose_negatives(likeness.t(), same, draws[:, 0])
        return wrong_images, choose_negatives(likeness, same, draws[:, 1])

    def _match_wrong(
        self,
        text: Tensor,
        attention_mask: Tensor | None,
        image: Vision,
        wrong_images: Tensor,
        wrong_texts: Tensor,
    ) -> Tensor:
        """Return the match logits of texts with wrong images, then of images with wrong texts."""
        own = torch.arange(len(text), device=text.device)
        texts, images = torch.cat([own, wrong_texts]), torch.cat([wrong_images, own])
        mask = None if attention_mask is None else attention_mask[texts]
        shown = image.rows(images)
        logits: Tensor = self.itm_head(self.fuse_first(text[texts], mask, shown.states, shown.mask))
        return logits

    def _masked_states(
        self, ids: Tensor, attention_mask: Tensor | None, image: Vision, positions: Tensor | None
    ) -> Tensor:
        """Return the last states of masked tokens [masked, hidden]."""
        text = self.embed_texts(ids, attention_mask)[-1]
        return at_places(self.fuse(text, attention_mask, image.states, image.mask)[-1], positions)

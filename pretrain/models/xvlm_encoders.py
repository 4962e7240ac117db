"""The encoders of X-VLM, how they are called, and where their weights start."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from pretrain.models.attention import mask_bias
from pretrain.models.swin import (
    Block,
    Swin,
    WindowAttention,
    position_index,
    pseudo_start,
    shift_mask,
)
from pretrain.models.xvlm_config import XvlmConfig
from pretrain.models.xvlm_text import XvlmTextEncoder, patch_bias


@dataclass
class Vision:
    """What the vision encoder says of each row of a batch.

    states [batch, 1 + patches, width]: the mean of the visible patches and all patches; mask
    [batch, 1 + patches]: 1 where they are visible, nothing: everywhere; images [images, 1 +
    patches, width]: of each image the mean of all patches and all patches; image int64 [batch]:
    which of them a row shows, nothing: one row each.
    """

    states: Tensor
    mask: Tensor | None
    images: Tensor
    image: Tensor | None

    @property
    def whole(self) -> Tensor:
        """The whole image of each row: [batch, 1 + patches, width]."""
        return self.images if self.image is None else self.images[self.image]

    def rows(self, numbers: Tensor) -> "Vision":
        """Return the rows `numbers`."""
        mask = None if self.mask is None else self.mask[numbers]
        image = numbers if self.image is None else self.image[numbers]
        return Vision(self.states[numbers], mask, self.images, image)


class XvlmPreTrainedModel(PreTrainedModel):
    """What both forms of X-VLM share: the encoders, how they are called, and initial values."""

    config_class = XvlmConfig
    config: XvlmConfig
    base_model_prefix = "xvlm"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    vision_encoder: Swin
    text_encoder: XvlmTextEncoder

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights as the original does before it loads Swin and BERT.

        N(0, 0.02), the row of the padding token included; the original cuts Swin's at 2.0, a
        hundred deviations away. The projection of the patches: torch's own.
        """
        if isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
        elif isinstance(module, WindowAttention):
            table = module.relative_position_bias_table
            init.normal_(table, std=self.config.initializer_range)
            init.copy_(module.relative_position_index, position_index(module.window))
        elif isinstance(module, Block) and module.attn_mask is not None:
            init.copy_(module.attn_mask, shift_mask(module.side, module.window, module.shift))
        if isinstance(module, nn.Conv2d):
            init_as_torch(module)
        elif isinstance(bias := getattr(module, "bias", None), Tensor):
            init.zeros_(bias)

    def get_input_embeddings(self) -> nn.Module:
        """Return the word table."""
        return self.text_encoder.bert.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another word table in place."""
        self.text_encoder.bert.embeddings.word_embeddings = value  # type: ignore[assignment]

    def embed_images(
        self,
        pixel_values: Tensor,
        idx_to_group_img: Tensor | None = None,
        image_atts: Tensor | None = None,
    ) -> Vision:
        """Return what Swin says of the image of each row, or of a region of it.

        pixel_values [images, 3, side, side]; idx_to_group_img int64 [batch]: the image of each row,
        nothing: one row each; image_atts [batch, 1 + patches]: 1 for the patches of the region and
        for index 0, nothing: whole images.
        """
        images = pseudo_start(self.vision_encoder(pixel_values))
        states = images if idx_to_group_img is None else images[idx_to_group_img]
        if image_atts is not None:
            states = pseudo_start(states[:, 1:], image_atts[:, 1:])
        return Vision(states, image_atts, images, idx_to_group_img)

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> list[Tensor]:
        """Return embedded tokens and the output of each text layer, all [batch, text, hidden]."""
        bert = self.text_encoder.bert
        return bert.encoder.read(bert.embeddings(input_ids), self._text_bias(attention_mask))

    def fuse(
        self, text: Tensor, attention_mask: Tensor | None, image: Tensor, mask: Tensor | None
    ) -> list[Tensor]:
        """Return text states [batch, text, hidden] and the output of each fusion layer.

        image, mask: states and mask of `Vision`.
        """
        return self.text_encoder.bert.encoder.fuse(
            text, self._text_bias(attention_mask), image, self._patch_bias(mask)
        )

    def fuse_first(
        self, text: Tensor, attention_mask: Tensor | None, image: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return the state of [CLS] alone after `fuse`, the same numbers: [batch, hidden]."""
        return self.text_encoder.bert.encoder.fuse_first(
            text, self._text_bias(attention_mask), image, self._patch_bias(mask)
        )

    def _text_bias(self, mask: Tensor | None) -> Tensor | None:
        return None if mask is None else mask_bias(mask, self.dtype)

    def _patch_bias(self, mask: Tensor | None) -> Tensor | None:
        return patch_bias(mask, self.config.cross_mask_score, self.dtype)


def init_as_torch(layer: nn.Linear | nn.Conv2d) -> None:
    """Draw what torch draws for a new layer (He et al., 2015, with a = sqrt(5))."""
    init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
    if layer.bias is not None:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        init.uniform_(layer.bias, -bound, bound)

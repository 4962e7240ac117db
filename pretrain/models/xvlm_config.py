"""The configuration of X-VLM."""

from dataclasses import field
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from pretrain.models.blocks import BlockShape
from pretrain.models.configuration import check_size, check_text_length, made
from pretrain.models.swin import SwinShape

Quirk = Literal["as_published", "sound"]

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "fusion_layer": 2,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "max_position_embeddings": 128,
        "embed_dim": 64,
        "image_size": 128,
        "patch_size": 8,
        "vision_embed_dim": 64,
        "vision_depths": [1, 2, 1],
        "vision_heads": [2, 4, 8],
        "window_size": 4,
        "drop_path_rate": 0.0,
    },
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 18,
        "fusion_layer": 12,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "vision_embed_dim": 192,
        "vision_heads": [6, 12, 24, 48],
    },
}


@strict
class XvlmConfig(PreTrainedConfig):
    """Sizes of the three encoders, the form of their inputs, and how pretraining corrupts them.

    The defaults are X-VLM base as trained on 4M images; on 16M, `max_seq_length` and `max_words`
    are 30 and `max_masks` is 6. At 384 and 480 pixels `window_size` is 12 and 15.
    """

    model_type = "trawl-xvlm"

    match_class: ClassVar[int] = 1
    """Class of the match logits for a text and an image that belong together."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    """Layers of the text encoder and the cross encoder together."""
    fusion_layer: int = 6
    """The first layer of the cross encoder, which looks at the image; those before read text."""
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    cross_mask_score: float | int = -1e9
    """What is added to the scores of patches outside the region. The original takes it from
    transformers: -1e9 in float32 under the version 4.12.5 that it asks for, -1e4 in float16,
    the least number of the type in later versions. Index 0 is never masked, so all agree."""

    image_size: int = 224
    """Side of the square that images are resized to, in pixels."""
    patch_size: int = 4
    vision_embed_dim: int = 128
    """Width of Swin's first stage; each of the others doubles it."""
    vision_depths: list[int] = field(default_factory=lambda: [2, 2, 18, 2])
    vision_heads: list[int] = field(default_factory=lambda: [4, 8, 16, 32])
    window_size: int = 7
    vision_mlp_ratio: float | int = 4.0
    drop_path_rate: float | int = 0.1
    """Chance that the last block's halves are left out; it rises from 0 at the first block."""

    embed_dim: int = 256
    """Width of the vectors that image-text contrast compares."""
    temperature: float = 0.07
    """Where the learned temperature starts."""

    max_seq_length: int = 40
    """Tokens of a text, [CLS] included."""
    max_words: int = 40
    """Words of a text that are kept before it is tokenised."""
    text_end: Quirk = "as_published"
    """as_published: a pretraining text ends without [SEP], a fine-tuned model then sees one; sound:
    with [SEP], as BERT was trained."""
    mask_probability: float = 0.25
    """Share of the tokens that are masked."""
    max_masks: int = 8
    """Most tokens of a text that are masked."""
    span_probability: float = 0.2
    """Chance that a visited place starts a span instead of standing alone."""
    span_size: int = 3
    """Most tokens of a span before it is extended to whole words."""

    region_share: float = 1 / 3
    """Share of the micro-batches that are made of regions, where bbox is learned. Published: half
    of the image-text batches have a region batch before them, an update of its own that the
    schedule does not count; here it is one of the counted micro-batches."""
    region_images: float = 0.375
    """Images of a region batch, as a share of its rows (48 of 128)."""
    max_regions_per_image: int = 5
    """Most concepts of an image in a region batch, the caption of the whole image included."""
    least_crop: float = 0.2
    """Least share of an image's area that a random crop keeps, in batches of images."""
    augmentations: int = 2
    """Operations of RandAugment that an image goes through."""
    least_area: float = 0.5
    """A region stays if more than this share of its area lies inside the crop."""
    region_padding: Quirk = "as_published"
    """A region batch with fewer concepts than rows repeats some. as_published: a repeated one
    counts as a wrong answer to its twin; sound: twins are named in `match_groups`, and are right
    answers to each other."""
    flips: Quirk = "as_published"
    """as_published: half of the images are mirrored, whatever their texts say; sound: not those
    with "left" or "right" in a text."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse what no input can have."""
        check_text_length(self.max_seq_length, self.max_position_embeddings)
        if not 0 <= self.fusion_layer < self.num_hidden_layers:
            raise ValueError(
                f"fusion_layer {self.fusion_layer} is not among the {self.num_hidden_layers} layers"
            )
        super().__post_init__(**kwargs)
        self.swin_shape()

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "XvlmConfig":
        """Return the configuration called `size`, with single values changed.

        Raises RequestError for an unknown size or key and for a value of the wrong kind.
        """
        check_size(cls, "X-VLM", SIZES, size, changes)
        return made(cls, {**SIZES[size], **changes})

    def objectives(self) -> dict[str, str | None]:
        """Return each objective of X-VLM with None: all heads are always there."""
        return {"itc": None, "itm-hard": None, "mlm": None, "bbox": None}

    @property
    def vision_width(self) -> int:
        """Width of the patches that Swin returns."""
        return self.swin_shape().width

    @property
    def patch_grid(self) -> int:
        """Patches along one side of the image, after Swin has merged them."""
        return self.swin_shape().grid

    @property
    def longest_sample(self) -> int:
        """Tokens and patches of the longest sample."""
        return self.max_seq_length + self.patch_grid**2 + 1

    def swin_shape(self) -> SwinShape:
        """Return the shape of the vision encoder."""
        return SwinShape(
            image=self.image_size,
            patch=self.patch_size,
            embed=self.vision_embed_dim,
            depths=tuple(self.vision_depths),
            heads=tuple(self.vision_heads),
            window=self.window_size,
            mlp_ratio=self.vision_mlp_ratio,
            drop_path=self.drop_path_rate,
            attention=self._attn_implementation,
        )

    def block_shape(self) -> BlockShape:
        """Return the shape of the layers of text and cross encoder."""
        return BlockShape(
            hidden=self.hidden_size,
            heads=self.num_attention_heads,
            intermediate=self.intermediate_size,
            dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob,
            norm_epsilon=self.layer_norm_eps,
            attention=self._attn_implementation,
        )

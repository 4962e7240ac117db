"""The configuration of ImageBERT (Qi et al., 2020)."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from pretrain.models.blocks import BlockShape
from pretrain.models.configuration import check_size, made

SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "max_position_embeddings": 128,
    },
    "base": {},
}


@strict
class ImageBertConfig(PreTrainedConfig):
    """Sizes of the network, the form of its inputs, and how its pretraining corrupts them.

    The defaults are the paper's. It gives no width of the regions' features, no order of text and
    regions and no number for the position that all regions share: 2048, text first and the last
    position, which no text reaches, are ours.
    """

    model_type = "trawl-imagebert"
    match_class: ClassVar[int] = 1
    """The label of a pair that belongs together; there is one logit, the log-odds of it."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    """Segments: 0 is text, 1 is regions."""
    initializer_range: float = 0.02
    comparing_heads: int = 0
    """Attention heads of each text layer that start by finding equal tokens while the others
    average; 0: all start at random, as published. For a small network without BERT's weights."""
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    img_feature_dim: int = 2048
    """Size of a region's feature, which is also what its regression head predicts."""
    object_classes: int = 1600
    """Classes of the head that names masked regions; the detector may name fewer."""
    visual_position: int | None = None
    """Position that all regions share; nothing: the last one."""
    block_order: Literal["text-first", "regions-first"] = "text-first"
    """Which comes first in the encoder's sequence; the order changes no state."""

    max_seq_length: int = 44
    """Tokens of the text, [CLS], [SEP] and tags included."""
    max_regions: int = 100
    """Regions of an image that are read, those of highest confidence."""

    tags: bool = False
    """Put the detected objects' names behind the text, as Oscar does; published: no tags."""
    tag_confidence: float | int = 0.2
    """Least confidence of a region whose object becomes a tag."""
    tag_attributes: bool = False
    """Put each region's attribute before its object in the tags ("red umbrella")."""

    mask_probability: float | int = 0.15
    """Share of the tokens that are masked."""
    mask_unit: Literal["token", "whole-word", "span"] = "token"
    """What is masked together: a token, as published; all pieces of a word; or whole words and now
    and then two or three in a row, as X-VLM does."""
    region_mask_probability: float | int = 0.15
    """Share of the regions that are masked: of those 90% become zero, the rest stay."""
    conditional_masking: bool = True
    """Predict masked tokens and regions of pairs that belong together alone, as published."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest, and refuse what no input can have."""
        if self.visual_position is None:
            self.visual_position = self.max_position_embeddings - 1
        longest = max(self.max_seq_length, self.visual_position + 1)
        if longest > self.max_position_embeddings:
            raise ValueError(
                f"max_seq_length {self.max_seq_length} and visual_position {self.visual_position} "
                f"need {longest} positions, max_position_embeddings is "
                f"{self.max_position_embeddings}"
            )
        super().__post_init__(**kwargs)

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "ImageBertConfig":
        """Return the configuration called `size`, with single values changed.

        Raises RequestError for an unknown size or key and for a value of the wrong kind.
        """
        check_size(cls, "ImageBERT", SIZES, size, changes)
        return made(cls, {**SIZES[size], **changes})

    @property
    def longest_sample(self) -> int:
        """Tokens and regions of the longest sample that the model takes."""
        return self.max_seq_length + self.max_regions

    def objectives(self) -> dict[str, str | None]:
        """Return each objective of ImageBERT; all heads are always there."""
        names = ("mlm", "moc", "moc-kl", "moc-confidence", "mrfr", "mrfr-smooth-l1", "itm")
        return dict.fromkeys(names)

    def block_shape(self) -> BlockShape:
        """Return the shape of the layers."""
        return BlockShape(
            hidden=self.hidden_size,
            heads=self.num_attention_heads,
            intermediate=self.intermediate_size,
            dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob,
            norm_epsilon=self.layer_norm_eps,
            attention=self._attn_implementation,
        )

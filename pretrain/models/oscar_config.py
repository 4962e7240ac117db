"""The configuration of Oscar and Oscar+ (VinVL)."""

from dataclasses import fields
from typing import Any

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig

from pretrain.batches.pollute import contrast_classes
from pretrain.models.blocks import BlockShape
from trawl.errors import RequestError

SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "max_position_embeddings": 128,
    },
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}


@strict
class OscarConfig(PreTrainedConfig):
    """Sizes of the network, the form of its inputs, and how its pretraining corrupts them.

    The defaults are Oscar's base size; Oscar+ has `use_img_layernorm` and `texta_false_prob` 0.25.
    Names that Oscar's own config.json has are kept. The form of the inputs is stored with the
    weights, because a consumer needs it as much as the trainer does.
    """

    model_type = "trawl-oscar"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    comparing_heads: int = 0
    """Attention heads of each layer that start by finding equal tokens while the others average;
    0: all start at random, as published. For a small network without BERT's weights."""
    layer_norm_eps: float = 1e-12
    img_layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    img_feature_dim: int = 2054
    """Size of a region's vector: the detector's feature and six numbers of geometry."""
    img_feature_type: str = "faster_r-cnn"
    """Kind of region features; this one alone is known."""
    use_img_layernorm: bool = False
    """Normalise the projected regions; Oscar+ does."""
    num_contrast_classes: int | None = None
    """Classes of the contrast head; nothing: 3 if captions are polluted too, else 2."""
    match_head: bool = False
    """Add a head that says whether caption and image belong together, class 1 if they do."""

    max_seq_length: int = 35
    """Tokens of caption and tags together, [CLS] and two [SEP] included."""
    max_regions: int = 50
    """Regions of an image that are read, in stored order."""
    tag_confidence: float | int = 0.2
    """Least confidence of a region whose object becomes a tag."""
    tag_attributes: bool = False
    """Put each region's attribute before its object in the tags ("red umbrella")."""

    mask_probability: float = 0.15
    """Share of the tokens that are masked."""
    texta_false_prob: float | int = 0.0
    """Share of the samples whose caption is another image's; half of the samples stay clean, the
    rest get another image's tags. Oscar 0, Oscar+ 0.25."""
    mask_loss_for_unmatched: bool = True
    """Predict masked tokens of polluted tags too, as published."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest, and refuse what no input can have."""
        if self.num_contrast_classes is None:
            self.num_contrast_classes = contrast_classes(self.texta_false_prob)
        if self.max_seq_length > self.max_position_embeddings:
            raise ValueError(
                f"max_seq_length {self.max_seq_length} is more than "
                f"max_position_embeddings {self.max_position_embeddings}"
            )
        super().__post_init__(**kwargs)

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "OscarConfig":
        """Return the configuration called `size`, with single values changed.

        Raises RequestError for an unknown size or key and for a value of the wrong kind.
        """
        if size not in SIZES:
            raise RequestError(f"model.size: Oscar has no size {size}; take {', '.join(SIZES)}")
        known = {field.name for field in fields(cls)}
        for key in changes:
            if key not in known:
                raise RequestError(f"model.config: unknown key {key}; see OscarConfig")
        try:
            return cls(**{**SIZES[size], **changes})
        except (StrictDataclassError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RequestError(f"model.config: {reason}") from error

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

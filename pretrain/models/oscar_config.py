"""The configuration of Oscar and Oscar+ (VinVL)."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from pretrain.batches.pollute import contrast_classes
from pretrain.models.blocks import BlockShape
from pretrain.models.configuration import check_size, check_text_length, made

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
    match_class: ClassVar[int] = 1
    """Class of the match head for a pair that belongs together; the contrast head says it by 0."""

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
    object_classes: int = 0
    """Classes of an added head that names masked regions, as ImageBERT has it; 0: no such head."""
    feature_head: bool = False
    """Add a head that predicts the features of masked regions, as ImageBERT has it."""

    max_seq_length: int = 35
    """Tokens of caption and tags together, [CLS] and two [SEP] included."""
    max_regions: int = 50
    """Regions of an image that are read, in stored order."""
    tag_confidence: float | int = 0.2
    """Least confidence of a region whose object becomes a tag."""
    tag_attributes: bool = False
    """Put each region's attribute before its object in the tags ("red umbrella")."""
    tag_source: Literal["detector", "annotated", "none"] = "detector"
    """Where tags come from: what the detector saw; region phrases that people wrote, where a
    sample has any, as `use_gtlabels` of the released code; or nowhere: captions alone."""
    use_questions: bool = False
    """Take questions with their answers as further pairs of caption and tags, each as likely as a
    caption; Oscar+ does, in its corpora for question answering."""

    mask_probability: float | int = 0.15
    """Share of the tokens that are masked."""
    mask_unit: Literal["token", "whole-word", "span"] = "token"
    """What is masked together: a token, as published; all pieces of a word; or whole words and now
    and then two or three in a row, as X-VLM does."""
    region_mask_probability: float | int = 0.15
    """Share of the regions that are masked, for the objectives about regions alone."""
    texta_false_prob: float | int = 0.0
    """Share of the samples whose caption is another image's; half of the samples stay clean, the
    rest get another image's tags. Oscar 0, Oscar+ 0.25."""
    textb_sample_mode: Literal[0, 1, 2] = 1
    """Where wrong tags come from, numbered as in the released code: another pair's tags or
    caption (0), its tags or answer (1, Oscar+), or the answer to another question (2)."""
    mask_loss_for_unmatched: bool = True
    """Predict masked tokens of polluted pairs too, as published."""
    unmatched_masking: Literal["as_published", "sound"] = "as_published"
    """Without that loss: `as_published` leaves wrong tags unmasked, which gives them away, and
    still predicts wrong captions; `sound` masks all alike and predicts neither."""
    conditional_masking: bool = False
    """Predict masked tokens and regions of clean pairs alone, as ImageBERT does."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest, and refuse what no input can have."""
        if self.num_contrast_classes is None:
            tags_used = self.tag_source != "none"
            self.num_contrast_classes = contrast_classes(self.texta_false_prob, tags_used)
        check_text_length(self.max_seq_length, self.max_position_embeddings)
        super().__post_init__(**kwargs)

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "OscarConfig":
        """Return the configuration called `size`, with single values changed.

        Raises RequestError for an unknown size or key and for a value of the wrong kind.
        """
        check_size(cls, "Oscar", SIZES, size, changes)
        return made(cls, {**SIZES[size], **changes})

    @property
    def longest_sample(self) -> int:
        """Tokens and regions of the longest sample that the model takes."""
        return self.max_seq_length + self.max_regions

    def objectives(self) -> dict[str, str | None]:
        """Return each objective of Oscar: None if its head is there, else what to set for it."""
        match = None if self.match_head else "set model.config.match_head to true"
        classes = None if self.object_classes else "set model.config.object_classes to their count"
        features = None if self.feature_head else "set model.config.feature_head to true"
        return {
            "mlm": None,
            "contrast": None,
            "itm": match,
            "moc": classes,
            "moc-kl": classes,
            "moc-confidence": classes,
            "mrfr": features,
            "mrfr-smooth-l1": features,
        }

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

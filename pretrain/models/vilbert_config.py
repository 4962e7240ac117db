"""The configuration of ViLBERT and of its multi-task successor (12-in-1)."""

from dataclasses import field
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from pretrain.batches.pollute import contrast_classes
from pretrain.models.blocks import BlockShape
from pretrain.models.configuration import check_size, check_text_length, made

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "max_position_embeddings": 128,
        "v_hidden_size": 128,
        "v_num_hidden_layers": 2,
        "v_num_attention_heads": 4,
        "v_intermediate_size": 128,
        "bi_hidden_size": 128,
        "bi_num_attention_heads": 4,
        "v_biattention_id": [0, 1],
        "t_biattention_id": [1, 2],
    },
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "t_biattention_id": [18, 19, 20, 21, 22, 23],
    },
}


@strict
class ViLBertConfig(PreTrainedConfig):
    """Sizes of the two streams, the form of their inputs, and how pretraining corrupts them.

    The defaults are the published model with six connection layers (bert_base_6layer_6conect), and
    the names that its config.json has are kept: `v_` is the visual stream, `bi_` and
    `_biattention_id` are the connection layers. Whatever has the value "as_published" does what
    vilbert_beta does.
    """

    model_type = "trawl-vilbert"

    match_class: ClassVar[int] = 0
    """Class of `match_logits` for a caption and an image that belong together, as published."""

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
    """Attention heads of each text layer that start by finding equal tokens while the others
    average; 0: all start at random, as published. For a small network without BERT's weights."""
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    v_feature_size: int = 2048
    """Size of a region's feature."""
    v_target_size: int = 1601
    """Classes of a region: those of the detector, after one for the background."""
    v_hidden_size: int = 1024
    v_num_hidden_layers: int = 6
    v_num_attention_heads: int = 8
    v_intermediate_size: int = 1024
    v_hidden_dropout_prob: float | int = 0.1
    v_attention_probs_dropout_prob: float | int = 0.1
    bi_hidden_size: int = 1024
    bi_num_attention_heads: int = 8
    v_biattention_id: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4, 5])
    """Before which visual layer each connection layer runs."""
    t_biattention_id: list[int] = field(default_factory=lambda: [6, 7, 8, 9, 10, 11])
    """Before which text layer each connection layer runs."""
    fusion_method: Literal["mul", "sum"] = "mul"
    """How the two pooled states become one."""
    fusion_dropout_prob: float | int = 0.1
    """Dropout on the fused state; the original has 0.1 in its code."""
    task_specific_tokens: bool = False
    """Put a task's token behind [CLS], as multi-task training does (20 tasks)."""
    task: int = 0
    """The task whose token the batches name; read with `task_specific_tokens` alone."""
    feature_head: bool = False
    """Add a head that predicts the features of masked regions. mrfr at weight 1/2048 is the
    `--visual_target 1` of the multi-task code, which takes the mean over a feature."""
    contrast_head: bool = False
    """Add Oscar's head for polluted tags and captions."""
    num_contrast_classes: int | None = None
    """Classes of the contrast head; nothing: 3 if captions are polluted too, else 2."""

    max_seq_length: int = 36
    """Tokens of the text, [CLS] and [SEP] included and a task's token not."""
    max_regions: int = 36
    """Regions of an image that are read, in stored order, besides the whole image's."""
    tags: bool = False
    """Read the detector's tags after the caption, as segment 1."""
    tag_confidence: float | int = 0.2
    """Least confidence of a region whose object becomes a tag."""
    tag_attributes: bool = False
    """Put each region's attribute before its object in the tags ("red umbrella")."""

    mask_probability: float = 0.15
    """Share of the tokens that are masked."""
    mask_unit: Literal["token", "whole-word", "span"] = "token"
    """What is masked at once: single tokens as published, words, or spans of words as in X-VLM."""
    region_mask_probability: float = 0.15
    """Share of the regions that are masked: 90% become zero, 10% stay as they are."""
    texta_false_prob: float | int = 0.0
    """With the contrast: share of the samples whose caption, not tags, is another image's."""
    mask_loss_for_unmatched: bool = True
    """Predict masked tokens and regions of mismatched pairs too: vilbert_beta does, the multi-task
    code with its `--objective 1` does not."""
    random_caption: Literal["as_published", "sound"] = "as_published"
    """Where a mismatched caption comes from. as_published: evenly from all samples, so it may be
    the image's own, called a mismatch all the same. sound: from another sample, drawn again while
    its text is the image's own."""
    global_feature: Literal["as_published", "multi_task", "sound"] = "as_published"
    """What stands for the whole image, always made after masking. as_published: the sum over the
    regions by their number, the zeroed ones counted. multi_task: by the number of regions that
    neither are masked nor overlap a masked one (IoU above 0.4), though the sum holds those that
    overlap. sound: the mean of the regions that are not zeroed."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest, and refuse what no network or input can have."""
        if self.num_contrast_classes is None:
            self.num_contrast_classes = contrast_classes(self.texta_false_prob)
        check_text_length(self.max_seq_length, self.max_position_embeddings)
        if len(self.v_biattention_id) != len(self.t_biattention_id):
            raise ValueError("v_biattention_id and t_biattention_id have one number per connection")
        self._check_order("v_biattention_id", self.v_biattention_id, self.v_num_hidden_layers)
        self._check_order("t_biattention_id", self.t_biattention_id, self.num_hidden_layers)
        super().__post_init__(**kwargs)

    @staticmethod
    def _check_order(name: str, numbers: list[int], layers: int) -> None:
        """Raise ValueError where connections fall or lie outside the stream."""
        if numbers != sorted(numbers) or not all(0 <= number < layers for number in numbers):
            raise ValueError(f"{name} {numbers}: take rising numbers from 0 to {layers - 1}")

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "ViLBertConfig":
        """Return the configuration called `size`, with single values changed.

        Raises RequestError for an unknown size or key and for a value of the wrong kind.
        """
        check_size(cls, "ViLBERT", SIZES, size, changes)
        return made(cls, {**SIZES[size], **changes})

    def objectives(self) -> dict[str, str | None]:
        """Return the objectives that the family knows, with what adds a head that is missing."""
        contrast = None if self.contrast_head else "set model.config.contrast_head to true"
        features = None if self.feature_head else "set model.config.feature_head to true"
        return {
            "mlm": None,
            "itm": None,
            "moc": None,
            "moc-kl": None,
            "moc-confidence": None,
            "mrfr": features,
            "mrfr-smooth-l1": features,
            "contrast": contrast,
        }

    @property
    def longest_sample(self) -> int:
        """Tokens and regions of the longest sample, the whole image's among them."""
        return self.max_seq_length + int(self.task_specific_tokens) + self.max_regions + 1

    def text_shape(self) -> BlockShape:
        """Return the shape of the text stream's layers."""
        return BlockShape(
            hidden=self.hidden_size,
            heads=self.num_attention_heads,
            intermediate=self.intermediate_size,
            dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob,
            norm_epsilon=self.layer_norm_eps,
            attention=self._attn_implementation,
        )

    def vision_shape(self) -> BlockShape:
        """Return the shape of the visual stream's layers."""
        return BlockShape(
            hidden=self.v_hidden_size,
            heads=self.v_num_attention_heads,
            intermediate=self.v_intermediate_size,
            dropout=self.v_hidden_dropout_prob,
            attention_dropout=self.v_attention_probs_dropout_prob,
            norm_epsilon=self.layer_norm_eps,
            attention=self._attn_implementation,
        )

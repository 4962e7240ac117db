"""The configuration of LXMERT."""

from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from pretrain.batches.pollute import contrast_classes
from pretrain.models.blocks import BlockShape
from pretrain.models.configuration import check_size, check_text_length, made
from trawl.errors import RequestError

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "l_layers": 2,
        "r_layers": 1,
        "x_layers": 2,
        "max_position_embeddings": 128,
    },
    "base": {},
}

Quirk = Literal["as_published", "sound"]


@strict
class LxmertConfig(PreTrainedConfig):
    """Sizes of the network, the form of its inputs, and how its pretraining corrupts them.

    The defaults are the published model (Tan and Bansal, EMNLP 2019), and whatever has the value
    "as_published" does what its code does. Names that transformers' LxmertConfig has are kept.
    """

    model_type = "trawl-lxmert"

    match_class: ClassVar[int] = 1
    """Class of `match_logits` for a sentence and an image that belong together, as published."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    l_layers: int = 9
    """Layers that the text passes alone."""
    r_layers: int = 5
    """Layers that the regions pass alone."""
    x_layers: int = 5
    """Layers in which both streams read each other."""
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    comparing_heads: int = 0
    """Attention heads of each text layer that start by finding equal tokens while the others
    average, and what regions add to text is faint at first; 0: all start at random, as published.
    For a small network without BERT's weights."""
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True
    frozen_rows: Quirk = "as_published"
    """What happens to the first rows of the position and segment tables. as_published: padding_idx
    0 keeps every gradient from them, so [CLS] has no learned position and segment 0 is noise.
    sound: they learn; the numbers that the network computes are the same."""

    visual_feat_dim: int = 2048
    """Size of a region's feature."""
    visual_pos_dim: int = 4
    """Numbers of a region's box: x1/W y1/H x2/W y2/H; these four alone are known."""
    num_object_labels: int = 1600
    """Objects that the detector tells apart, without a background."""
    num_attr_labels: int = 400
    """Attributes that the detector tells apart."""
    num_qa_labels: int = 9500
    """Answers that the answer head tells apart."""
    answers: list[str] = field(default_factory=list)
    """The answer of each class of the answer head. `of_size` also takes the path of a file with one
    answer a line, and sets `num_qa_labels` to their number. Needed by the objective qa alone."""
    object_head: bool = True
    """Have the head that names the objects of regions."""
    attribute_head: bool = True
    """Have the head that names the attributes of regions."""
    feature_head: bool = True
    """Have the head that predicts the features of regions."""
    answer_head: bool = True
    """Have the head that answers questions."""
    contrast_head: bool = False
    """Add Oscar's head for polluted tags and captions; it is not LXMERT's."""
    num_contrast_classes: int | None = None
    """Classes of the contrast head; nothing: 3 if captions are polluted too, else 2."""

    max_seq_length: int = 20
    """Tokens of the text, [CLS] and [SEP] included."""
    max_regions: int = 36
    """Regions of an image that are read, in stored order."""
    region_count: Quirk = "as_published"
    """How many regions an image has. as_published: exactly `max_regions`, without a visual mask; a
    corpus with fewer is refused. sound: up to `max_regions`, padding is masked."""
    questions: bool = True
    """Read a sample's questions as sentences, each as likely as one of its captions."""
    tags: bool = False
    """Read the detector's tags behind the text, as segment 1; LXMERT has none."""
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
    """Share of the regions that are masked: 80% become zero, 10% another region's feature, 10%
    stay as they are. Boxes stay."""
    texta_false_prob: float | int = 0.25
    """With the contrast: share of the samples whose text, not tags, is another image's. Without it
    half of the texts are, as published."""
    mask_loss_for_unmatched: bool = True
    """Predict masked tokens and regions of mismatched pairs too, as published."""
    region_losses: Quirk = "as_published"
    """Whose objects and attributes moc-confidence and attributes predict. as_published: those of
    all regions, though most of them can be seen. sound: those of masked regions alone."""
    random_sentence: Quirk = "as_published"
    """Which text is called another image's. as_published: any of another sample, even if it says
    the same. sound: it is drawn again while it says the same as one of the image's own; after ten
    draws the image keeps its own and counts as a match."""

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest, and refuse what no network or input can have."""
        if self.num_contrast_classes is None:
            self.num_contrast_classes = contrast_classes(self.texta_false_prob)
        check_text_length(self.max_seq_length, self.max_position_embeddings)
        if self.visual_pos_dim != 4:
            raise ValueError(f"visual_pos_dim {self.visual_pos_dim}: a box has 4 numbers")
        if self.answers and len(self.answers) != self.num_qa_labels:
            raise ValueError(
                f"{len(self.answers)} answers for {self.num_qa_labels} classes; set num_qa_labels "
                f"to {len(self.answers)}"
            )
        super().__post_init__(**kwargs)

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "LxmertConfig":
        """Return the configuration called `size`, with single values changed.

        Raises RequestError for an unknown size or key and for a value of the wrong kind.
        """
        check_size(cls, "LXMERT", SIZES, size, changes)
        settings = {**SIZES[size], **changes}
        if isinstance(settings.get("answers"), str):
            settings["answers"] = _answers_in(settings["answers"])
        if settings.get("answers"):
            settings.setdefault("num_qa_labels", len(settings["answers"]))
        return made(cls, settings)

    def objectives(self) -> dict[str, str | None]:
        """Return the objectives that the family knows, with what adds a head that is missing."""

        def head(name: str) -> str | None:
            return None if getattr(self, name) else f"set model.config.{name} to true"

        return {
            "mlm": None,
            "itm": None,
            "moc-confidence": head("object_head"),
            "attributes": head("attribute_head"),
            "mrfr-smooth-l1": head("feature_head"),
            "qa": head("answer_head"),
            "moc": head("object_head"),
            "moc-kl": head("object_head"),
            "mrfr": head("feature_head"),
            "contrast": head("contrast_head"),
        }

    @property
    def longest_sample(self) -> int:
        """Tokens and regions of the longest sample."""
        return self.max_seq_length + self.max_regions

    def block_shape(self) -> BlockShape:
        """Return the shape of the layers of both streams."""
        return BlockShape(
            hidden=self.hidden_size,
            heads=self.num_attention_heads,
            intermediate=self.intermediate_size,
            dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob,
            norm_epsilon=self.layer_norm_eps,
            attention=self._attn_implementation,
        )


def _answers_in(path: str) -> list[str]:
    """Return the lines of the file at `path`; RequestError if there is none or it is empty."""
    place = Path(path)
    if not place.is_file():
        raise RequestError(f"model.config.answers: no file {path}; it has one answer a line")
    found = [line.strip() for line in place.read_text(encoding="utf-8").splitlines()]
    answers = [answer for answer in found if answer]
    if not answers:
        raise RequestError(f"model.config.answers: {path} is empty; write one answer a line")
    return answers

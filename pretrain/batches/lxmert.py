"""Makes LXMERT's batches: `[CLS] sentence [SEP]` beside the regions of an image.

Sentences of other images, masked tokens and masked regions as Tan and Bansal (EMNLP 2019) have
them, with the detector's objects, attributes and features and the answers to questions as targets;
tags behind the sentence and their pollution, as Oscar has them, are an option.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.corpus.regions import Regions
from pretrain.batches import checks
from pretrain.batches.geometry import locations
from pretrain.batches.layout import fill_text, text_length, truncated
from pretrain.batches.lxmert_answers import NO_ANSWER, AnswerTable
from pretrain.batches.lxmert_sentences import Sentence, SentenceSource
from pretrain.batches.mask_regions import mask_regions
from pretrain.batches.mask_units import masker
from pretrain.batches.padding import Array, flattened, padded
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, contrast_label
from pretrain.batches.tokenise import Ids, TextEncoder
from pretrain.models.lxmert_config import LxmertConfig
from pretrain.objectives import asked, check_objectives
from trawl.errors import RequestError, WorkError

ZERO_SHARE = 0.8
"""Share of the masked regions whose feature becomes zero."""
RANDOM_SHARE = 0.1
"""Share of the masked regions that get the feature of any region of the corpus."""

_NOWHERE = np.empty(0, dtype=np.int64)

# The targets of each region objective, and what they are of each region.
_REGION_TARGETS = {
    "moc-confidence": ("object_labels", "object_weights"),
    "attributes": ("attribute_labels", "attribute_weights"),
    "mrfr-smooth-l1": ("feature_targets", "feature_weights"),
    "moc": ("object_labels",),
    "moc-kl": ("object_probabilities",),
    "mrfr": ("feature_targets",),
}
_TARGETS: dict[str, Callable[[Regions, Array, Array], Array]] = {
    "object_labels": lambda regions, *_: regions.object_ids.astype(np.int64),
    "object_weights": lambda regions, *_: regions.object_conf.astype(np.float32),
    "attribute_labels": lambda regions, *_: regions.attribute_ids.astype(np.int64),
    "attribute_weights": lambda regions, *_: regions.attribute_conf.astype(np.float32),
    "object_probabilities": lambda regions, *_: np.asarray(regions.class_probs, dtype=np.float32),
    "feature_targets": lambda _, features, __: features,
    "feature_weights": lambda _, __, masked: masked.astype(np.float32),
}
_OF_ALL_REGIONS = frozenset({"moc-confidence", "attributes"})
_OF_MASKED_REGIONS = frozenset({"moc", "moc-kl", "mrfr"})
_NORMALISED = frozenset({"moc-confidence", "attributes", "mrfr-smooth-l1"})


@dataclass(frozen=True)
class Text:
    """One text: ids and segments [text], which columns are predicted, and what stood there."""

    ids: Ids
    segments: Ids
    columns: npt.NDArray[np.integer[Any]]
    labels: Ids


@dataclass(frozen=True)
class Image:
    """One image: features [regions, F], boxes [regions, 4] as shares of the image.

    places: which regions are predicted; targets: by name, one row for each of them; share: what the
    regions add to `region_normaliser`.
    """

    features: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    places: npt.NDArray[np.integer[Any]]
    targets: dict[str, Array]
    share: float


class LxmertBatches:
    """Makes padded batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` texts are padded to `max_seq_length` and regions to
    `max_regions`; else to the longest of the batch, which gives the same numbers. A batch without a
    known answer costs qa nothing, where the original's division by zero makes the step NaN.
    Raises RequestError where objectives, tokenizer, model and corpora do not fit.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        tokenizer: PreTrainedTokenizerBase,
        config: LxmertConfig,
        objectives: dict[str, float],
        seed: int,
        stage: str,
        as_published: bool = False,
    ) -> None:
        check_objectives(objectives, config)
        self._source = PairSource(corpora, seed, stage)
        self._encoder = TextEncoder(tokenizer)
        self._config = config
        self._objectives = asked(objectives)
        self._as_published = as_published
        # Without the contrast there are two kinds of pairs alone, half and half.
        share = float(config.texta_false_prob) if "contrast" in self._objectives else CLEAN_ABOVE
        pollutes = bool(self._objectives & {"itm", "contrast"})
        self._sentences = SentenceSource(self._source, config, pollutes, share)
        self._answers = AnswerTable(config.answers)
        self._mask = masker(
            tokenizer, config.mask_unit, config.mask_probability, config.max_seq_length
        )
        self._regional = self._objectives & _REGION_TARGETS.keys()
        self._region_targets = sorted(
            {name for key in self._regional for name in _REGION_TARGETS[key]}
        )
        self._predicts_all = config.region_losses == "as_published" and bool(
            self._objectives & _OF_ALL_REGIONS
        )
        checks.check_vocabulary(self._encoder, config.vocab_size)
        self._check_objectives()
        for corpus in corpora:
            self._check(corpus)

    def _check_objectives(self) -> None:
        """Raise RequestError where objectives need what the configuration does not give."""
        config, wanted = self._config, self._objectives
        if self._predicts_all and (masked := sorted(wanted & _OF_MASKED_REGIONS)):
            raise RequestError(
                f"objectives: {masked[0]} predicts masked regions, and "
                f"{min(wanted & _OF_ALL_REGIONS)} all of them as published; set "
                "model.config.region_losses to sound"
            )
        if "contrast" in wanted and not config.tags:
            raise RequestError(
                "objectives: contrast pollutes tags, and this model reads none; set "
                "model.config.tags to true"
            )
        if "qa" not in wanted:
            return
        if not config.answers:
            raise RequestError(
                "objectives: qa needs a table of answers; set model.config.answers to a list or to "
                "a file with one answer a line"
            )
        if not config.questions:
            raise RequestError("objectives: qa needs questions; set model.config.questions to true")
        # Captions and questions come from different corpora as well as from one.
        if not any(checks.has(corpus, "questions") for corpus in self._source.corpora):
            checks.check_field(self._source.corpora[0], "questions", "qa")

    def _check(self, corpus: Corpus) -> None:
        """Raise RequestError where `corpus` lacks what an objective or the model needs."""
        config, wanted = self._config, self._objectives
        checks.check_features(corpus, config.visual_feat_dim, "visual_feat_dim")
        self._check_region_count(corpus)
        if polluting := sorted(wanted & {"itm", "contrast"}):
            checks.check_others(corpus, polluting)
        if "contrast" in wanted:
            checks.check_field(corpus, "tags", "contrast")
        if self._regional:
            checks.check_field(corpus, "regions", sorted(self._regional))
        if "object_labels" in self._region_targets:
            checks.check_classes(corpus, config.num_object_labels, "num_object_labels")
        if "attributes" in wanted:
            checks.check_field(corpus, "attributes", "attributes")
            checks.check_classes(corpus, config.num_attr_labels, "num_attr_labels", attributes=True)
        if "moc-kl" in wanted:
            checks.check_distribution(corpus, config.num_object_labels, "num_object_labels")

    def _check_region_count(self, corpus: Corpus) -> None:
        """Raise RequestError where the published form meets images with too few regions."""
        config = self._config
        if config.region_count == "sound":
            return
        for shard in corpus.manifest.shards:
            if shard.regions < shard.samples * config.max_regions:
                raise RequestError(
                    f"{corpus.uri}: {shard.regions} regions in the {shard.samples} samples of "
                    f"{shard.name}, and LXMERT takes {config.max_regions} of each; set "
                    "model.config.region_count to sound, or run `trawl corpus build` with "
                    "regions.selection butd-36"
                )

    def make(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`.

        The inputs of `pairs`, and masked_positions int64 [masked], places in the flattened text;
        predicted_regions int64 [predicted], places in the flattened regions; and the targets of the
        objectives: masked_labels int64 [masked], match_labels (1 for a match), contrast_labels and
        answer_labels (-1 for none) int64 [batch], object_labels and attribute_labels int64,
        object_weights, attribute_weights, object_probabilities, feature_targets, feature_weights
        float32 [predicted, ..], region_normaliser float32 [].
        """
        drawn, texts, images = [], [], []
        for place in positions:
            sample = self._source.sample(place)
            sentence = self._sentences.draw(place, sample)
            drawn.append(sentence)
            texts.append(self._masked_text(place, sentence))
            images.append(self._masked_image(place, sample, sentence))
        batch = self._inputs(texts, images)
        width, regions = batch["input_ids"].shape[1], batch["visual_feats"].shape[1]
        batch["masked_positions"] = flattened([text.columns for text in texts], width)
        batch["predicted_regions"] = flattened([image.places for image in images], regions)
        if "mlm" in self._objectives:
            batch["masked_labels"] = np.concatenate([text.labels for text in texts])
        for name in self._region_targets:
            batch[name] = np.concatenate([image.targets[name] for image in images])
        if self._objectives & _NORMALISED:
            total = sum(image.share for image in images)
            batch["region_normaliser"] = np.array(total, dtype=np.float32)
        batch.update(self._labels(positions, drawn))
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is.

        input_ids, token_type_ids, attention_mask int64 [batch, text]; visual_feats float32
        [batch, regions, F]; visual_pos float32 [batch, regions, 4]; visual_attention_mask int64
        [batch, regions], which is not there with `region_count` "as_published".
        """
        samples = {number: corpus[number] for number in set(images)}
        made = {number: self._image(sample) for number, sample in samples.items()}
        tags = {number: self._sentences.tags(corpus, each) for number, each in samples.items()}
        rows = [
            self._text(Sentence(text, tags[number]))[0]
            for number, text in zip(images, texts, strict=True)
        ]
        batch = self._inputs(rows, [made[number] for number in images])
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _text(self, sentence: Sentence) -> tuple[Text, npt.NDArray[np.intp], int]:
        """Return a text laid out, the columns of its words, and how many are the sentence's."""
        special = self._encoder.special
        words = self._encoder.encode(sentence.text)
        tags = self._encoder.encode(sentence.tags)
        kept, kept_tags = truncated(len(words), len(tags), self._config.max_seq_length)
        ids = np.zeros(text_length(kept, kept_tags), dtype=np.int64)
        segments = np.zeros_like(ids)
        columns = fill_text(
            ids, segments, words[:kept], tags[:kept_tags], special.start, special.separator
        )
        return Text(ids, segments, _NOWHERE, _NOWHERE), columns, kept

    def _masked_text(self, place: Place, sentence: Sentence) -> Text:
        """Return the text of `sentence`, masked for mlm."""
        text, columns, kept = self._text(sentence)
        if "mlm" not in self._objectives:
            return text
        config, words = self._config, text.ids[columns]
        text.ids[columns], chosen = self._mask(words, self._source.chance(place, "masks"))
        if not config.mask_loss_for_unmatched and sentence.change != "nothing":
            chosen = chosen[chosen < kept] if sentence.change == "tags" else chosen[:0]
        return Text(text.ids, text.segments, columns[chosen], words[chosen])

    def _image(self, sample: Sample) -> Image:
        """Return the regions of `sample` as they are; RequestError if it has too few of them."""
        config, meta = self._config, sample.meta
        regions = _first(sample.regions, config.max_regions)
        if config.region_count == "as_published" and len(regions) < config.max_regions:
            raise RequestError(
                f"sample {sample.key}: {len(regions)} regions, and LXMERT takes "
                f"{config.max_regions} of each; set model.config.region_count to sound"
            )
        boxes = locations(regions.boxes, meta["width"], meta["height"], 4)
        return Image(regions.float_features(), boxes, _NOWHERE, {}, 0.0)

    def _masked_image(self, place: Place, sample: Sample, sentence: Sentence) -> Image:
        """Return the regions of `sample`, masked for the objectives that predict them."""
        image, config = self._image(sample), self._config
        if not self._regional:
            return image
        regions = _first(sample.regions, config.max_regions)
        if "moc-kl" in self._objectives and regions.class_probs is None:
            raise WorkError(
                f"sample {sample.key}: no class_probs, as others have; train moc instead"
            )
        corrupted, chosen = mask_regions(
            image.features,
            self._source.chance(place, "regions"),
            config.region_mask_probability,
            ZERO_SHARE,
            RANDOM_SHARE,
            lambda draw: self._source.region_feature(place, draw),
        )
        masked = np.zeros(len(regions), dtype=bool)
        masked[chosen] = True
        places = np.arange(len(regions)) if self._predicts_all else chosen
        share = len(regions) * config.region_mask_probability
        if sentence.change == "caption" and not config.mask_loss_for_unmatched:
            places, share = places[:0], 0.0
        targets = {
            name: _TARGETS[name](regions, image.features, masked)[places]
            for name in self._region_targets
        }
        return Image(corrupted, image.boxes, places, targets, share)

    def _labels(
        self, positions: Sequence[Place], drawn: Sequence[Sentence]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Return the targets that are about whole pairs."""
        labels, config = {}, self._config
        changes = [sentence.change for sentence in drawn]
        if "itm" in self._objectives:
            match = config.match_class
            labels["match_labels"] = np.array(
                [1 - match if change == "caption" else match for change in changes]
            )
        if "contrast" in self._objectives:
            classes = config.num_contrast_classes or 2
            labels["contrast_labels"] = np.array(
                [contrast_label(change, classes) for change in changes]
            )
        if "qa" in self._objectives:
            labels["answer_labels"] = np.array(
                [self._answer(place, each) for place, each in zip(positions, drawn, strict=True)]
            )
        return labels

    def _answer(self, place: Place, sentence: Sentence) -> int:
        """Return the class of an answer to `sentence`; -1 if it has none, or is another image's."""
        if sentence.change == "caption":
            return NO_ANSWER
        return self._answers.draw(sentence.answers, self._source.chance(place, "answer"))

    def _inputs(self, texts: Sequence[Text], images: Sequence[Image]) -> dict[str, Array]:
        """Return the padded inputs of the model."""
        config = self._config
        width = config.max_seq_length if self._as_published else 0
        regions = config.max_regions if self._as_published else 1
        ids, text_mask = padded([text.ids for text in texts], width, self._encoder.special.pad)
        features, region_mask = padded([image.features for image in images], regions)
        inputs = {
            "input_ids": ids,
            "token_type_ids": padded([text.segments for text in texts], width)[0],
            "attention_mask": text_mask,
            "visual_feats": features,
            "visual_pos": padded([image.boxes for image in images], regions)[0],
        }
        if config.region_count == "sound":
            inputs["visual_attention_mask"] = region_mask
        return inputs


def _first(regions: Regions, count: int) -> Regions:
    """Return the first `count` regions."""
    arrays = {name: value for name, value in vars(regions).items() if value is not None}
    return Regions(**{name: value[:count] for name, value in arrays.items()})

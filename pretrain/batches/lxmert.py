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
from pretrain.batches.layout import fill_text, text_length, truncated
from pretrain.batches.lxmert_answers import NO_ANSWER, AnswerTable
from pretrain.batches.lxmert_sentences import Sentence, SentenceSource
from pretrain.batches.mask_regions import draw_masks
from pretrain.batches.mask_units import masker
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, contrast_label
from pretrain.batches.row_batches import Array, RowBatches
from pretrain.batches.row_places import RowPlaces
from pretrain.batches.stored import FeatureForm, StoredRegions, assembled, tensors
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
_TARGETS: dict[str, Callable[[Regions], Array]] = {
    "object_labels": lambda regions: regions.object_ids.astype(np.int64),
    "object_weights": lambda regions: regions.object_conf.astype(np.float32),
    "attribute_labels": lambda regions: regions.attribute_ids.astype(np.int64),
    "attribute_weights": lambda regions: regions.attribute_conf.astype(np.float32),
    "object_probabilities": lambda regions: np.asarray(regions.class_probs, dtype=np.float32),
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
class Predicted:
    """What is predicted of the regions of one image.

    places: which, in the flattened regions; targets: by name, one row for each of them; share: what
    the regions add to `region_normaliser`.
    """

    places: npt.NDArray[np.integer[Any]]
    targets: dict[str, Array]
    share: float


@dataclass(frozen=True)
class Row:
    """One sample on its way into a batch: the sentence drawn for it, and its masked text."""

    sample: Sample
    sentence: Sentence
    text: Text


class LxmertBatches(RowBatches[Row]):
    """Makes batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` texts are padded to `max_seq_length` and regions to
    `max_regions`; else to the longest of the batch, which gives the same numbers; `packed`, they
    lie end to end without padding, and an image without regions has one that is all zeros, as
    padding is. A batch without a known answer costs qa nothing, where the original's division by
    zero makes the step NaN. Raises RequestError where objectives, tokenizer, model and corpora do
    not fit.
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
        packed: bool = False,
    ) -> None:
        super().__init__(packed)
        check_objectives(objectives, config)
        self._source = PairSource(corpora, seed, stage)
        self._form = FeatureForm(corpora)
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

    def _rows(self, positions: Sequence[Place]) -> list[Row]:
        """Return the rows of `positions`, their sentences drawn and masked."""
        samples = self._source.samples(positions)
        drawn = list(map(self._sentences.draw, positions, samples))
        return list(map(Row, samples, drawn, map(self._masked_text, positions, drawn)))

    def _length(self, row: Row) -> int:
        """Return how many tokens and regions the model reads of `row`."""
        return len(row.text.ids) + self._count(row.sample)

    def _batch(
        self, rows: Sequence[Row], positions: Sequence[Place], packed: bool
    ) -> dict[str, Array]:
        """Return the rows of `positions` as a batch, with the targets of the objectives.

        The inputs of `pairs`, and masked_positions int64 [masked], places in the flattened text;
        predicted_regions int64 [predicted], places in the flattened regions; and the targets of the
        objectives: masked_labels int64 [masked], match_labels (1 for a match), contrast_labels and
        answer_labels (-1 for none) int64 [batch], object_labels and attribute_labels int64,
        object_weights, attribute_weights, object_probabilities, feature_targets, feature_weights
        float32 [predicted, ..], region_normaliser float32 [].
        """
        stored = self._stored([row.sample for row in rows], packed)
        found = [
            self._masked_regions(place, row, stored, number)
            for number, (place, row) in enumerate(zip(positions, rows, strict=True))
        ]
        batch = self._inputs(rows, stored, packed)
        places = self._text_places(rows, packed)
        batch["masked_positions"] = places.flattened([row.text.columns for row in rows])
        batch["predicted_regions"] = np.concatenate([each.places for each in found])
        if "mlm" in self._objectives:
            batch["masked_labels"] = np.concatenate([row.text.labels for row in rows])
        for name in self._region_targets:
            batch[name] = np.concatenate([each.targets[name] for each in found])
        if self._objectives & _NORMALISED:
            total = sum(each.share for each in found)
            batch["region_normaliser"] = np.array(total, dtype=np.float32)
        batch.update(self._labels(positions, [row.sentence for row in rows]))
        return batch

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is.

        input_ids, token_type_ids, attention_mask int64 [batch, text]; visual_feats float32
        [batch, regions, F]; visual_pos float32 [batch, regions, 4]; visual_attention_mask int64
        [batch, regions], which is not there with `region_count` "as_published".
        """
        samples = corpus.samples(images)
        tags = {each.key: self._sentences.tags(corpus, each) for each in samples}
        sentences = [
            Sentence(text, tags[sample.key]) for sample, text in zip(samples, texts, strict=True)
        ]
        rows = [
            Row(sample, sentence, self._text(sentence)[0])
            for sample, sentence in zip(samples, sentences, strict=True)
        ]
        return assembled(tensors(self._inputs(rows, self._stored(samples))))

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

    def _count(self, sample: Sample) -> int:
        """Return how many regions of `sample` the model reads."""
        return min(self._config.max_regions, sample.region_count)

    def _text_places(self, rows: Sequence[Row], packed: bool) -> RowPlaces:
        """Return where the texts of `rows` lie."""
        lengths = [len(row.text.ids) for row in rows]
        width = self._config.max_seq_length if self._as_published else max(lengths)
        return RowPlaces.of(lengths, None if packed else width)

    def _stored(self, samples: Sequence[Sample], packed: bool = False) -> StoredRegions:
        """Return the regions of `samples` as they are; RequestError if one has too few of them."""
        config = self._config
        counts = list(map(self._count, samples))
        if config.region_count == "as_published" and min(counts) < config.max_regions:
            sample = samples[int(np.argmin(counts))]
            raise RequestError(
                f"sample {sample.key}: {sample.region_count} regions, and LXMERT takes "
                f"{config.max_regions} of each; set model.config.region_count to sound"
            )
        width = config.max_regions if self._as_published else max(1, *counts)
        # Text finds padding in an image without regions; packed, it finds one such place.
        places = RowPlaces.of(counts, None if packed else width, least=1)
        return StoredRegions(self._form, samples, places)

    def _masked_regions(
        self, place: Place, row: Row, stored: StoredRegions, number: int
    ) -> Predicted:
        """Mask the regions of `row`, number `number` of `stored`; return what is predicted."""
        config, sample = self._config, row.sample
        if not self._regional:
            return Predicted(_NOWHERE, {}, 0.0)
        own = stored.row(number)
        regions = sample.regions.part(slice(own.stop - own.start))
        if "moc-kl" in self._objectives and regions.class_probs is None:
            raise WorkError(
                f"sample {sample.key}: no class_probs, as others have; train moc instead"
            )
        chance = self._source.chance(place, "regions")
        masks = draw_masks(
            len(regions), chance, config.region_mask_probability, ZERO_SHARE, RANDOM_SHARE
        )
        chosen = np.arange(len(regions)) if self._predicts_all else masks.places
        share = len(regions) * config.region_mask_probability
        if row.sentence.change == "caption" and not config.mask_loss_for_unmatched:
            chosen, share = chosen[:0], 0.0
        targets = {
            name: _TARGETS[name](regions)[chosen]
            for name in self._region_targets
            if name in _TARGETS
        }
        if "feature_targets" in self._region_targets:
            targets["feature_targets"] = stored.values(own.start + chosen)
        if "feature_weights" in self._region_targets:
            targets["feature_weights"] = np.isin(chosen, masks.places).astype(np.float32)
        stored.features[own.start + masks.zeroed] = 0
        for region, draw in zip((own.start + masks.replaced).tolist(), masks.draws, strict=True):
            other = self._source.region(place, float(draw))
            stored.put_features(slice(region, region + 1), other)
        return Predicted(own.start + chosen, targets, share)

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

    def _inputs(
        self, rows: Sequence[Row], stored: StoredRegions, packed: bool = False
    ) -> dict[str, Array]:
        """Return the inputs of the model."""
        texts = self._text_places(rows, packed)
        inputs = {
            "input_ids": texts.laid([row.text.ids for row in rows], self._encoder.special.pad),
            "token_type_ids": texts.laid([row.text.segments for row in rows]),
            **stored.arrays("visual_feats"),
            "visual_pos": stored.locations([row.sample.meta for row in rows], 4),
        }
        if packed:
            inputs["row_lengths"] = np.stack([texts.lengths, stored.places.lengths])
            return inputs
        inputs["attention_mask"] = texts.mask()
        if self._config.region_count == "sound":
            inputs["visual_attention_mask"] = stored.places.mask()
        return inputs

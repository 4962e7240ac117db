"""Makes ViLBERT's batches: `[CLS] caption [SEP]` beside the whole image and its regions.

Captions of other images, masked tokens and masked regions as Lu et al. (NeurIPS 2019; CVPR 2020)
have them; tags after the caption and their pollution, as Oscar has them, are an option.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.corpus.regions import Regions
from pretrain.batches import checks
from pretrain.batches.layout import fill_text, text_length, truncated
from pretrain.batches.mask_regions import draw_masks
from pretrain.batches.mask_units import masker
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, Change, contrast_label
from pretrain.batches.row_batches import Array, RowBatches
from pretrain.batches.row_places import RowPlaces
from pretrain.batches.stored import BEFORE, FeatureForm, StoredRegions, assembled, tensors
from pretrain.batches.tokenise import Ids, TextEncoder
from pretrain.batches.vilbert_texts import Drawn, ViLBertTexts
from pretrain.batches.whole_image import PLACE, whole_image
from pretrain.models.vilbert_config import ViLBertConfig
from pretrain.objectives import asked, check_objectives
from trawl.errors import RequestError, WorkError

ZERO_SHARE = 0.9
"""Share of the masked regions whose feature becomes zero; the others keep theirs."""
BACKGROUND = 1
"""Classes before the first object: class 0 is the background, as in bottom-up attention."""

_NOWHERE = np.empty(0, dtype=np.int64)

# The targets of each region objective, and what they are of a masked region.
_REGION_TARGETS = {
    "moc": ("object_labels",),
    "moc-confidence": ("object_labels", "object_weights"),
    "moc-kl": ("object_probabilities",),
    "mrfr": ("feature_targets",),
    "mrfr-smooth-l1": ("feature_targets", "feature_weights"),
}
_TARGETS: dict[str, Callable[[Regions], Array]] = {
    "object_labels": lambda regions: regions.object_ids.astype(np.int64) + BACKGROUND,
    "object_weights": lambda regions: regions.object_conf.astype(np.float32),
    "object_probabilities": lambda regions: np.asarray(regions.class_probs, dtype=np.float32),
    "feature_weights": lambda regions: np.ones(len(regions), dtype=np.float32),
}
_NORMALISED = frozenset({"moc-confidence", "mrfr-smooth-l1"})


@dataclass(frozen=True)
class Text:
    """One text: ids and segments [text], which columns are predicted, and what stood there."""

    ids: Ids
    segments: Ids
    columns: npt.NDArray[np.intp] | Ids
    labels: Ids


@dataclass(frozen=True)
class Predicted:
    """What is predicted of the regions of one image, and the feature [F] of the whole image.

    places: which, in the flattened regions, whole images not counted; targets: by name, one row for
    each of them.
    """

    whole: npt.NDArray[np.float32]
    places: npt.NDArray[np.intp] | Ids
    targets: dict[str, Array]


@dataclass(frozen=True)
class Row:
    """One sample on its way into a batch: its text, masked, and what was exchanged in it."""

    sample: Sample
    text: Text
    change: Change


class ViLBertBatches(RowBatches[Row]):
    """Makes batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` texts are padded to `max_seq_length` and regions to
    `max_regions`; else to the longest of the batch, which gives the same numbers; `packed`, they
    lie end to end without padding, whole images before all regions. A batch without masked regions
    costs moc-kl nothing, where the original's division by zero makes the step NaN. Raises
    RequestError where objectives, tokenizer, model and corpora do not fit.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        tokenizer: PreTrainedTokenizerBase,
        config: ViLBertConfig,
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
        self._mask = masker(
            tokenizer, config.mask_unit, config.mask_probability, config.max_seq_length
        )
        self._objectives = asked(objectives)
        self._as_published = as_published
        self._pollutes = bool(self._objectives & {"itm", "contrast"})
        # Without the contrast there are two kinds of pairs alone, half and half.
        contrasts = "contrast" in self._objectives
        share = float(config.texta_false_prob) if contrasts else CLEAN_ABOVE
        self._drawn = ViLBertTexts(self._source, config, self._pollutes, share)
        wanted = self._objectives & _REGION_TARGETS.keys()
        self._region_targets = sorted({name for key in wanted for name in _REGION_TARGETS[key]})
        checks.check_vocabulary(self._encoder, config.vocab_size)
        for corpus in corpora:
            self._check(corpus)

    def _check(self, corpus: Corpus) -> None:
        """Raise RequestError where `corpus` lacks what an objective or the model needs."""
        config, wanted = self._config, self._objectives
        checks.check_features(corpus, config.v_feature_size, "v_feature_size")
        if self._pollutes:
            checks.check_others(corpus, sorted(wanted & {"itm", "contrast"}))
        if "contrast" in wanted:
            if not config.tags:
                raise RequestError(
                    "objectives: contrast pollutes tags, and this model reads none; set "
                    "model.config.tags to true"
                )
            checks.check_field(corpus, "tags", "contrast")
        if regional := sorted(wanted & _REGION_TARGETS.keys()):
            checks.check_field(corpus, "regions", regional)
        if "moc-kl" in wanted:
            checks.check_field(corpus, "class_probs", "moc-kl")
            self._check_distribution(corpus[0])
        classes = BACKGROUND + len(corpus.manifest.detector.objects)
        if "object_labels" in self._region_targets and classes > config.v_target_size:
            raise RequestError(
                f"{corpus.uri}: {classes} classes, the background and the detector's objects, and "
                f"the head has {config.v_target_size}; set model.config.v_target_size to {classes}"
            )

    def _rows(self, positions: Sequence[Place]) -> list[Row]:
        """Return the rows of `positions`, their texts drawn and masked."""
        return list(map(self._row, positions, self._source.samples(positions)))

    def _length(self, row: Row) -> int:
        """Return how many tokens and regions the model reads of `row`, the whole image one."""
        return len(row.text.ids) + 1 + self._count(row.sample)

    def _batch(
        self, rows: Sequence[Row], positions: Sequence[Place], packed: bool
    ) -> dict[str, Array]:
        """Return the rows of `positions` as a batch, with the targets of the objectives.

        The inputs of `pairs`, and masked_positions int64 [masked], places in the flattened text;
        predicted_regions int64 [predicted], places in the flattened regions without the whole
        image; and the targets of the objectives: masked_labels int64 [masked], match_labels (0 for
        a match) and contrast_labels int64 [batch], object_labels int64, object_weights,
        object_probabilities, feature_targets and feature_weights float32 [predicted, ..],
        region_normaliser float32 [].
        """
        texts = [row.text for row in rows]
        stored = self._stored([row.sample for row in rows], packed)
        found = [
            self._masked_regions(place, row, stored, number)
            for number, (place, row) in enumerate(zip(positions, rows, strict=True))
        ]
        batch = self._inputs(rows, stored, [each.whole for each in found], packed)
        places = self._text_places(rows, packed)
        batch["masked_positions"] = places.flattened([text.columns for text in texts])
        batch["predicted_regions"] = np.concatenate([each.places for each in found])
        if "mlm" in self._objectives:
            batch["masked_labels"] = np.concatenate([text.labels for text in texts])
        for name in self._region_targets:
            batch[name] = np.concatenate([each.targets[name] for each in found])
        if self._objectives & _NORMALISED:
            share = self._config.max_regions * self._config.region_mask_probability
            batch["region_normaliser"] = np.array(len(rows) * share, dtype=np.float32)
        batch.update(self._labels(row.change for row in rows))
        return batch

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is.

        input_ids, token_type_ids, attention_mask int64 [batch, text]; features float32
        [batch, 1 + regions, F] and locations float32 [batch, 1 + regions, 5], the whole image
        first; region_mask int64 [batch, 1 + regions]; with tasks task_ids int64 [batch, 1].
        """
        samples = corpus.samples(images)
        tags = {each.key: self._drawn.tags(corpus, each) for each in samples}
        rows = [
            Row(sample, self._text(Drawn(text, tags[sample.key], "nothing")), "nothing")
            for sample, text in zip(samples, texts, strict=True)
        ]
        stored = self._stored(samples)
        whole = [self._whole(stored, number) for number in range(len(samples))]
        return assembled(tensors(self._inputs(rows, stored, whole)))

    def _row(self, place: Place, sample: Sample) -> Row:
        """Return `sample`, at `place`, with its masked text and what was exchanged in it."""
        drawn = self._drawn.at(place, sample)
        chance = self._source.chance(place, "masks") if "mlm" in self._objectives else None
        return Row(sample, self._text(drawn, chance), drawn.change)

    def _text(self, drawn: Drawn, chance: np.random.Generator | None = None) -> Text:
        """Return caption and tags laid out, with masked tokens where `chance` is given."""
        config, special = self._config, self._encoder.special
        caption_ids, tag_ids = self._encoder.encode(drawn.caption), self._encoder.encode(drawn.tags)
        kept, kept_tags = truncated(len(caption_ids), len(tag_ids), config.max_seq_length)
        ids = np.zeros(text_length(kept, kept_tags), dtype=np.int64)
        segments = np.zeros_like(ids)
        columns = fill_text(
            ids,
            segments,
            caption_ids[:kept],
            tag_ids[:kept_tags],
            special.start,
            special.separator,
        )
        if chance is None:
            return Text(ids, segments, _NOWHERE, _NOWHERE)
        words = ids[columns]
        ids[columns], chosen = self._mask(words, chance)
        if not config.mask_loss_for_unmatched and drawn.change != "nothing":
            chosen = chosen[chosen < kept] if drawn.change == "tags" else chosen[:0]
        return Text(ids, segments, columns[chosen], words[chosen])

    def _count(self, sample: Sample) -> int:
        """Return how many regions of `sample` the model reads, the whole image not counted."""
        return min(self._config.max_regions, sample.region_count)

    def _stored(self, samples: Sequence[Sample], packed: bool = False) -> StoredRegions:
        """Return the regions of `samples` as they are, whole images left out."""
        counts = list(map(self._count, samples))
        width = self._config.max_regions if self._as_published else max(1, *counts)
        return StoredRegions(self._form, samples, RowPlaces.of(counts, None if packed else width))

    def _text_places(self, rows: Sequence[Row], packed: bool) -> RowPlaces:
        """Return where the texts of `rows` lie."""
        lengths = [len(row.text.ids) for row in rows]
        width = self._config.max_seq_length if self._as_published else max(lengths)
        return RowPlaces.of(lengths, None if packed else width)

    def _whole(
        self, stored: StoredRegions, number: int, chosen: npt.NDArray[np.intp] = _NOWHERE
    ) -> npt.NDArray[np.float32]:
        """Return the feature [F] of a whole image, of whose regions those `chosen` are masked."""
        own = stored.row(number)
        return whole_image(
            stored.values(own), stored.boxes[own], chosen, self._config.global_feature
        )

    def _masked_regions(
        self, place: Place, row: Row, stored: StoredRegions, number: int
    ) -> Predicted:
        """Mask the regions of `row`, number `number` of `stored`; return what is predicted."""
        config, sample = self._config, row.sample
        if not self._region_targets:
            return Predicted(self._whole(stored, number), _NOWHERE, {})
        own = stored.row(number)
        regions = sample.regions.part(slice(own.stop - own.start))
        self._check_distribution(sample)
        chance = self._source.chance(place, "regions")
        masks = draw_masks(len(regions), chance, config.region_mask_probability, ZERO_SHARE)
        chosen = masks.places
        if row.change == "caption" and not config.mask_loss_for_unmatched:
            chosen = chosen[:0]
        targets = {
            name: _TARGETS[name](regions)[chosen]
            for name in self._region_targets
            if name in _TARGETS
        }
        if "feature_targets" in self._region_targets:
            targets["feature_targets"] = stored.values(own.start + chosen)
        stored.features[own.start + masks.zeroed] = 0
        whole = self._whole(stored, number, masks.places)
        return Predicted(whole, own.start + chosen, targets)

    def _check_distribution(self, sample: Sample) -> None:
        """Raise an error where moc-kl finds no class distribution, or one of another size."""
        if "moc-kl" not in self._objectives:
            return
        found, wanted = sample.regions.class_probs, self._config.v_target_size
        if found is None:
            raise WorkError(
                f"sample {sample.key}: no class_probs, though others of its corpus have them; "
                "train moc instead of moc-kl"
            )
        if found.shape[1] != wanted:
            raise RequestError(
                f"sample {sample.key}: class_probs of {found.shape[1]} classes, and the head has "
                f"{wanted}; set model.config.v_target_size to {found.shape[1]}"
            )

    def _labels(self, changes: Iterable[Change]) -> dict[str, npt.NDArray[np.int64]]:
        """Return the targets that say which pairs belong together."""
        labels = {}
        config, changes = self._config, list(changes)
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
        return labels

    def _inputs(
        self,
        rows: Sequence[Row],
        stored: StoredRegions,
        whole: Sequence[npt.NDArray[np.float32]],
        packed: bool = False,
    ) -> dict[str, Array]:
        """Return the inputs of the model, `whole` images in front of their regions.

        Packed, all whole images lie in front of all regions.
        """
        texts, regions = self._text_places(rows, packed), stored.places
        around = stored.locations([row.sample.meta for row in rows], 5)
        shape = (1, len(rows)) if packed else (len(rows), 1)
        before = np.broadcast_to(PLACE, (*shape, len(PLACE)))
        inputs = {
            "input_ids": texts.laid([row.text.ids for row in rows], self._encoder.special.pad),
            "token_type_ids": texts.laid([row.text.segments for row in rows]),
            **stored.arrays("features"),
            "features" + BEFORE: np.stack(whole).reshape(*shape, -1),
            "locations": np.concatenate([before, around], axis=1),
        }
        if packed:
            inputs["row_lengths"] = np.stack([texts.lengths, 1 + regions.lengths])
        else:
            mask = regions.mask()
            inputs["attention_mask"] = texts.mask()
            inputs["region_mask"] = np.concatenate([np.ones_like(mask[:, :1]), mask], axis=1)
        if self._config.task_specific_tokens:
            inputs["task_ids"] = np.full((len(rows), 1), self._config.task, dtype=np.int64)
        return inputs

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
from pretrain.batches.padding import Array, flattened, padded
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, RETRIES, Change, change_for, contrast_label
from pretrain.batches.row_places import RowPlaces
from pretrain.batches.stored import BEFORE, FeatureForm, StoredRegions, assembled, tensors
from pretrain.batches.tokenise import Ids, TextEncoder
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


class ViLBertBatches:
    """Makes padded batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` texts are padded to `max_seq_length` and regions to
    `max_regions`; else to the longest of the batch, which gives the same numbers. A batch without
    masked regions costs moc-kl nothing, where the original's division by zero makes the step NaN.
    Raises RequestError where objectives, tokenizer, model and corpora do not fit.
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
    ) -> None:
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
        self._caption_share = float(config.texta_false_prob) if contrasts else CLEAN_ABOVE
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

    def make(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`.

        The inputs of `pairs`, and masked_positions int64 [masked], places in the flattened text;
        predicted_regions int64 [predicted], places in the flattened regions without the whole
        image; and the targets of the objectives: masked_labels int64 [masked], match_labels (0 for
        a match) and contrast_labels int64 [batch], object_labels int64, object_weights,
        object_probabilities, feature_targets and feature_weights float32 [predicted, ..],
        region_normaliser float32 [].
        """
        return assembled(self.make_stored(positions))

    def make_stored(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return what `make` does, with the features as they are stored: see `assembled`."""
        samples = self._source.samples(positions)
        drawn = list(map(self._row, positions, samples))
        texts, changes = [text for text, _ in drawn], [change for _, change in drawn]
        stored = self._stored(samples)
        found = [
            self._masked_regions(place, sample, change, stored, number)
            for number, (place, sample, change) in enumerate(
                zip(positions, samples, changes, strict=True)
            )
        ]
        batch = self._inputs(texts, stored, samples, [each.whole for each in found])
        batch["masked_positions"] = flattened(
            [text.columns for text in texts], batch["input_ids"].shape[1]
        )
        batch["predicted_regions"] = np.concatenate([each.places for each in found])
        if "mlm" in self._objectives:
            batch["masked_labels"] = np.concatenate([text.labels for text in texts])
        for name in self._region_targets:
            batch[name] = np.concatenate([each.targets[name] for each in found])
        if self._objectives & _NORMALISED:
            share = self._config.max_regions * self._config.region_mask_probability
            batch["region_normaliser"] = np.array(len(samples) * share, dtype=np.float32)
        batch.update(self._labels(changes))
        return tensors(batch)

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is.

        input_ids, token_type_ids, attention_mask int64 [batch, text]; features float32
        [batch, 1 + regions, F] and locations float32 [batch, 1 + regions, 5], the whole image
        first; region_mask int64 [batch, 1 + regions]; with tasks task_ids int64 [batch, 1].
        """
        samples = corpus.samples(images)
        tags = {each.key: self._tags(corpus, each) for each in samples}
        rows = [
            self._text(text, tags[sample.key]) for sample, text in zip(samples, texts, strict=True)
        ]
        stored = self._stored(samples)
        whole = [self._whole(stored, number) for number in range(len(samples))]
        return assembled(tensors(self._inputs(rows, stored, samples, whole)))

    def _tags(self, of: Place | Corpus, sample: Sample) -> str:
        """Return the tags of `sample` as text, nothing where the model reads none."""
        config = self._config
        if not config.tags:
            return ""
        return self._source.tags(of, sample, config.tag_confidence, config.tag_attributes)

    def _row(self, place: Place, sample: Sample) -> tuple[Text, Change]:
        """Return the masked text of `sample`, at `place`, and what was exchanged in it."""
        source = self._source
        caption = source.caption(sample, source.chance(place, "caption").random())
        tags = self._tags(place, sample)
        change: Change = "nothing"
        if self._pollutes:
            chance = source.chance(place, "pollution")
            change = change_for(chance.random(), self._caption_share, bool(tags))
            caption, tags = self._exchange(place, sample, change, (caption, tags), chance)
        text_chance = source.chance(place, "masks") if "mlm" in self._objectives else None
        return self._text(caption, tags, text_chance, change), change

    def _exchange(
        self,
        place: Place,
        sample: Sample,
        change: Change,
        texts: tuple[str, str],
        chance: np.random.Generator,
    ) -> tuple[str, str]:
        """Return caption and tags, one of them another sample's of the same corpus by `change`.

        Draws again, ten times at most, while the other text is empty or one of the sample's own;
        but captions once and from all samples with `random_caption` "as_published".
        """
        source, (caption, tags) = self._source, texts
        if change == "nothing":
            return texts
        if change == "caption" and self._config.random_caption == "as_published":
            corpus = source.corpus(place)
            number, which = chance.random(2)
            return source.caption(corpus[int(number * len(corpus))], which), tags
        own = {"", *(entry["text"] for entry in sample.meta["captions"])}
        for number, which in chance.random((RETRIES, 2)):
            other = source.other(place, number)
            if change == "caption":
                texts = source.caption(other, which), tags
                if texts[0] not in own:
                    break
            else:
                found = self._tags(place, other)
                texts = caption, found or tags
                if found not in ("", tags):
                    break
        return texts

    def _text(
        self,
        caption: str,
        tags: str,
        chance: np.random.Generator | None = None,
        change: Change = "nothing",
    ) -> Text:
        """Return caption and tags laid out, with masked tokens where `chance` is given."""
        config, special = self._config, self._encoder.special
        caption_ids, tag_ids = self._encoder.encode(caption), self._encoder.encode(tags)
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
        if not config.mask_loss_for_unmatched and change != "nothing":
            chosen = chosen[chosen < kept] if change == "tags" else chosen[:0]
        return Text(ids, segments, columns[chosen], words[chosen])

    def _stored(self, samples: Sequence[Sample]) -> StoredRegions:
        """Return the regions of `samples` as they are, whole images left out."""
        config = self._config
        counts = [min(config.max_regions, sample.region_count) for sample in samples]
        width = config.max_regions if self._as_published else max(1, *counts)
        return StoredRegions(self._form, samples, RowPlaces.of(counts, width))

    def _whole(
        self, stored: StoredRegions, number: int, chosen: npt.NDArray[np.intp] = _NOWHERE
    ) -> npt.NDArray[np.float32]:
        """Return the feature [F] of a whole image, of whose regions those `chosen` are masked."""
        own = stored.row(number)
        return whole_image(
            stored.values(own), stored.boxes[own], chosen, self._config.global_feature
        )

    def _masked_regions(
        self, place: Place, sample: Sample, change: Change, stored: StoredRegions, number: int
    ) -> Predicted:
        """Mask row `number` of `stored`, the regions of `sample`; return what is predicted."""
        config = self._config
        if not self._region_targets:
            return Predicted(self._whole(stored, number), _NOWHERE, {})
        own = stored.row(number)
        regions = sample.regions.part(slice(own.stop - own.start))
        self._check_distribution(sample)
        chance = self._source.chance(place, "regions")
        masks = draw_masks(len(regions), chance, config.region_mask_probability, ZERO_SHARE)
        chosen = masks.places
        if change == "caption" and not config.mask_loss_for_unmatched:
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
        texts: Sequence[Text],
        stored: StoredRegions,
        samples: Sequence[Sample],
        whole: Sequence[npt.NDArray[np.float32]],
    ) -> dict[str, Array]:
        """Return the padded inputs of the model, `whole` images in front of their regions."""
        config = self._config
        width = config.max_seq_length if self._as_published else 0
        ids, text_mask = padded([text.ids for text in texts], width, self._encoder.special.pad)
        around = stored.locations([sample.meta for sample in samples], 5)
        mask = stored.places.mask()
        inputs = {
            "input_ids": ids,
            "token_type_ids": padded([text.segments for text in texts], width)[0],
            "attention_mask": text_mask,
            **stored.arrays("features"),
            "features" + BEFORE: np.stack(whole)[:, None],
            "locations": np.concatenate([np.tile(PLACE, (len(texts), 1, 1)), around], axis=1),
            "region_mask": np.concatenate([np.ones_like(mask[:, :1]), mask], axis=1),
        }
        if config.task_specific_tokens:
            inputs["task_ids"] = np.full((len(texts), 1), config.task, dtype=np.int64)
        return inputs

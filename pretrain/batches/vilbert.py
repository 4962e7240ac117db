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
from pretrain.batches.geometry import locations
from pretrain.batches.layout import fill_text, text_length, truncated
from pretrain.batches.mask_regions import mask_regions
from pretrain.batches.mask_units import masker
from pretrain.batches.padding import Array, flattened, padded
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, RETRIES, Change, change_for, contrast_label
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
_TARGETS: dict[str, Callable[[Regions, Array], Array]] = {
    "object_labels": lambda regions, _: regions.object_ids.astype(np.int64) + BACKGROUND,
    "object_weights": lambda regions, _: regions.object_conf.astype(np.float32),
    "object_probabilities": lambda regions, _: np.asarray(regions.class_probs, dtype=np.float32),
    "feature_targets": lambda _, features: features,
    "feature_weights": lambda regions, _: np.ones(len(regions), dtype=np.float32),
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
class Image:
    """One image: features [1 + regions, F] and locations [1 + regions, 5], the whole image first.

    places: which regions are predicted, the whole image not counted; targets: by name, one row for
    each of them.
    """

    features: npt.NDArray[np.float32]
    locations: npt.NDArray[np.float32]
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
        texts, images, changes = [], [], []
        for place in positions:
            text, image, change = self._row(place)
            texts.append(text)
            images.append(image)
            changes.append(change)
        batch = self._inputs(texts, images)
        width, regions = batch["input_ids"].shape[1], batch["features"].shape[1] - 1
        batch["masked_positions"] = flattened([text.columns for text in texts], width)
        batch["predicted_regions"] = flattened([image.places for image in images], regions)
        if "mlm" in self._objectives:
            batch["masked_labels"] = np.concatenate([text.labels for text in texts])
        for name in self._region_targets:
            batch[name] = np.concatenate([image.targets[name] for image in images])
        if self._objectives & _NORMALISED:
            share = self._config.max_regions * self._config.region_mask_probability
            batch["region_normaliser"] = np.array(len(images) * share, dtype=np.float32)
        batch.update(self._labels(changes))
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is.

        input_ids, token_type_ids, attention_mask int64 [batch, text]; features float32
        [batch, 1 + regions, F] and locations float32 [batch, 1 + regions, 5], the whole image
        first; region_mask int64 [batch, 1 + regions]; with tasks task_ids int64 [batch, 1].
        """
        samples = {number: corpus[number] for number in set(images)}
        made = {number: self._image(sample) for number, sample in samples.items()}
        tags = {number: self._tags(corpus, sample) for number, sample in samples.items()}
        rows = [self._text(text, tags[number]) for number, text in zip(images, texts, strict=True)]
        batch = self._inputs(rows, [made[number] for number in images])
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _tags(self, of: Place | Corpus, sample: Sample) -> str:
        """Return the tags of `sample` as text, nothing where the model reads none."""
        config = self._config
        if not config.tags:
            return ""
        return self._source.tags(of, sample, config.tag_confidence, config.tag_attributes)

    def _row(self, place: Place) -> tuple[Text, Image, Change]:
        """Read the sample at `place`, exchange a text of it, and mask what is left."""
        source = self._source
        sample = source.sample(place)
        caption = source.caption(sample, source.chance(place, "caption").random())
        tags = self._tags(place, sample)
        change: Change = "nothing"
        if self._pollutes:
            chance = source.chance(place, "pollution")
            change = change_for(chance.random(), self._caption_share, bool(tags))
            caption, tags = self._exchange(place, sample, change, (caption, tags), chance)
        text_chance = source.chance(place, "masks") if "mlm" in self._objectives else None
        region_chance = source.chance(place, "regions") if self._region_targets else None
        text = self._text(caption, tags, text_chance, change)
        return text, self._image(sample, region_chance, change), change

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

    def _image(
        self,
        sample: Sample,
        chance: np.random.Generator | None = None,
        change: Change = "nothing",
    ) -> Image:
        """Return regions behind the whole image, with masked ones where `chance` is given."""
        config, meta = self._config, sample.meta
        regions = _first(sample.regions, config.max_regions)
        features = regions.float_features()
        corrupted, places = features, np.empty(0, dtype=np.intp)
        if chance is not None:
            corrupted, places = mask_regions(
                features, chance, config.region_mask_probability, ZERO_SHARE
            )
        whole = whole_image(corrupted, regions.boxes, places, config.global_feature)
        around = locations(regions.boxes, meta["width"], meta["height"], 5)
        if change == "caption" and not config.mask_loss_for_unmatched:
            places = places[:0]
        targets = {}
        if chance is not None:
            self._check_distribution(sample)
            targets = {name: _TARGETS[name](regions, features) for name in self._region_targets}
        return Image(
            features=np.concatenate([whole[None], corrupted]),
            locations=np.concatenate([PLACE[None], around]),
            places=places,
            targets={name: values[places] for name, values in targets.items()},
        )

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

    def _inputs(self, texts: Sequence[Text], images: Sequence[Image]) -> dict[str, Array]:
        """Return the padded inputs of the model."""
        config = self._config
        width = config.max_seq_length if self._as_published else 0
        regions = config.max_regions + 1 if self._as_published else 0
        ids, text_mask = padded([text.ids for text in texts], width, self._encoder.special.pad)
        features, region_mask = padded([image.features for image in images], regions)
        inputs = {
            "input_ids": ids,
            "token_type_ids": padded([text.segments for text in texts], width)[0],
            "attention_mask": text_mask,
            "features": features,
            "locations": padded([image.locations for image in images], regions)[0],
            "region_mask": region_mask,
        }
        if config.task_specific_tokens:
            inputs["task_ids"] = np.full((len(texts), 1), config.task, dtype=np.int64)
        return inputs


def _first(regions: Regions, count: int) -> Regions:
    """Return the first `count` regions."""
    arrays = {name: value for name, value in vars(regions).items() if value is not None}
    return Regions(**{name: value[:count] for name, value in arrays.items()})

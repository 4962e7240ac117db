"""ImageBERT's batches: `[CLS] text [SEP]` and regions, masked, and half of the pairs mismatched.

Qi et al. (2020), section 4. A wrong pair has another image or another text, one as often as the
other; it is masked like any other, since masks on right pairs alone would tell them apart, but
what is masked in it is not predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.corpus.regions import Regions
from pretrain.batches import checks
from pretrain.batches.layout import fill_text, text_length, truncated
from pretrain.batches.mask_tokens import Ids
from pretrain.batches.mask_units import masker
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import RETRIES
from pretrain.batches.region_targets import OBJECTIVES, RegionTargets
from pretrain.batches.row_batches import RowBatches
from pretrain.batches.row_places import RowPlaces, sight
from pretrain.batches.stored import FeatureForm, StoredRegions, assembled, tensors
from pretrain.batches.tokenise import TextEncoder
from pretrain.models.imagebert_config import ImageBertConfig
from pretrain.objectives import asked, check_objectives

LOCATION: Literal[5] = 5
Kind = Literal["match", "wrong image", "wrong text"]

_NOTHING: Ids = np.empty(0, dtype=np.int64)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """One pair on its way into a batch: the image's sample, the text as ids, whether they match."""

    image: Sample
    text: Ids
    tags: Ids
    matches: bool


class ImageBertBatches(RowBatches[Row]):
    """Makes padded batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` texts are padded to `max_seq_length` and regions to
    `max_regions`; else to the longest of the batch, which gives the same numbers; `packed`, they
    lie end to end without padding. Raises RequestError where objectives, tokenizer, model and
    corpora do not fit.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        tokenizer: PreTrainedTokenizerBase,
        config: ImageBertConfig,
        objectives: dict[str, float],
        seed: int,
        stage: str,
        as_published: bool = False,
        packed: bool = False,
    ) -> None:
        super().__init__(packed)
        check_objectives(objectives, config)
        self._encoder = TextEncoder(tokenizer)
        self._config = config
        self._objectives = asked(objectives)
        self._as_published = as_published
        self._source = PairSource(corpora, seed, stage)
        self._form = FeatureForm(corpora)
        self._mask = masker(
            tokenizer, config.mask_unit, config.mask_probability, config.max_seq_length
        )
        checks.check_vocabulary(self._encoder, config.vocab_size)
        for corpus in corpora:
            self._check(corpus)

    def _check(self, corpus: Corpus) -> None:
        """Raise RequestError where `corpus` lacks what an objective or the model needs."""
        config = self._config
        checks.check_features(corpus, config.img_feature_dim, "img_feature_dim")
        if "itm" in self._objectives:
            checks.check_others(corpus, "itm")
        if about_regions := sorted(self._objectives & OBJECTIVES):
            checks.check_field(corpus, "regions", about_regions)
        if self._objectives & {"moc", "moc-confidence"}:
            checks.check_classes(corpus, config.object_classes, "object_classes")
        if "moc-kl" in self._objectives:
            checks.check_distribution(corpus, config.object_classes, "object_classes")

    def _rows(self, positions: Sequence[Place]) -> list[Row]:
        """Return the rows of `positions`, their pairs drawn."""
        return list(map(self._drawn, positions, self._source.samples(positions)))

    def _batch(
        self, rows: Sequence[Row], positions: Sequence[Place], packed: bool
    ) -> dict[str, Array]:
        """Return the rows of `positions` as a batch, with the targets of the objectives.

        The inputs of `pairs`, masked_positions int64 [masked] and predicted_regions int64
        [predicted] included, and the targets of the objectives: masked_labels int64 [masked],
        match_labels int64 [batch] (1 for a match), those of `RegionTargets`.
        """
        batch = self._laid_out(rows, positions, packed)
        if "itm" in self._objectives:
            batch["match_labels"] = np.array([int(row.matches) for row in rows])
        return batch

    def _length(self, row: Row) -> int:
        """Return how many tokens and regions the model reads of `row`."""
        return sum(self._lengths(row))

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`.

        input_ids int64 [batch, text]; attention_mask int64 [batch, text + regions]; img_feats
        float32 [batch, regions, F]; img_locations float32 [batch, regions, 5]. Nothing is masked.
        """
        samples = {number: corpus[number] for number in set(images)}
        tags = {number: self._tags(corpus, sample) for number, sample in samples.items()}
        rows = [
            self._row(samples[number], text, tags[number], True)
            for number, text in zip(images, texts, strict=True)
        ]
        return assembled(tensors(self._laid_out(rows, None)))

    def _drawn(self, place: Place, sample: Sample) -> Row:
        """Return `sample`, at `place`, with another's image or text in half of the cases."""
        text = self._source.caption(sample, self._source.chance(place, "caption").random())
        if "itm" not in self._objectives:
            return self._row(sample, text, self._tags(place, sample), True)
        chance = self._source.chance(place, "negatives")
        kind = kind_for(chance.random())
        if kind == "match":
            return self._row(sample, text, self._tags(place, sample), True)
        other, found = sample, text
        for draw, which in chance.random((RETRIES, 2)):
            other = self._source.other(place, draw)
            found = self._source.caption(other, which)
            # A text that both images have would be a pair called wrong that is right.
            if text not in (caption["text"] for caption in other.meta["captions"]):
                break
        if kind == "wrong image":
            return self._row(other, text, self._tags(place, other), False)
        return self._row(sample, found, self._tags(place, sample), False)

    def _tags(self, of: Place | Corpus, image: Sample) -> str:
        """Return the tags of `image` as text, nothing where the model reads none."""
        config = self._config
        if not config.tags:
            return ""
        return self._source.tags(of, image, config.tag_confidence, config.tag_attributes)

    def _row(self, image: Sample, text: str, tags: str, matches: bool) -> Row:
        """Return a pair with its text and tags as ids, cut to fit."""
        ids, tag_ids = self._encoder.encode(text), self._encoder.encode(tags)
        kept, kept_tags = truncated(len(ids), len(tag_ids), self._config.max_seq_length)
        return Row(image, ids[:kept], tag_ids[:kept_tags], matches)

    def _lengths(self, row: Row) -> tuple[int, int]:
        """Return how many tokens and how many regions of `row` the model reads."""
        regions = min(self._config.max_regions, row.image.region_count)
        return text_length(len(row.text), len(row.tags)), regions

    def _laid_out(
        self, rows: Sequence[Row], positions: Sequence[Place] | None, packed: bool = False
    ) -> dict[str, Array]:
        """Return texts and regions of `rows`, masked by the chances of `positions` if there are."""
        lengths, counts = zip(*map(self._lengths, rows), strict=True)
        widest, most = max(lengths), max(1, *counts)
        if self._as_published:
            widest, most = self._config.max_seq_length, self._config.max_regions
        texts = RowPlaces.of(lengths, None if packed else widest)
        regions = RowPlaces.of(counts, None if packed else most)
        return {
            **self._texts(rows, positions, texts),
            **self._regions(rows, positions, regions),
            **sight(texts, regions),
        }

    def _predicted(self, row: Row) -> bool:
        return row.matches or not self._config.conditional_masking

    def _texts(
        self, rows: Sequence[Row], positions: Sequence[Place] | None, places: RowPlaces
    ) -> dict[str, Array]:
        """Return ids and masked places of the texts of `rows`."""
        special = self._encoder.special
        ids = np.full(places.total, special.pad, dtype=np.int64)
        segments = np.zeros_like(ids)
        masked: list[Ids] = [_NOTHING]
        labels: list[Ids] = [_NOTHING]
        for number, (row, first) in enumerate(zip(rows, places.starts.tolist(), strict=True)):
            start, end = special.start, special.separator
            columns = first + fill_text(
                ids[first:], segments[first:], row.text, row.tags, start, end
            )
            words = ids[columns]
            if positions is not None and "mlm" in self._objectives:
                chance = self._source.chance(positions[number], "masks")
                ids[columns], chosen = self._mask(words, chance)
                if self._predicted(row):
                    masked.append(columns[chosen])
                    labels.append(words[chosen])
        found: dict[str, Array] = {
            "input_ids": places.shaped(ids),
            "masked_positions": np.concatenate(masked),
        }
        if positions is not None and "mlm" in self._objectives:
            found["masked_labels"] = np.concatenate(labels)
        return found

    def _regions(
        self, rows: Sequence[Row], positions: Sequence[Place] | None, places: RowPlaces
    ) -> dict[str, Array]:
        """Return features, locations and targets of the regions of `rows`."""
        config = self._config
        samples = [row.image for row in rows]
        stored = StoredRegions(self._form, samples, places)
        objectives = self._objectives if positions is not None else ()
        targets = RegionTargets(objectives, config.region_mask_probability, config.img_feature_dim)
        for number, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            if not targets.wanted and sample.region_count <= config.max_regions:
                continue
            regions = surest(sample.regions, config.max_regions)
            if regions is not sample.regions:
                stored.put(stored.row(number), regions)
            if positions is not None and targets.wanted:
                chance = self._source.chance(positions[number], "regions")
                targets.mask(stored, number, regions, chance, self._predicted(row))
        return {
            **stored.arrays("img_feats"),
            "img_locations": stored.locations([sample.meta for sample in samples], LOCATION),
            **targets.arrays(config.object_classes),
        }


def kind_for(draw: float) -> Kind:
    """Return what becomes of a pair that drew `draw` in [0, 1): half stay, half are mismatched."""
    if draw >= 0.5:
        return "match"
    return "wrong image" if draw < 0.25 else "wrong text"


def surest(regions: Regions, limit: int) -> Regions:
    """Return the `limit` regions of highest confidence, in stored order; all if they are fewer."""
    if len(regions) <= limit:
        return regions
    confident = np.argsort(-regions.object_conf.astype(np.float32), kind="stable")
    kept = np.sort(confident[:limit])
    return regions.part(kept)

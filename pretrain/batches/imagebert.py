"""ImageBERT's batches: `[CLS] text [SEP]` and regions, masked, and half of the pairs mismatched.

Qi et al. (2020), section 4. A wrong pair has another image or another text, one as often as the
other; it is masked like any other, since masks on right pairs alone would tell them apart, but
what is masked in it is not predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.corpus.regions import Regions
from pretrain.batches import checks
from pretrain.batches.geometry import locations
from pretrain.batches.layout import fill_text, text_length, truncated
from pretrain.batches.mask_tokens import Ids
from pretrain.batches.mask_units import masker
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import RETRIES
from pretrain.batches.region_targets import OBJECTIVES, RegionTargets
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
    regions: Regions
    text: Ids
    tags: Ids
    matches: bool


class ImageBertBatches:
    """Makes padded batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` texts are padded to `max_seq_length` and regions to
    `max_regions`; else to the longest of the batch, which gives the same numbers. Raises
    RequestError where objectives, tokenizer, model and corpora do not fit.
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
    ) -> None:
        check_objectives(objectives, config)
        self._encoder = TextEncoder(tokenizer)
        self._config = config
        self._objectives = asked(objectives)
        self._as_published = as_published
        self._source = PairSource(corpora, seed, stage)
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

    def make(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`.

        The inputs of `pairs`, masked_positions int64 [masked] and predicted_regions int64
        [predicted] included, and the targets of the objectives: masked_labels int64 [masked],
        match_labels int64 [batch] (1 for a match), those of `RegionTargets`.
        """
        rows = [self._drawn(place) for place in positions]
        batch = self._laid_out(rows, positions)
        if "itm" in self._objectives:
            batch["match_labels"] = np.array([int(row.matches) for row in rows])
        return {name: torch.from_numpy(array) for name, array in batch.items()}

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
        batch = self._laid_out(rows, None)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _drawn(self, place: Place) -> Row:
        """Read the sample at `place`, with another's image or text in half of the cases."""
        sample = self._source.sample(place)
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
        """Return a pair with its text and tags as ids and its regions, all cut to fit."""
        ids, tag_ids = self._encoder.encode(text), self._encoder.encode(tags)
        kept, kept_tags = truncated(len(ids), len(tag_ids), self._config.max_seq_length)
        regions = surest(image.regions, self._config.max_regions)
        return Row(image, regions, ids[:kept], tag_ids[:kept_tags], matches)

    def _laid_out(self, rows: Sequence[Row], positions: Sequence[Place] | None) -> dict[str, Array]:
        """Return texts and regions of `rows`, masked by the chances of `positions` if there are."""
        texts = self._texts(rows, positions)
        regions = self._regions(rows, positions)
        mask = np.concatenate([texts.pop("text_mask"), regions.pop("region_mask")], axis=1)
        return {**texts, **regions, "attention_mask": mask}

    def _predicted(self, row: Row) -> bool:
        return row.matches or not self._config.conditional_masking

    def _texts(self, rows: Sequence[Row], positions: Sequence[Place] | None) -> dict[str, Array]:
        """Return ids, mask and masked places of the texts of `rows`."""
        special = self._encoder.special
        lengths = [text_length(len(row.text), len(row.tags)) for row in rows]
        width = self._config.max_seq_length if self._as_published else max(lengths)
        ids = np.full((len(rows), width), special.pad, dtype=np.int64)
        segments = np.zeros(width, dtype=np.int64)
        masked: list[Ids] = [_NOTHING]
        labels: list[Ids] = [_NOTHING]
        for number, row in enumerate(rows):
            start, end = special.start, special.separator
            columns = fill_text(ids[number], segments, row.text, row.tags, start, end)
            words = ids[number, columns]
            if positions is not None and "mlm" in self._objectives:
                chance = self._source.chance(positions[number], "masks")
                ids[number, columns], chosen = self._mask(words, chance)
                if self._predicted(row):
                    masked.append(number * width + columns[chosen])
                    labels.append(words[chosen])
        found: dict[str, Array] = {
            "input_ids": ids,
            "text_mask": (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64),
            "masked_positions": np.concatenate(masked),
        }
        if positions is not None and "mlm" in self._objectives:
            found["masked_labels"] = np.concatenate(labels)
        return found

    def _regions(self, rows: Sequence[Row], positions: Sequence[Place] | None) -> dict[str, Array]:
        """Return features, locations, mask and targets of the regions of `rows`."""
        config = self._config
        counts = [len(row.regions) for row in rows]
        width = config.max_regions if self._as_published else max(1, *counts)
        features = np.zeros((len(rows), width, config.img_feature_dim), dtype=np.float32)
        places = np.zeros((len(rows), width, LOCATION), dtype=np.float32)
        objectives = self._objectives if positions is not None else ()
        targets = RegionTargets(objectives, config.region_mask_probability, config.img_feature_dim)
        for number, (row, count) in enumerate(zip(rows, counts, strict=True)):
            meta, own = row.image.meta, features[number, :count]
            own[:] = row.regions.float_features()
            places[number, :count] = locations(
                row.regions.boxes, meta["width"], meta["height"], LOCATION
            )
            if positions is not None:
                chance = self._source.chance(positions[number], "regions")
                targets.mask(own, row.regions, chance, number * width, self._predicted(row))
        return {
            "img_feats": features,
            "img_locations": places,
            "region_mask": (np.arange(width) < np.array(counts)[:, None]).astype(np.int64),
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
    arrays: dict[str, Any] = {field.name: getattr(regions, field.name) for field in fields(regions)}
    chosen: dict[str, Any] = {name: None if a is None else a[kept] for name, a in arrays.items()}
    return Regions(**chosen)

"""Makes batches: reads samples, pollutes, masks and lays them out, each by its own chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus, Sample
from pretrain.batches.layout import GEOMETRY, fill_regions, fill_text, text_length, truncated
from pretrain.batches.mask_tokens import mask_tokens
from pretrain.batches.pollute import (
    CLEAN_ABOVE,
    RETRIES,
    Change,
    change_for,
    contrast_label,
    match_label,
    other_sample,
)
from pretrain.batches.tags import tag_text
from pretrain.batches.tokenise import Ids, TextEncoder
from pretrain.models.oscar_config import OscarConfig
from pretrain.objectives import check_objectives
from trawl.chance import generator
from trawl.errors import RequestError

Place = tuple[int, int, int, int]
"""Corpus, sample in it, epoch, and position in the stage (`order.Position`)."""


@dataclass
class Row:
    """One sample on its way into a batch: its texts as ids, and what was done to them."""

    sample: Sample
    caption: Ids
    tags: Ids
    change: Change


class BatchMaker:
    """Makes padded batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` the text is padded to the model's `max_seq_length` and
    the regions to `max_regions`; else to the longest of the batch, which gives the same numbers,
    because padding is masked. Raises RequestError where the objectives do not fit.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        tokenizer: PreTrainedTokenizerBase,
        model_config: OscarConfig,
        objectives: dict[str, float],
        seed: int,
        stage: str,
        as_published: bool = False,
    ) -> None:
        check_objectives(objectives, model_config)
        self._corpora = list(corpora)
        self._encoder = TextEncoder(tokenizer)
        self._config = model_config
        self._objectives = objectives
        self._key = (seed, stage)
        self._as_published = as_published
        self._pollutes = "contrast" in objectives or "itm" in objectives
        # Without the contrast there are two kinds of pairs alone, half and half.
        both = "contrast" in objectives
        self._caption_share = float(model_config.texta_false_prob) if both else CLEAN_ABOVE
        self._check()

    def _check(self) -> None:
        """Raise RequestError where tokenizer or corpora do not fit the model."""
        config = self._config
        if self._encoder.words > config.vocab_size:
            raise RequestError(
                f"the tokenizer has {self._encoder.words} entries and model.config.vocab_size is "
                f"{config.vocab_size}; make it as large"
            )
        for corpus in self._corpora:
            if self._pollutes and len(corpus) < 2:
                raise RequestError(
                    f"{corpus.uri}: {len(corpus)} samples; contrast and itm take texts of other "
                    "samples and need two at least"
                )
            width = corpus.manifest.detector.feature_size + GEOMETRY
            if width != config.img_feature_dim:
                raise RequestError(
                    f"{corpus.uri}: {width - GEOMETRY}-d features, and the model reads vectors of "
                    f"{config.img_feature_dim}; set model.config.img_feature_dim to {width}"
                )

    def _chance(self, place: Place, purpose: str) -> np.random.Generator:
        """Return the generator of one sample in one epoch for one purpose."""
        corpus, sample, epoch, _ = place
        return generator(*self._key, epoch, corpus, sample, purpose)

    def _caption(self, sample: Sample, draw: float) -> str:
        """Return one of the captions of `sample`, chosen evenly by `draw` in [0, 1)."""
        captions = sample.meta["captions"]
        text: str = captions[int(draw * len(captions))]["text"]
        return text

    def _tags(self, corpus: Corpus, sample: Sample) -> str:
        config = self._config
        detector = corpus.manifest.detector
        return tag_text(sample, detector, config.tag_confidence, config.tag_attributes)

    def _row(self, place: Place) -> Row:
        """Read the sample at `place`, exchange caption or tags, and cut both to fit."""
        corpus = self._corpora[place[0]]
        sample = corpus[place[1]]
        caption = self._caption(sample, self._chance(place, "caption").random())
        tags = self._tags(corpus, sample)
        change: Change = "nothing"
        if self._pollutes:
            chance = self._chance(place, "pollution")
            change = change_for(chance.random(), self._caption_share, bool(tags))
            if change != "nothing":
                caption, tags = self._exchange(corpus, place[1], change, (caption, tags), chance)
        caption_ids, tag_ids = self._encoder.encode(caption), self._encoder.encode(tags)
        limit = self._config.max_seq_length
        kept, kept_tags = truncated(len(caption_ids), len(tag_ids), limit)
        return Row(sample, caption_ids[:kept], tag_ids[:kept_tags], change)

    def _exchange(
        self,
        corpus: Corpus,
        own: int,
        change: Change,
        texts: tuple[str, str],
        chance: np.random.Generator,
    ) -> tuple[str, str]:
        """Return caption and tags, one of them from another sample of the same corpus.

        Draws again, ten times at most, while the other text is empty or equal to the own one: it
        would be a pair called wrong that is right.
        """
        caption, tags = texts
        for draw, which in chance.random((RETRIES, 2)):
            other = corpus[other_sample(draw, own, len(corpus))]
            if change == "caption":
                found = self._caption(other, which)
                texts = found, tags
                if found != caption:
                    break
            else:
                found = self._tags(corpus, other)
                texts = caption, found or tags
                if found not in ("", tags):
                    break
        return texts

    def make(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`.

        input_ids, token_type_ids int64 [batch, text]; attention_mask int64 [batch, text + regions];
        img_feats float32 [batch, regions, 2054]; masked_positions int64 [masked], places in the
        flattened text; and the targets of the objectives: masked_labels int64 [masked],
        contrast_labels and match_labels int64 [batch].
        """
        rows = [self._row(place) for place in positions]
        batch: dict[str, npt.NDArray[Any]] = {**self._texts(rows, positions)}
        features, region_mask = self._regions(rows)
        text_mask = batch.pop("text_mask")
        batch["img_feats"] = features
        batch["attention_mask"] = np.concatenate([text_mask, region_mask], axis=1)
        if "contrast" in self._objectives:
            classes = self._config.num_contrast_classes or 2
            batch["contrast_labels"] = np.array(
                [contrast_label(row.change, classes) for row in rows]
            )
        if "itm" in self._objectives:
            batch["match_labels"] = np.array([match_label(row.change) for row in rows])
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _texts(
        self, rows: Sequence[Row], positions: Sequence[Place]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Return ids, segments, mask and masked places of the texts of `rows`."""
        special = self._encoder.special
        lengths = [text_length(len(row.caption), len(row.tags)) for row in rows]
        width = self._config.max_seq_length if self._as_published else max(lengths)
        ids = np.full((len(rows), width), special.pad, dtype=np.int64)
        segments = np.zeros_like(ids)
        masked: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        labels: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        for number, (row, place) in enumerate(zip(rows, positions, strict=True)):
            columns = fill_text(
                ids[number],
                segments[number],
                row.caption,
                row.tags,
                special.start,
                special.separator,
            )
            if "mlm" in self._objectives:
                whole = ids[number, columns]
                changed, chosen = mask_tokens(
                    whole,
                    self._chance(place, "masks"),
                    self._config.mask_probability,
                    special.mask,
                    self._encoder.words,
                )
                ids[number, columns] = changed
                if row.change == "tags" and not self._config.mask_loss_for_unmatched:
                    chosen = chosen[chosen < len(row.caption)]
                masked.append(number * width + columns[chosen])
                labels.append(whole[chosen])
        found = {
            "input_ids": ids,
            "token_type_ids": segments,
            "text_mask": (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64),
            "masked_positions": np.concatenate(masked),
        }
        if "mlm" in self._objectives:
            found["masked_labels"] = np.concatenate(labels)
        return found

    def _regions(
        self, rows: Sequence[Row]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the vectors of the regions [batch, regions, 2054] and their mask."""
        limit = self._config.max_regions
        counts = [min(limit, len(row.sample.regions)) for row in rows]
        width = limit if self._as_published else max(1, *counts)
        features = np.zeros((len(rows), width, self._config.img_feature_dim), dtype=np.float32)
        for number, row in enumerate(rows):
            meta = row.sample.meta
            fill_regions(features[number], row.sample.regions, meta["width"], meta["height"])
        mask = (np.arange(width) < np.array(counts)[:, None]).astype(np.int64)
        return features, mask

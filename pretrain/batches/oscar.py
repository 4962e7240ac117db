"""Oscar's batches: samples read, polluted, masked and laid out, each by its own chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus, Sample
from pretrain.batches import checks
from pretrain.batches.layout import GEOMETRY, fill_text, text_length, truncated
from pretrain.batches.mask_tokens import Ids
from pretrain.batches.mask_units import masker
from pretrain.batches.oscar_texts import OscarTexts, Texts
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import Change, contrast_label, match_label
from pretrain.batches.region_targets import OBJECTIVES, RegionTargets
from pretrain.batches.row_batches import RowBatches
from pretrain.batches.row_places import RowPlaces, sight
from pretrain.batches.stored import BEHIND, FeatureForm, StoredRegions, assembled, tensors
from pretrain.batches.tokenise import TextEncoder
from pretrain.models.oscar_config import OscarConfig
from pretrain.objectives import asked, check_objectives

Array = npt.NDArray[Any]


@dataclass
class Row:
    """One sample on its way into a batch: its texts as ids, and what was done to them."""

    sample: Sample
    caption: Ids
    tags: Ids
    change: Change


class OscarBatches(RowBatches[Row]):
    """Makes padded batches of places for the objectives of one stage.

    What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone, never on the
    batch that it is in. With `as_published` the text is padded to the model's `max_seq_length` and
    the regions to `max_regions`; else to the longest of the batch, which gives the same numbers,
    because padding is masked; `packed`, rows lie end to end without padding. Raises RequestError
    where objectives, tokenizer, model and corpora do not fit.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        tokenizer: PreTrainedTokenizerBase,
        config: OscarConfig,
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
        self._drawn = OscarTexts(self._source, config, self._objectives)
        self._mask = masker(
            tokenizer, config.mask_unit, config.mask_probability, config.max_seq_length
        )
        self._check()

    def _check(self) -> None:
        """Raise RequestError where tokenizer or corpora do not fit the model or the objectives."""
        config = self._config
        about_regions = sorted(self._objectives & OBJECTIVES)
        checks.check_vocabulary(self._encoder, config.vocab_size)
        for corpus in self._source.corpora:
            checks.check_features(corpus, config.img_feature_dim, "img_feature_dim", GEOMETRY)
            if self._drawn.pollutes:
                checks.check_others(corpus, sorted(self._objectives & {"contrast", "itm"}))
            if "contrast" in self._objectives and config.tag_source != "none":
                checks.check_field(corpus, "tags", "contrast")
            if "contrast" in self._objectives and config.textb_sample_mode == 2:
                checks.check_field(corpus, "questions", "textb_sample_mode 2 of contrast")
            if about_regions:
                checks.check_field(corpus, "regions", about_regions)
            if self._objectives & {"moc", "moc-confidence"}:
                checks.check_classes(corpus, config.object_classes, "object_classes")
            if "moc-kl" in self._objectives:
                checks.check_distribution(corpus, config.object_classes, "object_classes")

    def _rows(self, positions: Sequence[Place]) -> list[Row]:
        """Return the rows of `positions`, their texts drawn."""
        samples = self._source.samples(positions)
        drawn = map(self._drawn.at, positions, samples)
        return list(map(self._row, drawn))

    def _batch(
        self, rows: Sequence[Row], positions: Sequence[Place], packed: bool
    ) -> dict[str, Array]:
        """Return the rows of `positions` as a batch, with the targets of the objectives.

        input_ids, token_type_ids int64 [batch, text]; attention_mask int64
        [batch, text + regions]; img_feats float32 [batch, regions, 2054]; masked_positions int64
        [masked] and, with heads of regions, predicted_regions int64 [predicted]: places in the
        flattened text and regions; and the targets of the objectives: masked_labels int64 [masked],
        contrast_labels and match_labels int64 [batch], those of `RegionTargets`.
        """
        batch = self._laid_out(rows, positions, packed)
        if "contrast" in self._objectives:
            classes = self._config.num_contrast_classes or 2
            labels = [contrast_label(row.change, classes) for row in rows]
            batch["contrast_labels"] = np.array(labels)
        if "itm" in self._objectives:
            batch["match_labels"] = np.array([match_label(row.change) for row in rows])
        return batch

    def _length(self, row: Row) -> int:
        """Return how many tokens and regions the model reads of `row`."""
        return sum(self._lengths(row))

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus`, its tags, and `texts[i]`.

        As `make` gives it, but nothing is masked or polluted and there are no targets.
        """
        samples = {number: corpus[number] for number in set(images)}
        tags = {number: self._drawn.tags(corpus, sample) for number, sample in samples.items()}
        rows = [
            self._row(Texts(samples[number], text, tags[number]))
            for number, text in zip(images, texts, strict=True)
        ]
        return assembled(tensors(self._laid_out(rows, None)))

    def _row(self, texts: Texts) -> Row:
        """Return the texts of a sample as ids, cut to fit."""
        caption, tags = self._encoder.encode(texts.caption), self._encoder.encode(texts.tags)
        kept, kept_tags = truncated(len(caption), len(tags), self._config.max_seq_length)
        return Row(texts.sample, caption[:kept], tags[:kept_tags], texts.change)

    def _lengths(self, row: Row) -> tuple[int, int]:
        """Return how many tokens and how many regions of `row` the model reads."""
        regions = min(self._config.max_regions, row.sample.region_count)
        return text_length(len(row.caption), len(row.tags)), regions

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

    def _texts(
        self, rows: Sequence[Row], positions: Sequence[Place] | None, places: RowPlaces
    ) -> dict[str, Array]:
        """Return ids, segments and masked places of the texts of `rows`."""
        special = self._encoder.special
        ids = np.full(places.total, special.pad, dtype=np.int64)
        segments = np.zeros_like(ids)
        masked: list[Ids] = [np.empty(0, dtype=np.int64)]
        labels: list[Ids] = [np.empty(0, dtype=np.int64)]
        for number, (row, first) in enumerate(zip(rows, places.starts.tolist(), strict=True)):
            columns = first + fill_text(
                ids[first:],
                segments[first:],
                row.caption,
                row.tags,
                special.start,
                special.separator,
            )
            if positions is not None and "mlm" in self._objectives:
                whole = ids[columns]
                chance = self._source.chance(positions[number], "masks")
                ids[columns], chosen = self._masked(row, whole, chance)
                masked.append(columns[chosen])
                labels.append(whole[chosen])
        found = {
            "input_ids": places.shaped(ids),
            "token_type_ids": places.shaped(segments),
            "masked_positions": np.concatenate(masked),
        }
        if positions is not None and "mlm" in self._objectives:
            found["masked_labels"] = np.concatenate(labels)
        return found

    def _masked(
        self, row: Row, whole: Ids, chance: np.random.Generator
    ) -> tuple[Ids, npt.NDArray[np.intp]]:
        """Return the tokens of a row corrupted, and the places that are to be predicted."""
        config = self._config
        changed, chosen = self._mask(whole, chance)
        in_tags = chosen >= len(row.caption)
        if config.conditional_masking and row.change != "nothing":
            chosen = chosen[:0]
        elif config.mask_loss_for_unmatched or row.change == "nothing":
            pass
        elif config.unmatched_masking == "sound":
            chosen = chosen[in_tags == (row.change == "caption")]
        elif row.change == "tags":
            chosen = chosen[~in_tags]
            changed[len(row.caption) :] = whole[len(row.caption) :]
        return changed, chosen

    def _regions(
        self, rows: Sequence[Row], positions: Sequence[Place] | None, places: RowPlaces
    ) -> dict[str, Array]:
        """Return features and geometry [batch, regions, ...], and the targets of regions."""
        config = self._config
        samples = [row.sample for row in rows]
        stored = StoredRegions(self._form, samples, places)
        objectives = self._objectives if positions is not None else ()
        targets = RegionTargets(
            objectives, config.region_mask_probability, config.img_feature_dim - GEOMETRY
        )
        for number, row in enumerate(rows) if targets.wanted else ():
            chance = self._source.chance(positions[number], "regions")  # type: ignore[index]
            predicted = row.change == "nothing" or not config.conditional_masking
            targets.mask(stored, number, row.sample.regions, chance, predicted)
        geometry = stored.locations([sample.meta for sample in samples], GEOMETRY)
        found = {**stored.arrays("img_feats"), "img_feats" + BEHIND: geometry}
        if config.object_classes or config.feature_head:
            found.update(targets.arrays(config.object_classes))
        return found

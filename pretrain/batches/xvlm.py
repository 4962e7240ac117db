"""Makes X-VLM's batches: images with captions, and images with phrases about their regions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from data_pipeline.images import ImageError, decode
from pretrain.batches import checks
from pretrain.batches.augment import (
    Pixels,
    cropped,
    normalised,
    random_augment,
    random_crop,
    resized,
)
from pretrain.batches.mask_spans import SpanRule, mask_spans
from pretrain.batches.mask_tokens import word_beginnings
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.plain_words import plain_words
from pretrain.batches.region_concepts import (
    Concept,
    ViewRule,
    box_target,
    mirrors,
    patch_mask,
    phrases_of,
    region_view,
)
from pretrain.batches.remembered import Remembered
from pretrain.batches.row_places import RowPlaces
from pretrain.batches.tokenise import Ids, TextEncoder
from pretrain.models.xvlm_config import XvlmConfig
from pretrain.objectives import asked, check_objectives
from trawl.chance import generator, seed_of
from trawl.errors import RequestError, WorkError

MAX_PIXELS = 50_000_000
"""Larger images are refused by their header, as the corpus pipeline does."""
_REMEMBERED_IMAGES = 256

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One row of a batch: a concept of the sample at `place`, shown in image `image` of it."""

    place: Place
    image: int
    concept: Concept


class XvlmBatches:
    """Makes batches of places for the objectives of one stage.

    Of the micro-batches `region_share` are made of regions, if bbox is learned: which, depends on
    (seed, stage, first position) alone. Such a batch shows some of its samples, each with several
    texts, and has as many rows as any other; where no sample has phrases, images and captions are
    taken. What happens to a sample depends on (seed, stage, epoch, corpus, sample) alone; only
    which of the concepts of a region batch are left out depends on the others in it. With
    `as_published` texts are padded to `max_seq_length`, else to the longest of the batch, which
    gives the same numbers; `packed`, they lie end to end without padding. Raises RequestError
    where objectives, tokenizer and corpora do not fit.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        tokenizer: PreTrainedTokenizerBase,
        config: XvlmConfig,
        objectives: dict[str, float],
        seed: int,
        stage: str,
        as_published: bool = False,
        packed: bool = False,
    ) -> None:
        check_objectives(objectives, config)
        self._source = PairSource(corpora, seed, stage)
        self._encoder = TextEncoder(tokenizer)
        self._config = config
        self._objectives = asked(objectives)
        self._kind_key = (seed, stage, "kind of batch")
        self._as_published = as_published
        self._packed = packed
        self._continues = ~word_beginnings(tokenizer)
        self._mask_rule = SpanRule(
            config.mask_probability, config.max_masks, config.span_probability, config.span_size
        )
        self._view_rule = ViewRule(
            config.image_size,
            config.max_regions_per_image,
            config.least_area,
            config.flips == "sound",
            config.augmentations,
        )
        self._whole_image = Remembered(self._read_whole_image, _REMEMBERED_IMAGES)
        self._check(corpora, sorted(objectives))

    def _check(self, corpora: Sequence[Corpus], objectives: list[str]) -> None:
        """Raise RequestError where tokenizer or corpora do not fit."""
        checks.check_vocabulary(self._encoder, self._config.vocab_size)
        for corpus in corpora:
            checks.check_field(corpus, "images", objectives or "X-VLM")
        # One corpus of a mixture with phrases is enough, as in the published mixture.
        if "bbox" in self._objectives:
            lacking = [corpus for corpus in corpora if not checks.has(corpus, "regions_text")]
            if len(lacking) == len(corpora):
                checks.check_field(lacking[0], "regions_text", "bbox")

    def make(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`.

        pixel_values float32 [images, 3, side, side]; input_ids, attention_mask int64 [batch, text];
        of a region batch idx_to_group_img int64 [batch], the image of each row, and image_atts
        int64 [batch, 1 + patches], the patches of its region; masked_input_ids int64
        [batch, text] and masked_positions int64 [masked], places in the flattened text;
        negative_draws float32 [batch, 2]; and the targets of the objectives: masked_labels int64
        [masked], box_targets float32 [batch, 4], box_valid float32 [batch], 0 for whole images,
        and with region_padding "sound" match_groups int64 [batch].
        """
        return self._made(positions, False)

    def make_stored(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return what `make` does, packed if wanted: no features of regions are in it.

        Packed, ids have one row that holds all texts end to end, and row_lengths int64 [1, batch]
        has the tokens of each, instead of a mask.
        """
        return self._made(positions, self._packed)

    def lengths(self, positions: Sequence[Place]) -> list[int]:
        """Return how many tokens and patches each of `positions` has, with its whole image."""
        patches = 1 + self._config.patch_grid**2
        captions = (
            self._source.caption(
                self._source.sample(place), self._source.chance(place, "caption").random()
            )
            for place in positions
        )
        return [patches + len(self._framed(self._encode(caption))) for caption in captions]

    def _made(self, positions: Sequence[Place], packed: bool) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`, its texts padded or packed."""
        if "itm-hard" in self._objectives and len(positions) < 2:
            raise RequestError(
                "objectives: itm-hard takes negatives from the micro-batch, and this one has "
                "one sample; set batch.micro_batch to two at least"
            )
        images, rows = (
            self._region_rows(positions) if self._is_region_batch(positions) else ([], [])
        )
        batch: Arrays = {}
        if rows:
            batch = self._regions(rows)
        else:
            images, rows = self._whole_rows(positions)
        batch["pixel_values"] = np.stack([normalised(image) for image in images])
        batch.update(self._texts(rows, packed))
        batch.update(self._targets(rows))
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def pairs(
        self, corpus: Corpus, images: Sequence[int], texts: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is.

        pixel_values, input_ids, attention_mask and idx_to_group_img as `make` returns them; each
        image is there once.
        """
        places = {number: place for place, number in enumerate(dict.fromkeys(images))}
        shown = [self._whole_image(corpus, number) for number in places]
        framed = [self._framed(self._encode(text)) for text in texts]
        lying = self._places(framed, False)
        batch: Arrays = {
            "pixel_values": np.stack(shown),
            "input_ids": lying.laid(framed, self._encoder.special.pad),
            "attention_mask": lying.mask(),
            "idx_to_group_img": np.array([places[number] for number in images]),
        }
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _is_region_batch(self, positions: Sequence[Place]) -> bool:
        if "bbox" not in self._objectives:
            return False
        draw = generator(*self._kind_key, positions[0][3]).random()
        return bool(draw < self._config.region_share)

    def _pixels(self, corpus: Corpus, number: int) -> Pixels:
        """Return the pixels of a sample's image; WorkError names it if they cannot be had."""
        data = corpus.image(number)
        if data is None:
            raise WorkError(f"{corpus.uri}: sample {number} has no image; run corpus verify")
        try:
            return decode(data, MAX_PIXELS)
        except ImageError as error:
            key = corpus[number].key
            raise WorkError(f"{corpus.uri}: image of {key}: {error}; run corpus verify") from error

    def _read_whole_image(self, corpus: Corpus, number: int) -> npt.NDArray[np.float32]:
        return normalised(resized(self._pixels(corpus, number), self._config.image_size))

    def _whole_rows(self, positions: Sequence[Place]) -> tuple[list[Pixels], list[Row]]:
        """Return the augmented images of `positions`, each with one caption."""
        images, rows = [], []
        for number, place in enumerate(positions):
            source = self._source
            caption = source.caption(source.sample(place), source.chance(place, "caption").random())
            chance = source.chance(place, "augmentation")
            image = self._pixels(source.corpus(place), place[1])
            height, width = image.shape[:2]
            crop = random_crop(width, height, chance, self._config.least_crop)
            view = resized(cropped(image, crop), self._config.image_size)
            if mirrors([caption], self._view_rule.careful, chance.random()):
                view = np.ascontiguousarray(view[:, ::-1])
            images.append(random_augment(view, chance, operations=self._config.augmentations))
            rows.append(Row(place, number, Concept(0, caption, None)))
        return images, rows

    def _region_rows(self, positions: Sequence[Place]) -> tuple[list[Pixels], list[Row]]:
        """Return the first images with phrases and as many concepts of them as positions.

        Too many are thinned out evenly, too few are repeated; both lists are empty if this is not
        to be a region batch, or no sample has phrases.
        """
        if not self._is_region_batch(positions):
            return [], []
        wanted = max(1, round(self._config.region_images * len(positions)))
        images: list[Pixels] = []
        found: list[tuple[float, Row]] = []
        for place in positions:
            if len(images) == wanted:
                break
            image, concepts = self._view(place)
            if concepts:
                draws = self._source.chance(place, "kept").random(len(concepts))
                rows = [Row(place, len(images), concept) for concept in concepts]
                found.extend(zip(draws, rows, strict=True))
                images.append(image)
        if not found:
            return [], []
        kept = [row for _, row in sorted(found, key=lambda entry: entry[0])[: len(positions)]]
        seen = sorted({row.image for row in kept})
        kept = [replace(row, image=seen.index(row.image)) for row in kept]
        repeated = [kept[number % len(kept)] for number in range(len(positions))]
        return [images[number] for number in seen], repeated

    def _view(self, place: Place) -> tuple[Pixels, list[Concept]]:
        """Return a view of the image at `place` and its concepts, none if it has no phrases."""
        source = self._source
        sample = source.sample(place)
        if not sample.meta.get("regions_text"):
            return np.empty((0, 0, 3), dtype=np.uint8), []
        image = self._pixels(source.corpus(place), place[1])
        phrases = phrases_of(sample.meta, image.shape[1], image.shape[0])
        if not phrases:
            return image, []
        caption = source.caption(sample, source.chance(place, "caption").random())
        return region_view(
            image, caption, phrases, self._view_rule, source.chance(place, "augmentation")
        )

    def _regions(self, rows: Sequence[Row]) -> Arrays:
        """Return the image and the patches of each row of a region batch."""
        side, grid = self._config.image_size, self._config.patch_grid
        return {
            "idx_to_group_img": np.array([row.image for row in rows]),
            "image_atts": np.stack([patch_mask(row.concept.box, side, grid) for row in rows]),
        }

    def _encode(self, text: str) -> Ids:
        """Return the ids of `text` without special tokens, cut to fit."""
        room = self._config.max_seq_length - (2 if self._config.text_end == "sound" else 1)
        return self._encoder.encode(plain_words(text, self._config.max_words))[:room]

    def _framed(self, ids: Ids) -> Ids:
        """Return `ids` after [CLS], and before [SEP] where texts end with one."""
        special = self._encoder.special
        end = [special.separator] if self._config.text_end == "sound" else []
        return np.array([special.start, *ids, *end], dtype=np.int64)

    def _places(self, texts: Sequence[Ids], packed: bool) -> RowPlaces:
        """Return where `texts` lie."""
        lengths = list(map(len, texts))
        width = self._config.max_seq_length if self._as_published else max(lengths)
        return RowPlaces.of(lengths, None if packed else width)

    def _texts(self, rows: Sequence[Row], packed: bool) -> Arrays:
        """Return ids and mask of the texts of `rows`, and the masked ones for their own pass."""
        texts = [self._encode(row.concept.text) for row in rows]
        framed, padding = list(map(self._framed, texts)), self._encoder.special.pad
        lying = self._places(framed, packed)
        found: Arrays = {"input_ids": lying.laid(framed, padding)}
        if packed:
            found["row_lengths"] = lying.lengths[None]
        else:
            found["attention_mask"] = lying.mask()
        if "mlm" in self._objectives:
            columns, labels = [], []
            for row, text, whole in zip(rows, texts, framed, strict=True):
                chance = self._source.chance(row.place, f"masks {row.concept.number}")
                changed, chosen = mask_spans(
                    text,
                    self._continues[text],
                    chance,
                    self._mask_rule,
                    self._encoder.special.mask,
                    self._encoder.words,
                )
                whole[1 : len(text) + 1] = changed
                columns.append(1 + chosen)
                labels.append(text[chosen])
            found["masked_input_ids"] = lying.laid(framed, padding)
            found["masked_positions"] = lying.flattened(columns)
            found["masked_labels"] = np.concatenate(labels)
        return found

    def _targets(self, rows: Sequence[Row]) -> Arrays:
        """Return what else the objectives take of `rows`."""
        found: Arrays = {}
        if "itm-hard" in self._objectives:
            draws = [
                self._source.chance(row.place, f"negatives {row.concept.number}").random(2)
                for row in rows
            ]
            found["negative_draws"] = np.array(draws, dtype=np.float32)
        if "bbox" in self._objectives:
            side = self._config.image_size
            found["box_targets"] = np.stack([box_target(row.concept.box, side) for row in rows])
            found["box_valid"] = np.array(
                [row.concept.box is not None for row in rows], dtype=np.float32
            )
        if self._config.region_padding == "sound":
            found["match_groups"] = np.array(
                [seed_of(*row.place[:2], row.concept.number) for row in rows], dtype=np.int64
            )
        return found

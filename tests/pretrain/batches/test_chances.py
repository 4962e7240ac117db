"""What chance does to samples, counted over more than 1e5 draws: masks and pollution."""

from collections import Counter

import numpy as np
import pytest

from pretrain.batches.imagebert import kind_for
from pretrain.batches.mask_tokens import mask_tokens, word_beginnings
from pretrain.batches.mask_units import masker
from pretrain.batches.pollute import (
    change_for,
    contrast_classes,
    contrast_label,
    match_label,
    other_sample,
)
from pretrain.batches.tokenise import train_tokenizer
from trawl.chance import generator
from trawl.errors import WorkError

DRAWS = 200_000
WORDS, MASK = 1000, 4


def test_masks_are_fifteen_percent_and_split_80_10_10() -> None:
    chance = generator("masks", 0)
    ids = np.full(DRAWS, 500)
    corrupted, places = mask_tokens(ids, chance, 0.15, MASK, WORDS)
    assert len(places) / DRAWS == pytest.approx(0.15, abs=0.003)
    assert np.all(np.delete(corrupted, places) == 500)
    chosen = corrupted[places]
    assert (chosen == MASK).mean() == pytest.approx(0.8, abs=0.01)
    # A random word is the old one or the mask once in a thousand.
    assert (chosen == 500).mean() == pytest.approx(0.1, abs=0.008)
    swapped = chosen[(chosen != MASK) & (chosen != 500)]
    assert len(swapped) / len(places) == pytest.approx(0.1, abs=0.008)
    assert swapped.min() < 5  # special tokens too, as published
    assert swapped.max() > WORDS - 5
    assert swapped.mean() == pytest.approx(WORDS / 2, rel=0.03)


def test_masking_leaves_its_input_alone_and_gives_places_in_order() -> None:
    ids = np.arange(5, 105)
    corrupted, places = mask_tokens(ids, generator("masks", 1), 0.5, MASK, WORDS)
    assert ids.tolist() == list(range(5, 105))
    assert places.tolist() == sorted(places)
    again, _ = mask_tokens(ids, generator("masks", 1), 0.5, MASK, WORDS)
    assert again.tolist() == corrupted.tolist()


def test_whole_words_are_masked_with_all_their_pieces() -> None:
    # Entries from 500 on continue a word; every word here has three pieces.
    beginnings = np.arange(WORDS) < 500
    ids = np.tile([300, 700, 800], DRAWS // 3)
    chance = generator("whole words", 0)
    corrupted, places = mask_tokens(ids, chance, 0.15, MASK, WORDS, beginnings)
    words, pieces = np.unique(places // 3, return_counts=True)
    assert (pieces == 3).all()
    assert len(words) / (DRAWS // 3) == pytest.approx(0.15, abs=0.005)
    assert (corrupted[places] == MASK).mean() == pytest.approx(0.8, abs=0.01)


def test_words_of_one_piece_are_masked_as_tokens_are() -> None:
    ids = np.full(500, 300)
    by_token = mask_tokens(ids, generator("one piece", 0), 0.15, MASK, WORDS)
    whole = mask_tokens(ids, generator("one piece", 0), 0.15, MASK, WORDS, np.ones(WORDS, bool))
    assert all((one == other).all() for one, other in zip(by_token, whole, strict=True))


def test_units_follow_the_vocabulary() -> None:
    tokenizer = train_tokenizer(["umbrella umbra", "umbrella umbra lamps"], 30)
    entries = tokenizer.get_vocab()
    beginnings = word_beginnings(tokenizer)
    for piece, number in entries.items():
        assert beginnings[number] == (not piece.startswith("##"))
    ids = np.array(tokenizer.encode("lamps umbrella", add_special_tokens=False))
    starts = beginnings[ids].nonzero()[0].tolist()
    assert len(starts) == 2 < len(ids)
    chosen = {unit: masker(tokenizer, unit, 0.5, 40) for unit in ("token", "whole-word", "span")}
    seen: dict[str, set[int]] = {unit: set() for unit in chosen}
    for unit, corrupt in chosen.items():
        for number in range(200):
            _, places = corrupt(ids, generator("units", number))
            seen[unit].add(int(np.isin(places, np.arange(starts[1])).sum()))
    assert seen["whole-word"] == {0, starts[1]}
    assert len(seen["token"]) > 2
    assert len(seen["span"]) >= 2
    assert masker(tokenizer, "span", 0.0, 40)(ids, generator("units", 0))[1].tolist() == []


def test_imagebert_mismatches_half_by_image_or_text() -> None:
    counts = Counter(kind_for(draw) for draw in generator("negatives", 0).random(DRAWS))
    found = {kind: count / DRAWS for kind, count in counts.items()}
    wanted = {"match": 0.5, "wrong image": 0.25, "wrong text": 0.25}
    assert found == pytest.approx(wanted, abs=0.005)


def shares(texta_false_prob: float, has_tags: bool) -> dict[str, float]:
    draws = generator("pollution", 0).random(DRAWS)
    counts = Counter(change_for(draw, texta_false_prob, has_tags) for draw in draws)
    return {change: count / DRAWS for change, count in counts.items()}


def test_oscar_plus_pollutes_50_25_25() -> None:
    found = shares(0.25, True)
    assert found == pytest.approx({"nothing": 0.5, "tags": 0.25, "caption": 0.25}, abs=0.005)


def test_oscar_pollutes_half_of_the_tags() -> None:
    assert shares(0.0, True) == pytest.approx({"nothing": 0.5, "tags": 0.5}, abs=0.005)


def test_without_tags_the_caption_is_exchanged() -> None:
    assert shares(0.0, False) == pytest.approx({"nothing": 0.5, "caption": 0.5}, abs=0.005)


@pytest.mark.parametrize(
    ("texta_false_prob", "tags_used", "classes"),
    [(0.25, True, 3), (0.0, True, 2), (0.5, True, 2), (0.0, False, 3), (0.6, False, 2)],
)
def test_contrast_classes_are_counted_as_released(
    texta_false_prob: float, tags_used: bool, classes: int
) -> None:
    assert contrast_classes(texta_false_prob, tags_used) == classes


def test_labels_have_oscars_polarity() -> None:
    assert [contrast_label(change, 3) for change in ("nothing", "tags", "caption")] == [0, 1, 2]
    assert [contrast_label(change, 2) for change in ("nothing", "tags", "caption")] == [0, 1, 1]
    assert [match_label(change) for change in ("nothing", "tags", "caption")] == [1, 1, 0]


def test_the_other_sample_is_any_but_the_own_one() -> None:
    draws = generator("other", 0).random(DRAWS)
    counts = Counter(other_sample(draw, 3, 10) for draw in draws)
    assert sorted(counts) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert max(counts.values()) / min(counts.values()) < 1.1
    with pytest.raises(WorkError, match="has one sample"):
        other_sample(0.5, 0, 1)

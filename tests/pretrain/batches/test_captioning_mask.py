"""The captioning mask row by row, and which caption tokens are hidden."""

import numpy as np
import pytest

from pretrain.batches.captioning_mask import captioning_mask, mask_caption
from trawl.chance import generator

MASK, WORDS, UNKNOWN = 103, 1000, 100


def test_each_row_sees_what_the_rules_say() -> None:
    # A caption of 5 tokens in 6 places, 3 tags in 4, 2 regions in 3.
    found = captioning_mask(5, 3, 2, caption_places=6, text_places=10, region_places=3)
    image = "1110" + "110"
    expected = [
        "100000" + image,
        "110000" + image,
        "111000" + image,
        "111100" + image,
        "111110" + image,
        "000000" + "0000000",
        "000000" + image,
        "000000" + image,
        "000000" + image,
        "000000" + "0000000",
        "000000" + image,
        "000000" + image,
        "000000" + "0000000",
    ]
    assert ["".join(map(str, row)) for row in found] == expected


def test_the_published_places_are_the_default() -> None:
    found = captioning_mask(12, 7, 50)
    assert found.shape == (120, 120)
    assert found[11].nonzero()[0].tolist() == [*range(12), *range(40, 47), *range(70, 120)]
    assert found[40].nonzero()[0].tolist() == [*range(40, 47), *range(70, 120)]
    assert found[119].nonzero()[0].tolist() == [*range(40, 47), *range(70, 120)]
    assert not found[12:40].any()


def test_without_tags_the_caption_sees_the_regions() -> None:
    found = captioning_mask(4, 0, 2, caption_places=4, text_places=6, region_places=2)
    assert found[0].tolist() == [1, 0, 0, 0, 0, 0, 1, 1]
    assert found[6].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(("length", "count"), [(3, 1), (9, 1), (10, 2), (13, 2), (17, 3), (40, 3)])
def test_one_to_three_tokens_are_hidden(length: int, count: int) -> None:
    ids = np.arange(200, 200 + length)
    corrupted, places, labels = mask_caption(ids, generator("c", length), MASK, WORDS)
    assert len(places) == count
    assert places.tolist() == sorted(set(places.tolist()))
    assert labels.tolist() == [*ids[places].tolist(), *[0] * (3 - count)]
    assert np.array_equal(np.delete(corrupted, places), np.delete(ids, places))


def test_the_end_may_be_hidden_and_the_start_never() -> None:
    chance = generator("captions", 0)
    ids = np.array([101, 7, 8, 9, 102])
    chosen = np.concatenate([mask_caption(ids, chance, MASK, WORDS)[1] for _ in range(20_000)])
    shares = np.bincount(chosen, minlength=5) / len(chosen)
    assert shares == pytest.approx([0, 0.25, 0.25, 0.25, 0.25], abs=0.01)


def test_the_split_is_80_10_10_and_the_surplus_number_is_unknown() -> None:
    chance = generator("captions", 1)
    ids = np.concatenate([[101], np.full(38, 500), [102]])
    hidden: dict[str, list[int]] = {"as_published": [], "sound": []}
    for rule, found in hidden.items():
        for _ in range(35_000):
            corrupted, places, labels = mask_caption(ids, chance, 3, 4, 0.15, rule, UNKNOWN)
            found.extend(corrupted[places][labels == 500].tolist())
        drawn = np.array(found)
        assert len(drawn) > 1e5
        # The fourth of a vocabulary of four is the mask itself.
        assert (drawn == 3).mean() == pytest.approx(
            0.8 + 0.1 * (0.2, 0.25)[rule == "sound"], abs=0.005
        )
        assert (drawn == 500).mean() == pytest.approx(0.1, abs=0.005)
    assert (np.array(hidden["as_published"]) == UNKNOWN).mean() == pytest.approx(0.02, abs=0.003)
    assert UNKNOWN not in hidden["sound"]

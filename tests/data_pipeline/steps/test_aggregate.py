"""Aggregation: one pair for each image, no text with too many, whatever the order of arrival."""

import random
from dataclasses import replace

import pytest

from data_pipeline.recipe import Aggregate
from data_pipeline.steps.aggregate_plainly import decide
from data_pipeline.steps.pair import Outcome, Pair, text_key
from trawl import chance

SETTINGS = Aggregate()


def _pair(number: int, text: str = "", score: float = 0.5, **changes: object) -> Pair:
    pair = Pair(
        partition=0,
        row=number,
        url=f"http://a.test/{number}.jpg",
        page="http://a.test/",
        position=number,
        sha256=f"{number:064x}",
        phash=f"{chance.seed_of('phash', number):016x}",
        captions=((text or f"A text, number {number}", "alt", score),),
    )
    return replace(pair, **changes)  # type: ignore[arg-type]


def _reasons(outcomes: list[Outcome]) -> dict[int, str]:
    return {outcome.pair.row: outcome.reason for outcome in outcomes}


def test_of_equal_bytes_the_best_score_stays() -> None:
    pairs = [_pair(n, score=score, sha256="a" * 64) for n, score in enumerate((0.4, 0.9, 0.6))]
    outcomes = decide(pairs, SETTINGS, single=True)
    assert _reasons(outcomes) == {0: "duplicate", 1: "", 2: "duplicate"}
    assert {o.same_as for o in outcomes if o.reason} == {"a" * 64}


def test_ties_go_by_address() -> None:
    pairs = [_pair(n, url=f"http://{host}.test/", sha256="a" * 64) for n, host in enumerate("cab")]
    assert _reasons(decide(pairs, SETTINGS, single=True)) == {0: "duplicate", 1: "", 2: "duplicate"}


def test_near_looks_are_one_image_and_chains_hold_together() -> None:
    base = 0x0123456789ABCDEF
    hashes = [base, base ^ 0b11111, base ^ 0b1111111111, base ^ (0b1111111 << 20)]
    pairs = [_pair(n, score=0.5 + n / 10, phash=f"{h:016x}") for n, h in enumerate(hashes)]
    outcomes = decide(pairs, SETTINGS, single=True)
    assert _reasons(outcomes) == {0: "near-duplicate", 1: "near-duplicate", 2: "", 3: ""}


@pytest.mark.parametrize(("images", "kept"), [(10, 10), (11, 0)])
def test_a_text_with_too_many_images_goes_everywhere(images: int, kept: int) -> None:
    pairs = [
        _pair(n, text="Our  beautiful town" if n % 2 else "our beautiful town!")
        for n in range(images)
    ]
    outcomes = decide(pairs, SETTINGS, single=True)
    assert sum(not outcome.reason for outcome in outcomes) == kept
    assert {outcome.reason for outcome in outcomes if outcome.reason} <= {"text-too-common"}


def test_one_image_on_many_pages_does_not_make_its_text_common() -> None:
    pairs = [_pair(n, text="A cup on a table", sha256="b" * 64) for n in range(30)]
    assert list(_reasons(decide(pairs, SETTINGS, single=True)).values()).count("") == 1


def test_a_pair_falls_back_on_its_next_text() -> None:
    pairs = [_pair(n, text="Welcome to our site") for n in range(11)]
    second = ("A cup on a table", "title", 0.4)
    pairs[3] = replace(pairs[3], captions=(*pairs[3].captions, second))
    kept = [outcome.pair for outcome in decide(pairs, SETTINGS, single=True) if not outcome.reason]
    assert [pair.captions for pair in kept] == [(second,)]


def test_caption_sets_join_the_captions_of_equal_images() -> None:
    pairs = [_pair(n, text=f"Caption {n % 2}", sha256="c" * 64) for n in range(3)]
    outcomes = decide(pairs, Aggregate(enabled=False), single=False)
    kept = [outcome.pair for outcome in outcomes if not outcome.reason]
    assert [[text for text, _, _ in pair.captions] for pair in kept] == [["Caption 0", "Caption 1"]]


def test_the_order_of_arrival_changes_nothing() -> None:
    draw = chance.generator("aggregate test")
    pairs = []
    for number in range(300):
        twin = int(draw.integers(0, 120))
        phash = chance.seed_of("look", twin) ^ (1 << int(draw.integers(0, 60)))
        pairs.append(
            _pair(
                number,
                text=f"text {int(draw.integers(0, 40))}",
                score=round(float(draw.random()), 1),
                sha256=f"{twin:064x}",
                phash=f"{phash:016x}",
            )
        )
    by_bytes: dict[str, str] = {}
    pairs = [replace(p, phash=by_bytes.setdefault(p.sha256, p.phash)) for p in pairs]
    expected = set(decide(pairs, SETTINGS, single=True))
    shuffler = random.Random(0)
    for _ in range(5):
        shuffler.shuffle(pairs)
        assert set(decide(pairs, SETTINGS, single=True)) == expected


def test_texts_are_compared_by_their_words() -> None:
    assert text_key(" A cup,  on a TABLE.") == text_key("a Cup on a table")

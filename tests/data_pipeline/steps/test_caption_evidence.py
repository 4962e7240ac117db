"""Scoring by text alone: what stands for a caption, and what merely stands near."""

import json

import pytest

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.agreement import Seen
from data_pipeline.steps.caption_evidence import Nearby, trust_of
from data_pipeline.steps.score import Scorer, scorer_sha256
from data_pipeline.steps.sentences import Judge

THRESHOLD = 0.28
TRUST = {"alt": 1.0, "figcaption": 1.0, "surrounding": 0.3, "heading": 0.3, "filename": 0.1}
PARAGRAPH = "The committee of the valley met for the first time after the war, and " * 6


def _score(source: str, text: str, *others: list[str]) -> float:
    return 0.5 * trust_of(text, source, TRUST[source], Nearby.of([*others, [source, text]]))


@pytest.mark.parametrize(
    ("source", "text", "others"),
    [
        ("alt", "Two horses in the snow", []),
        ("figcaption", "The tower from the south", []),
        ("surrounding", "Trail Ridge Road, altitude more than 12,000 feet.", []),
        ("surrounding", "american avocet. From col. F. M. Woodruff.", []),
        ("heading", "THE MEADOW LARK", [["alt", "meadow lark"]]),
        ("surrounding", "We baked an anise bread today.", [["filename", "anise bread"]]),
    ],
)
def test_captions_pass(source: str, text: str, others: list[list[str]]) -> None:
    assert _score(source, text, *others) >= THRESHOLD


@pytest.mark.parametrize(
    ("source", "text", "others"),
    [
        ("heading", "THE BIRTH OF ATHENA", []),
        ("heading", "THE RUFFED GROUSE", [["filename", "i 016a"]]),
        ("surrounding", PARAGRAPH[:200], [["surrounding", PARAGRAPH[:299]]]),
        ("filename", "old mill pond", []),
    ],
)
def test_what_stands_near_does_not(source: str, text: str, others: list[list[str]]) -> None:
    score = 0.5 * trust_of(text, source, TRUST[source], Nearby.of(others))
    assert score < THRESHOLD


def test_a_caption_of_its_own_outranks_prose_that_shares_words() -> None:
    near = _score("surrounding", "The tower fell in view of all.", ["alt", "The tower"])
    assert near < _score("figcaption", "The tower before its fall")


def _recipe(model: str) -> CorpusRecipe:
    return CorpusRecipe.model_validate(
        {
            "name": "t",
            "collect": {"source": {"kind": "warc", "uris": ["x"]}},
            "score": {"model": model},
        }
    )


def test_the_recipe_chooses_it_and_its_hash_tells() -> None:
    by_text, builtin = _recipe("text"), _recipe("builtin")
    raw = [["heading", "The red barn"], ["filename", "barn in snow"], ["surrounding", PARAGRAPH]]
    texts = json.loads(Judge(by_text).row(raw)["texts"])
    captions, found = Scorer(by_text).captions(texts, Seen({}, {}, {}))
    assert captions[0]["source"] in ("heading", "filename")
    assert captions[0]["score"] >= THRESHOLD > captions[-1]["score"]
    assert set(found) == {None}
    assert by_text.digest() != builtin.digest()
    assert scorer_sha256(by_text) != scorer_sha256(builtin)

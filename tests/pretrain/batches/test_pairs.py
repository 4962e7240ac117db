"""What batches draw from corpora: others, captions, tags, features, and by which keys."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.pairs import PairSource, first_caption
from tests.pretrain import tiny_corpus
from trawl.chance import generator
from trawl.errors import RequestError, WorkError


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Corpus]:
    folder = tmp_path_factory.mktemp("corpora")
    return [Corpus(tiny_corpus.write(folder / name, name, 12)) for name in ("one", "two")]


@pytest.fixture
def source(corpora: list[Corpus]) -> PairSource:
    return PairSource(corpora, 3, "first")


def test_a_draw_has_the_key_of_its_sample_and_purpose(source: PairSource) -> None:
    drawn = source.chance((1, 5, 2, 77), "masks").random(3)
    assert drawn.tolist() == generator(3, "first", 2, 1, 5, "masks").random(3).tolist()


def test_the_other_sample_is_of_the_same_corpus_and_never_the_own_one(
    source: PairSource, corpora: list[Corpus]
) -> None:
    keys = [corpora[1][number].key for number in range(12)]
    found = {source.other((1, 4, 0, 0), draw).key for draw in np.linspace(0, 0.999, 200)}
    assert found == {key for key in keys if key != keys[4]}


def test_captions_are_drawn_evenly(source: PairSource) -> None:
    sample = source.sample((0, 0, 0, 0))
    sample.meta["captions"] = [{"text": text} for text in "abcd"]
    counts = Counter(source.caption(sample, draw) for draw in generator("c", 0).random(100_000))
    assert sorted(counts) == ["a", "b", "c", "d"]
    assert max(counts.values()) / min(counts.values()) < 1.05


def test_tags_are_found_by_place_and_by_corpus(source: PairSource, corpora: list[Corpus]) -> None:
    place = (1, 2, 0, 0)
    sample = source.sample(place)
    assert source.tags(place, sample, 0.2) == " ".join(sample.meta["tags"])
    assert source.tags(corpora[1], sample, 0.2) == source.tags(place, sample, 0.2)
    assert source.corpus(place) is corpora[1]


def test_a_random_feature_is_one_of_the_corpus(source: PairSource, corpora: list[Corpus]) -> None:
    rows = np.concatenate([corpora[0].regions(n).float_features() for n in range(12)])
    found = [
        source.region((0, 3, 0, 0), draw).float_features()[0] for draw in np.linspace(0, 0.999, 300)
    ]
    assert {row.tobytes() for row in found} == {row.tobytes() for row in rows}


def test_a_corpus_without_regions_has_no_feature_to_give(tmp_path: Path) -> None:
    empty = Corpus(tiny_corpus.write(tmp_path, "empty", 3, regions=False))
    with pytest.raises(WorkError, match="no sample has regions"):
        PairSource([empty], 0, "first").region((0, 0, 0, 0), 0.5)


def test_a_corpus_without_captions_is_refused_with_what_adds_them(tmp_path: Path) -> None:
    silent = Corpus(tiny_corpus.write(tmp_path, "silent", 3, captions=False))
    with pytest.raises(RequestError, match=r"0 captions for 3 .* with --captions"):
        PairSource([silent], 0, "first")
    with pytest.raises(WorkError, match=f"{silent[1].key} has no caption"):
        first_caption(silent[1])

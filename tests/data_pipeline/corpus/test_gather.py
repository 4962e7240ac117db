"""Many samples at once are the same bytes as one after another."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.gather import RegionBlock, gather
from data_pipeline.corpus.index import open_index
from data_pipeline.corpus.reader import Corpus
from tests.data_pipeline.corpus.samples import FEATURES, write_corpus
from trawl.errors import WorkError

WIDTH = 3


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_a_block_holds_what_the_samples_hold(tmp_path: Path, form: str) -> None:
    write_corpus(str(tmp_path), (4, 0, 1, 7, 8), form)
    corpus = Corpus(tmp_path)
    numbers = [19, 0, 4, 4, 7, 12, 3, 11]
    block = RegionBlock.empty((len(numbers), WIDTH), FEATURES, form)
    for array in (block.features, block.scales, block.boxes):
        if array is not None:
            array.fill(7)
    samples = corpus.read_into(numbers, block)
    assert [sample.key for sample in samples] == [corpus[number].key for number in numbers]
    assert {0, WIDTH} < {min(WIDTH, sample.region_count) for sample in samples}
    for row, sample in enumerate(samples):
        regions = sample.regions.part(slice(WIDTH))
        count = len(regions)
        np.testing.assert_array_equal(block.features[row, :count], regions.features)
        np.testing.assert_array_equal(block.boxes[row, :count], regions.boxes)  # type: ignore[index]
        assert not block.features[row, count:].any()
        if block.scales is not None:
            np.testing.assert_array_equal(block.scales[row, :count], regions.scale)
            assert not block.scales[row, count:].any()


def test_rows_may_lie_end_to_end(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    corpus = Corpus(tmp_path)
    shards, rows = corpus.rows(range(len(corpus)))
    counts = rows["count"].astype(np.int64)
    ends = np.cumsum(counts)
    block = RegionBlock.empty((int(ends[-1]),), FEATURES, "float16")
    assert gather(shards, rows, block, ends - counts, ends).tolist() == counts.tolist()
    expected = np.concatenate([sample.regions.features for sample in corpus])
    np.testing.assert_array_equal(block.features, expected)


def test_another_form_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    write_corpus(str(tmp_path), form="int8")
    block = RegionBlock.empty((1, WIDTH), FEATURES, "float16")
    corpus = Corpus(tmp_path)
    number = next(n for n, sample in enumerate(corpus) if sample.region_count)
    with pytest.raises(WorkError, match="features of 8 bits"):
        corpus.read_into([number], block)


@pytest.mark.parametrize("offset", [1 << 40, (1 << 64) - 64])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, offset: int) -> None:
    write_corpus(str(tmp_path))
    table = tmp_path / "shards" / "00000.index"
    rows = np.array(open_index(table))
    start = table.stat().st_size - rows.nbytes
    for name in ("features_at", "boxes_at"):
        broken = rows.copy()
        broken[name] = offset
        table.write_bytes(table.read_bytes()[:start] + broken.tobytes())
        with pytest.raises(WorkError, match="past the end"):
            Corpus(tmp_path).read_into(range(5), RegionBlock.empty((5, WIDTH), FEATURES, "float16"))


def test_a_sample_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    for number in (-1, 8):
        with pytest.raises(IndexError):
            Corpus(tmp_path).samples([0, number])

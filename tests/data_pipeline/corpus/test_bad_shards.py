"""Shards that are missing or damaged: named at once, or passed over in the same way by all."""

from pathlib import Path

import pytest

from data_pipeline.corpus.faults import BadShardError
from data_pipeline.corpus.reader import Corpus, Reading
from tests.data_pipeline.corpus.samples import write_corpus

ALWAYS = Reading(check="always")
SKIPPING = Reading(check="always", bad_shards="skip")


def _missing(shard: Path) -> None:
    shard.unlink()


def _cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-512])


def _flipped(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def _no_index(shard: Path) -> None:
    shard.with_suffix(".index").write_bytes(b"TRAWLIDX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(str(tmp_path), (5, 4, 6))
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_missing, "missing"),
        (_cut, "bytes, the manifest says"),
        (_flipped, "checksum"),
        (_no_index, "checksum"),
    ],
)
def test_a_bad_shard_is_named_at_once_or_replaced(folder: Path, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    whole = [sample.key for sample in Corpus(folder)]
    damage(folder / "shards" / "00001.tar")
    corpus = Corpus(folder, ALWAYS)
    assert corpus[0].key == whole[0]
    with pytest.raises(BadShardError, match=rf"00001.*{words}.*feeding\.bad_shards"):
        corpus[5]
    skipping = Corpus(folder, SKIPPING)
    found = [sample.key for sample in skipping]
    assert [found[n] for n in (*range(5), *range(9, 15))] == [*whole[:5], *whole[9:]]
    assert set(found[5:9]) <= {*whole[:5], *whole[9:]}
    assert skipping.replaced(range(3, 11)) == 4
    assert list(skipping.bad) == [1]
    assert words in skipping.bad[1]
    # Whoever reads in another order, or many at a time, finds the same.
    assert [Corpus(folder, SKIPPING)[n].key for n in reversed(range(15))] == found[::-1]
    assert [sample.key for sample in Corpus(folder, SKIPPING).samples(range(15))] == found


def test_a_flipped_byte_passes_where_nothing_is_checked(folder: Path) -> None:
    _flipped(folder / "shards" / "00001.tar")
    assert len(list(Corpus(folder))) == 15


def test_a_corpus_of_bad_shards_alone_is_an_error(folder: Path) -> None:
    for number in range(3):
        _missing(folder / "shards" / f"0000{number}.tar")
    with pytest.raises(Exception, match=r"3 of 3 shards are bad, first 00000\.tar"):
        Corpus(folder, SKIPPING)[0]

"""Shards: the same bytes for the same samples, plain tars, and random access through the index."""

import pickle
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from data_pipeline.corpus import reader
from data_pipeline.corpus.index import open_index
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.regions import decode
from data_pipeline.corpus.writer import PackedSample, ustar_header, write_shard
from tests.data_pipeline.corpus.samples import packed, write_corpus
from trawl.errors import RequestError, WorkError


def test_the_same_samples_make_the_same_bytes(tmp_path: Path) -> None:
    first = write_corpus(str(tmp_path / "one"))
    second = write_corpus(str(tmp_path / "two"))
    assert first.sha256() == second.sha256()
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == twin.read_bytes(), path


def test_tar_reads_a_shard(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    shard = tmp_path / "shards" / "00000.tar"
    names = subprocess.run(["tar", "-tf", shard], capture_output=True, text=True, check=True)
    assert names.stderr == ""
    assert names.stdout.split() == sorted(names.stdout.split())
    with tarfile.open(shard) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert member.isreg()


def test_the_header_is_that_of_tarfile() -> None:
    entry = tarfile.TarInfo("0123456789abcdef01234567.json")
    entry.size = 1234
    assert entry.tobuf(tarfile.USTAR_FORMAT) == ustar_header(entry.name, entry.size)


def test_plain_webdataset_reads_a_shard(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    corpus = Corpus(tmp_path)
    shards = [str(path) for path in sorted((tmp_path / "shards").glob("*.tar"))]
    dataset = webdataset.WebDataset(shards, shardshuffle=False)
    found = list(dataset)
    assert [sample["__key__"] for sample in found] == [s.key for s in corpus]  # type: ignore[attr-defined]
    for sample, ours in zip(found, corpus, strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(decode(sample["regions"]).features, ours.regions.features)
        assert isinstance(sample["jpg"], bytes)


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_random_access_gives_each_sample(tmp_path: Path, form: str) -> None:
    write_corpus(str(tmp_path), (4, 1, 4), form)
    corpus = Corpus(tmp_path)
    by_key = {packed(n, form).key: packed(n, form) for n in range(9)}
    assert len(corpus) == 9
    for number in (8, 0, 4, 3, 5, 1, 2, 7, 6, -1):
        sample = corpus[number]
        expected = by_key[sample.key]
        regions = decode(expected.members["regions"])
        assert corpus.image(number) == expected.members["jpg"]
        assert sample.meta["captions"][0]["text"].startswith("A caption")
        np.testing.assert_array_equal(sample.regions.boxes, regions.boxes)
        np.testing.assert_array_equal(sample.regions.float_features(), regions.float_features())
        np.testing.assert_array_equal(sample.regions.object_ids, regions.object_ids)
    with pytest.raises(IndexError):
        corpus[9]


def test_an_open_corpus_goes_to_another_process(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    corpus = Corpus(tmp_path)
    first = corpus[0]
    copy = pickle.loads(pickle.dumps(corpus))
    assert copy[0].key == first.key


def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    table = tmp_path / "shards" / "00000.index"
    rows = np.array(open_index(table))
    offset = table.stat().st_size - rows.nbytes
    for name in ("json", "features_at", "image"):
        broken = rows.copy()
        broken[name] = 1 << 40
        table.write_bytes(table.read_bytes()[:offset] + broken.tobytes())
        corpus = Corpus(tmp_path)
        with pytest.raises(WorkError, match="past the end"):
            corpus[1].meta, corpus[1].regions, corpus.image(1)
    for junk in (b"", b"TRAWLIDX", b"TRAWLIDX" + b"\xff" * 8, table.read_bytes()[:-1]):
        table.write_bytes(junk)
        with pytest.raises(WorkError):
            len(Corpus(tmp_path)[0].regions)


def test_samples_out_of_order_are_refused(tmp_path: Path) -> None:
    samples = sorted((packed(n) for n in range(3)), key=lambda sample: sample.key, reverse=True)
    with pytest.raises(WorkError, match="not after"):
        write_shard(str(tmp_path), 0, samples)
    assert not list((tmp_path / "shards").iterdir())


def test_a_sample_that_breaks_the_schema_is_refused(tmp_path: Path) -> None:
    good = packed(0)
    bad = PackedSample(good.key, {**good.members, "json": b'{"captions": []}'})
    with pytest.raises(WorkError, match=good.key):
        write_shard(str(tmp_path), 0, [bad])


def test_a_folder_without_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"manifest\.json"):
        Corpus(tmp_path)


def test_s3_and_disk_are_alike(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(reader.CACHE_VARIABLE, str(tmp_path / "cache"))
    here = write_corpus(str(tmp_path / "local"))
    there = write_corpus(f"{s3}/shards-test")
    assert here.sha256() == there.sha256()
    one, other = Corpus(tmp_path / "local"), Corpus(f"{s3}/shards-test")
    assert [one[n].key for n in range(len(one))] == [other[n].key for n in range(len(other))]
    assert one.image(3) == other.image(3)

"""Verification finds every kind of damage, names the file, and never stops at the first."""

from pathlib import Path

import pytest

from data_pipeline.corpus.manifest import read_manifest, write_manifest
from data_pipeline.corpus.verify import rebuild_index, verify
from tests.data_pipeline.corpus.samples import write_corpus
from trawl.errors import RequestError


def _damaged(folder: Path) -> dict[str, list[str]]:
    return {name: faults for name, faults in verify(str(folder)) if faults}


def test_a_good_corpus_has_no_fault(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    assert _damaged(tmp_path) == {}
    place = tmp_path / "shards" / "00001.tar"
    assert rebuild_index(str(place)) == place.with_suffix(".index").read_bytes()


@pytest.mark.parametrize(
    "name", ["shards/00001.tar", "shards/00000.index", "decisions/00000.parquet"]
)
def test_one_flipped_byte_is_found(tmp_path: Path, name: str) -> None:
    write_corpus(str(tmp_path))
    path = tmp_path / name
    good = path.read_bytes()
    for place in (0, len(good) // 3, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bytes(bad))
        assert path.name in _damaged(tmp_path)
        path.write_bytes(good)
    assert _damaged(tmp_path) == {}


def test_missing_short_and_foreign_files_are_found(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    shards = tmp_path / "shards"
    (shards / "00000.tar").unlink()
    (shards / "00001.tar").write_bytes((shards / "00001.tar").read_bytes()[:1000])
    (shards / "00007.tar").write_bytes(b"")
    damaged = _damaged(tmp_path)
    assert {"00000.tar", "00001.tar", "folder"} <= set(damaged)
    assert "no such file" in damaged["00000.tar"][0]


def test_a_manifest_that_does_not_add_up_is_found(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    manifest = read_manifest(str(tmp_path))
    write_manifest(str(tmp_path), manifest.model_copy(update={"samples": 9}))
    assert "9" in _damaged(tmp_path)["manifest.json"][0]


def test_a_manifest_of_another_form_names_the_key(tmp_path: Path) -> None:
    write_corpus(str(tmp_path))
    place = tmp_path / "manifest.json"
    place.write_text(place.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(RequestError, match="version"):
        list(verify(str(tmp_path)))

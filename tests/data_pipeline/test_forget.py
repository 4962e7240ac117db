"""Takedowns: only what is named goes, everywhere, whenever the command is killed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.build import build
from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.manifest import manifest_sha256, read_manifest
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.verify import verify
from data_pipeline.forgetting import forget
from data_pipeline.takedowns import read_list
from tests.data_pipeline.small_site import HOST, small_site
from trawl import storage
from trawl.errors import RequestError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of a small site; the tests work on copies."""
    out = tmp_path_factory.mktemp("forget") / "out"
    with small_site(9) as site:
        build(site.recipe(shards={"samples": 3}), str(out))
    assert len(read_manifest(str(out)).shards) > 1
    return out


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


def _list(folder: Path, *lines: str) -> str:
    (folder / "list.txt").write_text("\n".join(lines))
    return str(folder / "list.txt")


def _kept(uri: Path | str) -> dict[str, dict[str, Any]]:
    return {row["url"]: row for row in read_decisions(str(uri)) if row["kept"]}


def _all_bytes(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("kind", ["url", "sha256", "phash", "key"])
def test_one_image_goes_and_no_other(out: Path, tmp_path: Path, kind: str) -> None:
    before, rows = read_manifest(str(out)), _kept(out)
    row = next(row for row in rows.values() if row["phash"])
    parent = manifest_sha256(str(out))
    image = next(
        Corpus(out).image(n) for n in range(len(Corpus(out))) if Corpus(out)[n].key == row["key"]
    )
    assert image is not None
    assert image[100:400] in _all_bytes(out / "work")
    record = forget(str(out), _list(tmp_path, str(row[kind])))
    assert [(name, faults) for name, faults in verify(str(out)) if faults] == []
    after = read_manifest(str(out))
    assert (record.samples, len(record.shards)) == (1, 1)
    assert after.samples == before.samples - 1
    assert after.parents == [parent]
    assert after.funnel["write/kept"] == after.samples
    assert after.funnel["collect/forgotten"] == record.candidates >= 1
    assert set(_kept(out)) == set(rows) - {row["url"]}
    untouched = {shard.name: shard for shard in before.shards if shard.name not in record.shards}
    assert {s.name: s for s in after.shards if s.name in untouched} == untouched
    corpus = Corpus(out)
    assert row["key"] not in {corpus[number].key for number in range(len(corpus))}
    assert image[100:400] not in _all_bytes(out)
    assert row["text"].encode() not in _all_bytes(out / "takedowns")
    assert row["url"].encode() not in _all_bytes(out / "takedowns")
    gone = next(r for r in read_decisions(str(out)) if r["url"] == row["url"])
    assert (gone["reason"], gone["text"], gone["sha256"], gone["scores"]) == (
        "forgotten",
        "",
        "",
        "{}",
    )


@pytest.mark.parametrize("line", [f"{HOST}/", "site.test", "test.", "SITE.test"])
def test_a_page_and_a_domain_take_all_that_is_theirs(out: Path, tmp_path: Path, line: str) -> None:
    if line == "test.":
        with pytest.raises(RequestError, match="line 1"):
            forget(str(out), _list(tmp_path, line))
        return
    forget(str(out), _list(tmp_path, line))
    manifest = read_manifest(str(out))
    assert (manifest.samples, manifest.shards) == (0, [])
    assert set(manifest.funnel) == {"collect/forgotten"}
    assert [(name, faults) for name, faults in verify(str(out)) if faults] == []
    assert (out / "report" / "dropped.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "line", ["gopher://a.test/", "abc", "0123", "f" * 63, "a b.test", "http://", "-", "x.test/y"]
)
def test_a_line_that_is_nothing_known_is_refused(out: Path, tmp_path: Path, line: str) -> None:
    before = manifest_sha256(str(out))
    with pytest.raises(RequestError, match="line 3"):
        forget(str(out), _list(tmp_path, "# first", "a.test", line))
    assert manifest_sha256(str(out)) == before
    with pytest.raises(RequestError, match="nothing"):
        read_list(_list(tmp_path, "", "# none"))


class _Killed(BaseException):
    """Stands for a kill between two changes of the storage."""


def _kill_at(patch: pytest.MonkeyPatch, change: int) -> Iterator[None]:
    """Let the storage take `change` changes and no more."""
    left = iter(range(change))
    for name in ("write_bytes", "open_atomic", "remove"):
        real = getattr(storage, name)

        def guarded(*arguments: Any, real: Any = real) -> Any:
            if next(left, None) is None:
                raise _Killed
            return real(*arguments)

        patch.setattr(storage, name, guarded)
    yield


def test_killed_anywhere_the_same_command_goes_on(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(_kept(built).values())
    listed = _list(tmp_path, rows[0]["url"], rows[-1]["sha256"])
    calm = Path(shutil.copytree(built, tmp_path / "calm"))
    forget(str(calm), listed)
    expected = _files(calm)
    kills = 0
    for change in range(200):
        out = Path(shutil.copytree(built, tmp_path / f"killed-{change}"))
        with monkeypatch.context() as patch:
            for _ in _kill_at(patch, change):
                try:
                    forget(str(out), listed)
                except _Killed:
                    kills += 1
                else:
                    break
        if kills <= change:
            break
        forget(str(out), listed)
        assert _files(out) == expected, change
        shutil.rmtree(out)
    assert kills > 10
    forget(str(calm), listed)
    assert _files(calm) == expected


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".part")
    }


def test_takedowns_work_in_an_object_store(built: Path, tmp_path: Path, s3: str) -> None:
    uri = f"{s3}/forget"
    for name, data in _files(built).items():
        storage.write_bytes(storage.join(uri, name), data)
    local = Path(shutil.copytree(built, tmp_path / "out"))
    listed = _list(tmp_path, next(iter(_kept(local))))
    forget(str(local), listed)
    forget(uri, listed)
    assert manifest_sha256(uri) == manifest_sha256(str(local))
    assert [(name, faults) for name, faults in verify(uri) if faults] == []
    names = [place.removeprefix(uri).lstrip("/") for place in storage.list_files(uri)]
    assert set(names) == set(_files(local))

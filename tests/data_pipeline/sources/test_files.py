"""Which files a source names: paths, folders, patterns, lists of paths, on disk and on S3."""

import gzip
from pathlib import Path

import pytest

from data_pipeline.collecting import archives, told, units_of
from data_pipeline.sources.recipe import WarcSource, WatSource
from trawl import storage
from trawl.errors import RequestError


def _source(*uris: object, base: str = "https://example.org/") -> WarcSource:
    return WarcSource(kind="warc", uris=[str(uri) for uri in uris], base=base)


def _names(source: WarcSource | WatSource) -> list[str]:
    return [file.uri for file in archives(source)]


def test_files_folders_and_patterns_give_each_file_once(tmp_path: Path) -> None:
    for name in ("a.warc.gz", "deep/b.warc", "c.wat.gz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    expected = [str(tmp_path / "a.warc.gz"), str(tmp_path / "deep" / "b.warc")]
    assert _names(_source(tmp_path)) == expected
    assert _names(_source(tmp_path, tmp_path / "a.warc.gz", f"{tmp_path}/*.warc*")) == expected
    wat = WatSource(kind="wat", uris=[str(tmp_path)])
    assert _names(wat) == [str(tmp_path / "c.wat.gz")]
    with pytest.raises(RequestError, match=r"collect\.source\.uris: .*none: no \.warc or"):
        archives(_source(tmp_path / "none"))


def test_a_path_list_names_files_below_the_base(tmp_path: Path) -> None:
    lines = "crawl-data/CC-MAIN-2026-40/warc/1.warc.gz\n\n# sample\ns3://other/2.warc.gz\n"
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "more.paths").write_text("3.warc.gz\n")
    source = _source(tmp_path, base="s3://commoncrawl/")
    assert _names(source) == [
        "s3://commoncrawl/3.warc.gz",
        "s3://commoncrawl/crawl-data/CC-MAIN-2026-40/warc/1.warc.gz",
        "s3://other/2.warc.gz",
    ]
    # The sizes of a hundred thousand far files are nothing that a plan waits for.
    assert [set(unit.inputs) for unit in units_of(source)] == [{"uri"}] * 3
    assert told(source) == "3 WARC files, out of a list of paths"


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"\xff\xfe\xff", mtime=0), b""])
def test_a_damaged_path_list_is_named(tmp_path: Path, data: bytes) -> None:
    place = tmp_path / "warc.paths.gz"
    place.write_bytes(data)
    if data:
        with pytest.raises(RequestError, match=r"warc\.paths\.gz: no list of paths"):
            archives(_source(place))
    else:
        assert _names(_source(place)) == []


def test_object_stores_are_listed_like_folders(s3: str) -> None:
    for name in ("x/1.warc.gz", "x/2.warc.gz", "x/readme"):
        storage.write_bytes(f"{s3}/list/{name}", b"123")
    storage.write_text(f"{s3}/list/warc.paths", "list/x/2.warc.gz\n")
    first, second = f"{s3}/list/x/1.warc.gz", f"{s3}/list/x/2.warc.gz"
    assert _names(_source(f"{s3}/list/x")) == [first, second]
    assert _names(_source(f"{s3}/list/*1.warc.gz")) == [first]
    assert _names(_source(f"{s3}/list/warc.paths", base=s3)) == [second]
    assert [unit.inputs["bytes"] for unit in units_of(_source(first))] == [3]

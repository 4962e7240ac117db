"""Tables of image addresses in the forms of their publishers, and rows that are hostile."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.rates import _probe
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.sources import table, table_lines
from data_pipeline.sources.recipe import TableSource
from data_pipeline.sources.table_row import TableRow
from tests.data_pipeline.build_here import build_here, reasons
from tests.data_pipeline.sources.pictures import served, write_picture
from trawl import storage
from trawl.errors import RequestError

A, B = "http://a.test/1.jpg", "http://b.test/2.jpg"
DOG, CAT = "a dog runs on the beach", 'a "black" cat on a sofa'


def _source(form: str, *uris: Path, **keys: Any) -> TableSource:
    content = {"kind": "table", "format": form, "uris": [str(uri) for uri in uris], **keys}
    return TableSource.model_validate(content)


def _rows(source: TableSource) -> list[TableRow]:
    return [row for part in table.slices(source) for row in table.read_slice(part, source)]


def _good(source: TableSource) -> list[tuple[str, str]]:
    rows = _rows(source)
    assert not [row for row in rows if row.fault]
    return [(row.url, row.caption) for row in rows]


def test_conceptual_captions_come_caption_first(tmp_path: Path) -> None:
    place = tmp_path / "Train_GCC-training.tsv"
    place.write_text(f"{DOG}\t{A}\n{CAT}\t{B}\n")
    assert _good(_source("cc3m", place)) == [(A, DOG), (B, CAT)]


def test_conceptual_12m_comes_address_first(tmp_path: Path) -> None:
    place = tmp_path / "cc12m.tsv"
    place.write_text(f"{A}\t{DOG}\r\n{B}\t{CAT}")
    assert _good(_source("cc12m", place)) == [(A, DOG), (B, CAT)]


def test_sbu_comes_as_two_lists_or_two_files(tmp_path: Path) -> None:
    lists = {"image_urls": [A, B], "user_ids": ["x", "y"], "captions": [DOG, CAT]}
    (tmp_path / "sbu-captions-all.json").write_text(json.dumps(lists))
    assert _good(_source("sbu", tmp_path / "sbu-captions-all.json")) == [(A, DOG), (B, CAT)]
    urls, captions = tmp_path / "urls.txt", tmp_path / "captions.txt"
    urls.write_text(f"{A}\n{B}\n")
    captions.write_text(f"{DOG}\n{CAT}\n")
    assert _good(_source("sbu", urls, captions)) == [(A, DOG), (B, CAT)]
    captions.write_text(f"{DOG}\n")
    assert [row.fault for row in _rows(_source("sbu", urls, captions))] == ["", "bad-row"]
    with pytest.raises(RequestError, match="two files"):
        _rows(_source("sbu", urls))


@pytest.mark.parametrize(
    ("form", "columns"),
    [
        ("laion", {"SAMPLE_ID": [1, 2], "URL": [A, B], "TEXT": [DOG, CAT], "LICENSE": ["?", "by"]}),
        ("laion", {"url": [A, B], "caption": [DOG, CAT], "LICENSE": [None, "by"]}),
        ("datacomp", {"uid": ["x", "y"], "url": [A, B], "text": [DOG, CAT]}),
    ],
)
def test_parquet_is_read_by_its_columns(
    tmp_path: Path, form: str, columns: dict[str, list[Any]]
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "part-00000.parquet")
    source = _source(form, tmp_path)
    assert _good(source) == [(A, DOG), (B, CAT)]
    if "LICENSE" in columns:
        assert [row.licence for row in _rows(source)] == ["", "by"]


def test_any_other_table_names_its_columns(tmp_path: Path) -> None:
    named = {"columns": {"url": "image", "caption": "alt"}}
    (tmp_path / "a.csv").write_text(
        f'id,image,alt\n1,{A},"{DOG}"\n2,{B},"a ""black"" cat on a sofa"'
    )
    (tmp_path / "b.tsv").write_text(f"image\talt\n{A}\t{DOG}\n{B}\t{CAT}\n")
    lines = [{"image": A, "alt": DOG}, {"alt": CAT, "image": B, "more": 1}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pq.write_table(pa.table({"alt": [DOG, CAT], "image": [A, B]}), tmp_path / "d.parquet")
    for name in ("a.csv", "b.tsv", "c.jsonl", "d.parquet"):
        assert _good(_source("columns", tmp_path / name, **named)) == [(A, DOG), (B, CAT)]
    numbered = {"columns": {"url": 0, "caption": 1}, "header": False}
    (tmp_path / "e.tsv").write_text(f"{A}\t{DOG}\t7\n{B}\t{CAT}\t8\n")
    assert _good(_source("columns", tmp_path / "e.tsv", **numbered)) == [(A, DOG), (B, CAT)]


@pytest.mark.parametrize("name", ["b.tsv", "d.parquet"])
def test_a_column_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "b.tsv").write_text("image\talt\n")
    pq.write_table(pa.table({"alt": [DOG], "image": [A]}), tmp_path / "d.parquet")
    wrong = {"columns": {"url": "link", "caption": "alt"}}
    with pytest.raises(RequestError, match=rf"{name}: no column 'link'.*image"):
        _rows(_source("columns", tmp_path / name, **wrong))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"format": "columns"}, "columns"),
        ({"format": "cc3m", "columns": {"url": 0, "caption": 1}}, "columns"),
        ({"format": "cc4m"}, "cc12m"),
        ({"format": "columns", "columns": {"url": -1, "caption": 0}}, "greater"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TableSource.model_validate({"kind": "table", "uris": ["x"], **keys})


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(RequestError, match=r"x\.parquet: no whole parquet file"):
        _rows(_source("laion", tmp_path))
    with pytest.raises(RequestError, match=r"no \.tsv or \.txt there"):
        _rows(_source("cc3m", tmp_path))


def test_slices_give_every_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cc12m.tsv"
    lines = [f"http://h{n}.test/{'x' * (n % 40)}.jpg\ta caption of {n}" for n in range(300)]
    place.write_text("\n".join(lines) + "\n")
    whole = _good(_source("cc12m", place))
    assert len(whole) == 300
    for size in (1, 33, 64, 1_000):
        monkeypatch.setattr(table, "SLICE_BYTES", size)
        parts = table.slices(_source("cc12m", place))
        assert len({part.name for part in parts}) == len(parts)
        assert _good(_source("cc12m", place)) == whole


def test_row_groups_give_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://h.test/{n}.jpg" for n in range(1_000)]
    content = pa.table({"url": urls, "text": [DOG] * 1_000})
    pq.write_table(content, tmp_path / "x.parquet", row_group_size=70)
    monkeypatch.setattr(table, "SLICE_ROWS", 200)
    source = _source("datacomp", tmp_path)
    assert [part.name for part in table.slices(source)][:2] == ["x.parquet", "x.parquet@3"]
    assert [url for url, _ in _good(source)] == urls


def test_parts_are_called_alike_wherever_the_table_lies(tmp_path: Path) -> None:
    for folder in ("one", "far/away"):
        for name in ("a/1.tsv", "b/1.tsv"):
            (tmp_path / folder / name).parent.mkdir(parents=True)
            (tmp_path / folder / name).write_text(f"{A}\t{DOG}\n")
        parts = table.slices(_source("cc12m", tmp_path / folder))
        assert [part.name for part in parts] == ["a/1.tsv", "b/1.tsv"]


def test_tables_in_object_stores_are_read_alike(tmp_path: Path, s3: str) -> None:
    storage.write_text(f"{s3}/tables/cc12m.tsv", f"{A}\t{DOG}\n{B}\t{CAT}\n")
    pq.write_table(pa.table({"url": [A, B], "text": [DOG, CAT]}), tmp_path / "x.parquet")
    storage.write_bytes(f"{s3}/tables/x.parquet", (tmp_path / "x.parquet").read_bytes())
    for form in ("cc12m", "datacomp"):
        content = {"kind": "table", "format": form, "uris": [f"{s3}/tables"]}
        assert _good(TableSource.model_validate(content)) == [(A, DOG), (B, CAT)]


def test_a_plan_probes_a_share_of_a_table(tmp_path: Path) -> None:
    rows = "".join(f"a caption of {n}\thttp://h.test/{n}.jpg\n" for n in range(100))
    (tmp_path / "cc3m.tsv").write_text(rows + "no row\n")
    source = {"kind": "table", "format": "cc3m", "uris": [str(tmp_path / "cc3m.tsv")]}
    recipe = CorpusRecipe.model_validate({"name": "test", "collect": {"source": source}})
    probe, told, _ = _probe(recipe, 0.1, str(tmp_path / "scratch"))
    assert told == "10 of 101 rows of a table"
    assert isinstance(probe.collect.source, TableSource)
    found = _good(probe.collect.source)
    assert len(found) == 10
    assert all(url == f"http://h.test/{text.split()[-1]}.jpg" for url, text in found)


def test_hostile_rows_become_decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lines, "MAX_LINE", 2_000)
    write_picture(tmp_path / "site" / "1.jpg", 1)
    (tmp_path / "cc12m.tsv").write_bytes(
        b"\xef\xbb\xbf" + f"{A}\t{DOG}\n".encode() + b"\n"
        b"http://a.test/only-an-address.jpg\n"
        b"http://a.test/3.jpg\tthree\tvalues\n"
        b"file:///etc/passwd\ta file of this machine\n"
        b"javascript:alert(1)\ta script of a page\n"
        b"http://user:secret@a.test/1.jpg\tan address with a name\n"
        b"http://a.test/4.jpg\tno UTF-8 \xff\xfe here\n"
        b"http://a.test/5.jpg\t" + b"very " * 1_000 + b"long\n"
        b"\tno address at all\n"
        b"http://169.254.169.254/latest/\ta cloud's own address\n"
        b"http://a.test/none.jpg\ta picture that is gone\n" + f"{A}\t{CAT}\n".encode()
    )
    with served(tmp_path / "site") as download:
        source = {"kind": "table", "format": "cc12m", "uris": [str(tmp_path / "cc12m.tsv")]}
        built = build_here(
            tmp_path / "out",
            {
                "collect": {"source": source, "partitions": 2},
                "download": download,
                "score": {"enabled": False},
                "image_filter": {"natural": {"enabled": False}},
            },
        )
    assert built.counts["collect"] == {"candidates": 12, "bad-row": 5, "bad-url": 3}
    found = reasons(tmp_path / "out")
    assert found["http://169.254.169.254/latest/"] == "private-address"
    assert found["http://a.test/none.jpg"] == "http-error"
    assert found["file:///etc/passwd"] == "bad-url"
    rows = list(read_decisions(str(tmp_path / "out")))
    assert len(rows) == 12
    assert {row["page"] for row in rows} == {"cc12m.tsv"}
    assert sorted(row["reason"] for row in rows if row["url"] == A) == ["duplicate", "kept"]

"""`trawl corpus import` and `trawl corpus export` as commands."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from data_pipeline.cli import corpus
from tests.data_pipeline.exchange import foreign
from trawl.errors import RequestError


def called(*arguments: object, app: typer.Typer = corpus) -> str:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, words, catch_exceptions=False).output


def test_import_explain_report_and_export(tmp_path: Path) -> None:
    rows = [foreign.lxmert_columns(0), foreign.lxmert_columns(1), foreign.lxmert_columns(2)]
    rows[1][9] = "???"
    source = foreign.write_tsv(tmp_path / "a.tsv", rows)
    captions = [{"image_id": "image 0", "caption": "A cup."}]
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    out = tmp_path / "out"
    told = called(
        *("import", "lxmert-tsv", source, out, "--captions", tmp_path / "captions.json"),
        *("--detector", "butd", "--selection", "butd-36"),
    )
    assert f"{out}: 2 samples, 6 regions, 1 captions in 1 shards" in told
    assert "1 dropped: bad-base64 1; trawl corpus explain" in told
    life = called("explain", out, "image 1")
    assert "dropped: bad-base64  (file a.tsv, row 2, detail features: " in life
    assert "complete: 2 samples" in called("status", out)
    assert "damaged" not in called("verify", out)
    called("report", out, "-o", tmp_path / "a.html")
    assert "bad-base64" in (tmp_path / "a.html").read_text()
    assert called("export", "lxmert-tsv", out, tmp_path / "b.tsv").endswith("b.tsv: 2 images\n")
    assert called("export", "oscar-tsv", out, tmp_path / "oscar").endswith("oscar: 2 images\n")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["name"] == "out"
    assert manifest["detector"]["name"] == "butd"
    assert manifest["detector"]["selection"] == "butd-36"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("import", "coco", "a", "b"), r"known are lxmert-tsv, oscar-tsv"),
        (("export", "hf-frcnn", "a", "b"), r"known are lxmert-tsv, oscar-tsv"),
        (("export", "lxmert-tsv", "a", "b", "--ids", "name"), r"choose url or key"),
        (("import", "lxmert-tsv", "a", "b", "--features", "int4"), r"key features: .*int8"),
        (("import", "lxmert-tsv", "a", "b", "--name", "a b"), r"key name: "),
    ],
)
def test_wrong_requests_say_what_is_known(arguments: tuple[str, ...], fault: str) -> None:
    with pytest.raises(RequestError, match=fault):
        called(*arguments)

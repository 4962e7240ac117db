"""The extraction as commands and on Ray, and published families with random weights."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from data_pipeline.cli import corpus, regions
from data_pipeline.corpus.manifest import manifest_sha256, read_manifest
from data_pipeline.corpus.reader import Corpus
from data_pipeline.detector.c4_plain import PlainC4
from data_pipeline.detector.c4_preprocessing import RULES
from data_pipeline.detector.extraction_run import differences_of, padding_of
from data_pipeline.detector.random_weights import random_weights
from tests.data_pipeline.detector.random_c4 import narrow_families
from tests.data_pipeline.detector.test_extraction import (
    check_hostile,
    encoded,
    hostile,
    picture,
    run,
    write_files,
)
from tests.data_pipeline.exchange import foreign
from trawl.errors import RequestError

PROGRAM = [str(Path(sys.executable).parent / "trawl")]


def trawl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def called(app: typer.Typer, *arguments: object) -> str:
    """What a command prints; its errors are raised."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, words, catch_exceptions=False).output


def images(folder: Path, count: int) -> Path:
    files = {f"{n}.jpg": (encoded(picture(n)), "kept", "") for n in range(count)}
    return write_files(folder, files)


@pytest.mark.slow
def test_ray_actors_make_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    source = images(tmp_path / "images", 4)
    run(source, tmp_path / "here", samples=1)
    done = trawl(
        *("regions", "extract", source, "--out", tmp_path / "ray"),
        *("--name", "extracted", "--samples", 1, "--workers", 2),
    )
    assert done.returncode == 0, done.stderr
    here, ray = (manifest_sha256(str(tmp_path / name)) for name in ("here", "ray"))
    assert here == ray
    assert f"manifest_sha256 {ray}" in done.stdout


@pytest.mark.slow
def test_features_of_random_weights_at_given_boxes_are_those_of_the_plain_twin(
    tmp_path: Path,
) -> None:
    """Full BUTD widths; the TSV holds the twin's features, so the command must print nearly 0."""
    weights = random_weights("butd", 5)
    twin = PlainC4(weights)
    rows = []
    files = {}
    for number in range(2):
        pixels = picture(number, (60, 60))
        files[f"{number}.png"] = (encoded(pixels, "PNG"), "kept", "")
        row = foreign.lxmert_columns(number, 3)
        scale = np.array([60 / foreign.WIDTH, 60 / foreign.HEIGHT] * 2, np.float32)
        boxes = foreign.boxes_of(number, 3) * scale
        features = twin.features_at(np.asarray(pixels), boxes).numpy()
        row[0:3] = [str(number), "60", "60"]
        row[8:] = [foreign.text(boxes, "<f4"), foreign.text(features, "<f4")]
        rows.append(row)
    source = write_files(tmp_path / "images", files)
    table = foreign.write_tsv(tmp_path / "boxes" / "a.tsv", rows)
    run(source, tmp_path / "out", detector="butd", random_weights=5, boxes_from=str(table))
    size = np.abs(features).mean()
    assert size > 0.05
    told = differences_of(str(tmp_path / "out"))
    assert [count for _, _, count in told] == [3, 3]
    assert max(difference for _, difference, _ in told) < 1e-4 * size
    assert read_manifest(str(tmp_path / "out")).detector.feature_size == 2048


def test_a_published_detector_survives_every_bad_image_and_counts_its_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(RULES["butd"], short_side=64, long_limit=120)
    monkeypatch.setitem(RULES, "butd", small)
    narrow = narrow_families(monkeypatch)
    next(narrow)
    files = hostile()
    files["flat.png"] = (files["flat.png"][0], "too-elongated", "80 x 1 pixels")
    source, out = write_files(tmp_path / "images", files), tmp_path / "out"
    run(source, out, batch=4, detector="butd", random_weights=3)
    check_hostile(out, files)
    assert 0 < (padding_of(str(out)) or 0) < 0.3
    assert list(narrow) == []


def test_random_weights_are_the_same_for_a_seed_and_for_published_families_alone() -> None:
    names = ("res5.0.conv1.convolution.weight", "classifier.weight")
    one, again, other = (random_weights("butd-d2", seed) for seed in (1, 1, 2))
    present = [name for name in names if name in one.tensors]
    assert "classifier.weight" in present
    for name in present:
        assert one.tensors[name].equal(again.tensors[name])
        assert not one.tensors[name].equal(other.tensors[name])
    assert one.sha256 == again.sha256 != other.sha256
    with pytest.raises(RequestError, match="choose butd, butd-d2, vinvl"):
        random_weights("demo", 1)


def test_the_commands_extract_show_and_explain(tmp_path: Path) -> None:
    source = images(tmp_path / "images", 2)
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    out = tmp_path / "out"
    done = called(regions, "extract", source, "--out", out, "--features", "int8")
    assert "int8     cosine to float32 0.99" in done
    assert "1 dropped: bad-header 1" in done
    key = Corpus(out)[1].key
    picture_file = tmp_path / "a.png"
    shown = called(regions, "show", f"{out}#{key}", "--out", picture_file, "--confidence", 0)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert f"{picture_file}: " in shown
    assert "dropped: bad-header  (detail " in called(corpus, "explain", out, "broken.jpg")
    called(corpus, "report", out, "-o", tmp_path / "a.html")
    assert "Storage of features" in (tmp_path / "a.html").read_text()
    with pytest.raises(RequestError, match="no such sample"):
        called(regions, "show", f"{out}#none", "--out", tmp_path / "b.png")

"""Whole builds from WARC files, live sites and caption sets, judged by the truth of the world."""

import json
from pathlib import Path

import pytest

from data_pipeline.build import KEPT_PHASES
from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.manifest import read_manifest
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.verify import verify
from data_pipeline.images import read_header
from tests.data_pipeline.builds import content, trawl_corpus, warc_build
from tests.trawl.demo.small_web import small_truth, small_web
from trawl.demo.captions import write_captions
from trawl.demo.live import live_web
from trawl.demo.truth import score_decisions


def _assert_whole(out: Path) -> None:
    """Check what holds for every corpus: no fault, nothing left of the work, counts that agree."""
    assert [(name, faults) for name, faults in verify(str(out)) if faults] == []
    phases = {path.name for path in (out / "work").iterdir()}
    assert phases == set(KEPT_PHASES)
    assert not list(out.rglob("*.part"))
    corpus = Corpus(out)
    rows = list(read_decisions(str(out)))
    assert len(rows) == sum(corpus.manifest.funnel.values())
    kept = {row["key"] for row in rows if row["kept"]}
    assert kept == {corpus[number].key for number in range(len(corpus))}
    assert all(row["reason"] for row in rows)


@pytest.fixture(scope="module")
def from_warc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus built from one WARC file of the small web."""
    out = tmp_path_factory.mktemp("warc") / "out"
    trawl_corpus(*warc_build(str(out), small_web() / "warc" / "07.warc.gz"))
    return out


def test_a_corpus_from_a_warc_file_is_whole(from_warc: Path) -> None:
    _assert_whole(from_warc)
    corpus = Corpus(from_warc)
    assert len(corpus) > 0
    for number in range(len(corpus)):
        sample, image = corpus[number], corpus.image(number)
        assert image is not None
        header = read_header(image)
        assert (header.width, header.height) == (sample.meta["width"], sample.meta["height"])
        assert len(sample.meta["captions"]) == 1
        assert len(sample.regions) >= 10
        assert set(sample.meta["tags"]) <= set(corpus.manifest.detector.objects)


def test_the_same_command_again_changes_nothing(from_warc: Path) -> None:
    before = content(from_warc)
    trawl_corpus(*warc_build(str(from_warc), small_web() / "warc" / "07.warc.gz"))
    assert content(from_warc) == before


def test_another_recipe_in_the_same_place_is_refused(from_warc: Path) -> None:
    arguments = warc_build(str(from_warc), small_web() / "warc" / "07.warc.gz")
    told = trawl_corpus(*arguments, "--set", "score.threshold=0.3", code=2)
    assert "another recipe" in told


def test_status_explain_and_report_tell_of_it(from_warc: Path, tmp_path: Path) -> None:
    assert "complete" in trawl_corpus("status", str(from_warc))
    assert "good" in trawl_corpus("verify", str(from_warc))
    row = next(row for row in read_decisions(str(from_warc)) if row["kept"])
    for what in (row["url"], row["page"], row["key"]):
        assert row["url"] in trawl_corpus("explain", str(from_warc), what)
    dropped = next(row for row in read_decisions(str(from_warc)) if row["reason"] == "too-small")
    assert "dropped: too-small" in trawl_corpus("explain", str(from_warc), dropped["url"])
    assert "no candidate" in trawl_corpus("explain", str(from_warc), "http://x.test/", code=2)
    page, sections = tmp_path / "page.html", tmp_path / "sections.json"
    trawl_corpus("report", str(from_warc), "-o", str(page), "--sections", str(sections))
    assert "too-small" in page.read_text()
    assert page.read_text().count("data:image/jpeg") > 5
    assert len(json.loads(sections.read_text())) == 5


def test_one_flipped_byte_fails_verification(from_warc: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, data in content(from_warc).items():
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(data)
    shard = copy / "shards" / "00000.tar"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(bytes(data))
    assert "damaged  00000.tar" in trawl_corpus("verify", str(copy), code=1)


def test_the_store_makes_no_difference(from_warc: Path, s3: str) -> None:
    out = f"{s3}/builds/warc"
    trawl_corpus(*warc_build(out, small_web() / "warc" / "07.warc.gz"))
    assert read_manifest(out).sha256() == read_manifest(str(from_warc)).sha256()
    assert [(name, faults) for name, faults in verify(out) if faults] == []


@pytest.mark.slow
def test_the_truth_agrees_with_the_archive(tmp_path: Path) -> None:
    warcs = sorted((small_web() / "warc").glob("*.warc.gz"))
    trawl_corpus(*warc_build(str(tmp_path / "out"), *warcs))
    _assert_whole(tmp_path / "out")
    decisions = list(read_decisions(str(tmp_path / "out")))
    scores = score_decisions(small_truth(), decisions, archive=True)
    assert scores["precision"] >= 0.95, scores
    assert scores["recall"] >= 0.95, scores


@pytest.mark.slow
def test_the_truth_agrees_with_the_live_web(tmp_path: Path) -> None:
    web, out = small_web(), tmp_path / "out"
    with live_web(web) as address:
        seeds = f"collect.source.seeds=[{web / 'seeds.txt'}]"
        target = f"download.connect_to={{'*.trawl.test': '{address}'}}"
        trawl_corpus("build", "web-demo-live", "--out", str(out), "--set", seeds, "--set", target)
    _assert_whole(out)
    scores = score_decisions(small_truth(), list(read_decisions(str(out))))
    assert scores["precision"] >= 0.95, scores
    assert scores["recall"] >= 0.95, scores


def test_a_caption_set_is_packed_whole(tmp_path: Path) -> None:
    world, out = tmp_path / "world", tmp_path / "out"
    write_captions(world, 7, "train", 10, workers=1, captions_each=3)
    (world / "images" / "000003.jpg").write_bytes(b"no image")
    (world / "images" / "000004.jpg").unlink()
    sources = {"captions": "captions.json", "images": "images"}
    sources |= {"regions": "regions.json", "questions": "questions.json"}
    changes = [
        part
        for key, name in sources.items()
        for part in ("--set", f"collect.source.{key}={world / name}")
    ]
    trawl_corpus("build", "captions-demo", "--out", str(out), *changes)
    _assert_whole(out)
    corpus = Corpus(out)
    assert len(corpus) == 8
    assert corpus.manifest.captions == 24
    for number in range(8):
        meta = corpus[number].meta
        assert [caption["score"] for caption in meta["captions"]] == [1.0, 1.0, 1.0]
        assert meta["regions_text"]
        assert meta["questions"]
    reasons = {row["url"]: row["reason"] for row in read_decisions(str(out)) if not row["kept"]}
    assert reasons == {"000003.jpg": "not-an-image", "000004.jpg": "missing-file"}

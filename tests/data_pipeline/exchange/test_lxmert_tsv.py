import base64
import json
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.verify import verify
from data_pipeline.exchange.exporting import export_corpus
from tests.data_pipeline.exchange import foreign
from trawl.errors import RequestError, WorkError


def faults(out: Path) -> list[str]:
    return [fault for _, found in verify(str(out)) for fault in found]


def test_the_gold_file_imports_and_its_boxes_are_proposals(
    shared_data: Path, tmp_path: Path
) -> None:
    gold = shared_data / "regions_gold"
    manifest = foreign.run_import(
        "lxmert-tsv",
        gold / "train2014_obj36.tsv",
        tmp_path / "gold",
        images=str(gold / "images"),
        objects=str(shared_data / "vg" / "objects_vocab.txt"),
        attributes=str(shared_data / "vg" / "attributes_vocab.txt"),
    )
    assert (manifest.samples, manifest.regions) == (10, 360)
    assert faults(tmp_path / "gold") == []
    touching = 0
    corpus = Corpus(tmp_path / "gold")
    for number in range(len(corpus)):
        sample = corpus[number]
        width, height = sample.meta["width"], sample.meta["height"]
        scale = min(600 / min(width, height), 1000 / max(width, height))
        boxes = sample.regions.boxes.astype(np.float64)
        sides = boxes[:, 2:] - boxes[:, :2] + 1 / scale
        assert (sides >= 16 - 1e-3).all()  # Caffe's least side, in pixels of the original
        # Proposals are clipped to the resized image's last pixel, then divided by the scale.
        limits = np.array([round(width * scale) - 1, round(height * scale) - 1]) / scale
        assert np.allclose(boxes[:, 2:].max(axis=0), limits, atol=1e-3)
        at_limit = np.abs(boxes[:, 2:] - limits).min(axis=1) < 1e-3
        touching += int((at_limit | (boxes[:, :2].min(axis=1) < 1e-3)).sum())
        assert sample.regions.features.shape == (36, 2048)
        assert 0.4 < sample.regions.float_features().mean() < 0.9
    assert 0.41 < touching / 360 < 0.43
    assert {"bat", "ball", "arm"} <= {tag for n in range(10) for tag in corpus[n].meta["tags"]}


def test_export_and_import_return_the_same_shards_byte_for_byte(tmp_path: Path) -> None:
    rows = [foreign.lxmert_columns(number, number % 4) for number in range(9)]
    source = foreign.write_tsv(tmp_path / "a" / "a.tsv", rows)
    first = foreign.run_import("lxmert-tsv", source, tmp_path / "first", samples=4)
    assert first.samples == 9
    export_corpus("lxmert-tsv", str(tmp_path / "first"), str(tmp_path / "b" / "b.tsv"), "url")
    second = foreign.run_import("lxmert-tsv", tmp_path / "b" / "b.tsv", tmp_path / "second")
    third = foreign.run_import("lxmert-tsv", tmp_path / "b" / "b.tsv", tmp_path / "third")
    assert second == third
    again, corpus = Corpus(tmp_path / "second"), Corpus(tmp_path / "first")
    originals = {corpus[n].meta["url"]: corpus[n] for n in range(9)}
    for number in range(9):
        sample = again[number]
        original = originals[sample.meta["url"]]
        assert sample.meta == original.meta
        for name in ("boxes", "features", "object_ids", "attribute_ids", "object_conf"):
            assert np.array_equal(getattr(sample.regions, name), getattr(original.regions, name)), (
                name
            )


def test_an_exported_line_is_what_lxmert_reads(tmp_path: Path) -> None:
    """Parsed here as the original's loader does: fixed columns, types and shapes."""
    columns = foreign.lxmert_columns(5, 3)
    source = foreign.write_tsv(tmp_path / "a.tsv", [columns])
    foreign.run_import("lxmert-tsv", source, tmp_path / "out")
    export_corpus("lxmert-tsv", str(tmp_path / "out"), str(tmp_path / "b.tsv"), "url")
    written = (tmp_path / "b.tsv").read_text().rstrip("\n").split("\t")
    assert len(written) == 10
    assert written[:4] + [written[5]] + written[7:9] == columns[:4] + [columns[5]] + columns[7:9]
    features = np.frombuffer(base64.b64decode(written[9]), np.float32).reshape(3, -1)
    assert np.array_equal(features, foreign.features_of(5, 3).astype(np.float16))
    conf = np.frombuffer(base64.b64decode(written[4]), np.float32)
    told = np.frombuffer(base64.b64decode(columns[4]), np.float32)
    assert np.abs(conf - told).max() <= 0.0005


def test_bottom_up_attention_columns_with_class_probabilities(tmp_path: Path) -> None:
    probabilities = np.array([[0.7, 0.1, 0.2, 0, 0], [0.1, 0, 0, 0, 0.9]], np.float32)
    row = [
        "7",
        str(foreign.WIDTH),
        str(foreign.HEIGHT),
        "2",
        foreign.text(foreign.boxes_of(1, 2), "<f4"),
        foreign.text(foreign.features_of(1, 2), "<f4"),
    ]
    source = foreign.write_tsv(
        tmp_path / "a.tsv", [[*row, foreign.text(probabilities, "<f4")], ["8", *row[1:]]]
    )
    manifest = foreign.run_import("lxmert-tsv", source, tmp_path / "out")
    corpus = Corpus(tmp_path / "out")
    samples = {corpus[n].meta["url"]: corpus[n] for n in range(2)}
    assert (samples["7"].meta["width"], samples["7"].meta["height"]) == (640, 480)
    assert samples["7"].meta["tags"] == ["leaf", "drum"]
    assert np.array_equal(samples["7"].regions.class_probs, probabilities.astype(np.float16))
    assert manifest.detector.objects == [*foreign.OBJECTS, "unknown"]
    assert samples["8"].regions.object_ids.tolist() == [4, 4]
    assert samples["8"].meta["tags"] == []
    assert faults(tmp_path / "out") == []


def hostile_rows() -> dict[str, list[str]]:
    """One row for each fault, by the reason that it must get."""
    good = [foreign.lxmert_columns(number) for number in range(20)]

    def changed(number: int, **columns: str) -> list[str]:
        row = list(good[number])
        for name, value in columns.items():
            row[int(name[1:])] = value
        return row

    nan = np.full((3, foreign.FEATURES), np.nan)
    return {
        "bad-base64": changed(1, c9="@@@" + good[1][9][3:]),
        "wrong-count": changed(2, c7="4"),
        "bad-number": changed(3, c7="-1"),
        "wrong-columns": good[4][:8],
        "not-finite": changed(5, c9=foreign.text(nan, "<f4")),
        "bad-confidence": changed(6, c4=foreign.text(np.array([2.0, 0, 0]), "<f4")),
        "bad-id": changed(7, c3=foreign.text(np.array([99, 0, 0]), "<i8")),
        "feature-size": changed(8, c9=foreign.text(np.zeros((3, 7)), "<f4")),
        "duplicate": good[0],
    }


def test_each_hostile_row_is_a_decision_that_names_file_and_row(tmp_path: Path) -> None:
    hostile = hostile_rows()
    rows = [foreign.lxmert_columns(0), *hostile.values(), foreign.lxmert_columns(11)]
    source = foreign.write_tsv(tmp_path / "bad.tsv", rows)
    manifest = foreign.run_import("lxmert-tsv", source, tmp_path / "out")
    assert manifest.samples == 2
    assert manifest.funnel == {"write/kept": 2, **{f"collect/{name}": 1 for name in hostile}}
    told = {row["reason"]: row for row in read_decisions(str(tmp_path / "out"))}
    for number, reason in enumerate(hostile, 2):
        scores = json.loads(told[reason]["scores"])
        assert (scores["file"], scores["row"]) == ("bad.tsv", number), reason
    assert faults(tmp_path / "out") == []


def test_a_file_cut_short_loses_its_last_row_alone_and_not_silently(tmp_path: Path) -> None:
    source = foreign.write_tsv(
        tmp_path / "a.tsv", [foreign.lxmert_columns(number) for number in range(3)]
    )
    source.write_bytes(source.read_bytes()[:-300])
    manifest = foreign.run_import("lxmert-tsv", source, tmp_path / "out")
    assert manifest.samples == 2
    assert sum(manifest.funnel.values()) == 3


def test_row_checksums_find_a_changed_and_a_missing_row(tmp_path: Path) -> None:
    rows = [foreign.lxmert_columns(number) for number in range(4)]
    source = foreign.write_tsv(tmp_path / "a.tsv", rows)
    foreign.run_import("lxmert-tsv", source, tmp_path / "first")
    exported = tmp_path / "x" / "x.tsv"
    export_corpus("lxmert-tsv", str(tmp_path / "first"), str(exported), "url")
    lines = exported.read_text().splitlines()
    broken = lines[1].replace("A", "B", 1)  # still base64, still the right length
    assert broken != lines[1]
    exported.write_text("\n".join([lines[0], broken, lines[2]]) + "\n")
    manifest = foreign.run_import("lxmert-tsv", exported, tmp_path / "second")
    assert manifest.funnel == {
        "write/kept": 2,
        "collect/row-checksum": 1,
        "collect/missing-row": 1,
    }


def test_a_file_without_one_good_row_is_an_error_in_one_line(tmp_path: Path) -> None:
    source = foreign.write_tsv(tmp_path / "a.tsv", [["x", "y"], ["z"]])
    with pytest.raises(WorkError, match=r"a\.tsv: no row could be taken; .*row 1 \(x\): wrong-col"):
        foreign.run_import("lxmert-tsv", source, tmp_path / "out")
    with pytest.raises(RequestError, match="no such file"):
        foreign.run_import("lxmert-tsv", tmp_path / "none.tsv", tmp_path / "other")


def test_captions_come_by_id_by_file_name_and_by_coco_number(tmp_path: Path) -> None:
    rows = [foreign.lxmert_columns(number) for number in range(4)]
    rows[0][0], rows[1][0], rows[2][0] = "17", "stem", "COCO_val2014_000000000023"
    source = foreign.write_tsv(tmp_path / "a.tsv", rows)
    captions = {
        "images": [{"id": 5, "file_name": "val/stem.jpg"}],
        "annotations": [
            {"image_id": 17, "caption": " A  cup. "},
            {"image_id": 17, "caption": "Another cup."},
            {"image_id": 5, "caption": "A drum."},
            {"image_id": 23, "caption": "A kite."},
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    manifest = foreign.run_import(
        "lxmert-tsv", source, tmp_path / "out", captions=str(tmp_path / "captions.json")
    )
    corpus = Corpus(tmp_path / "out")
    found = {
        corpus[n].meta["url"]: [caption["text"] for caption in corpus[n].meta["captions"]]
        for n in range(4)
    }
    assert found == {
        "17": ["A cup.", "Another cup."],
        "stem": ["A drum."],
        "COCO_val2014_000000000023": ["A kite."],
        "image 3": [],
    }
    assert manifest.captions == 4


def test_an_import_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_pipeline.exchange import importing

    rows = [foreign.lxmert_columns(number % 7) for number in range(10)]  # three rows come twice
    source = foreign.write_tsv(tmp_path / "a.tsv", rows)
    whole = foreign.run_import("lxmert-tsv", source, tmp_path / "whole", samples=3)
    commits = []

    def dying(self: object, *arguments: object) -> object:
        commits.append(arguments)
        if len(commits) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    real = importing.ShardUnits.commit
    monkeypatch.setattr(importing.ShardUnits, "commit", dying)
    with pytest.raises(KeyboardInterrupt):
        foreign.run_import("lxmert-tsv", source, tmp_path / "killed", samples=3)
    again = foreign.run_import("lxmert-tsv", source, tmp_path / "killed", samples=3)
    assert len(commits) == 5  # two of the first run, the one that died, two that were left
    assert again == whole
    assert whole.samples == 7


def test_a_source_that_changed_under_an_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_pipeline.exchange import importing

    source = foreign.write_tsv(
        tmp_path / "a.tsv", [foreign.lxmert_columns(number) for number in range(4)]
    )
    monkeypatch.setattr(
        importing.ShardUnits, "finish", lambda *arguments: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(OSError, match=r"^$"):
        foreign.run_import("lxmert-tsv", source, tmp_path / "out", samples=2)
    source.write_text(source.read_text() + "more\n")
    with pytest.raises(RequestError, match="the sources changed"):
        foreign.run_import("lxmert-tsv", source, tmp_path / "out", samples=2)


def test_repeated_addresses_are_exported_by_key_alone(tmp_path: Path) -> None:
    rows = [foreign.lxmert_columns(0), foreign.lxmert_columns(1)]
    rows[1][0] = rows[0][0]
    source = foreign.write_tsv(tmp_path / "a.tsv", rows)
    foreign.run_import("lxmert-tsv", source, tmp_path / "out")
    with pytest.raises(RequestError, match="--ids key"):
        export_corpus("lxmert-tsv", str(tmp_path / "out"), str(tmp_path / "b.tsv"), "url")
    assert export_corpus("lxmert-tsv", str(tmp_path / "out"), str(tmp_path / "b.tsv"), "key") == 2


def test_int8_features_are_exported_as_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    source = foreign.write_tsv(tmp_path / "a.tsv", [foreign.lxmert_columns(0)])
    foreign.run_import("lxmert-tsv", source, tmp_path / "out", features="int8")
    export_corpus("lxmert-tsv", str(tmp_path / "out"), str(tmp_path / "b.tsv"), "url")
    column = (tmp_path / "b.tsv").read_text().rstrip("\n").split("\t")[9]
    written = np.frombuffer(base64.b64decode(column), np.float32).reshape(3, -1)
    assert np.array_equal(written, Corpus(tmp_path / "out")[0].regions.float_features())

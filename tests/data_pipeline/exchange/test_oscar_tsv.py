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
from trawl.errors import RequestError

W, H = foreign.WIDTH, foreign.HEIGHT


def positions(boxes: np.ndarray) -> np.ndarray:
    """The six numbers of each box, as Oscar has them."""
    scale = np.array([W, H, W, H], np.float32)
    return np.concatenate([boxes / scale, (boxes[:, 2:] - boxes[:, :2]) / scale[:2]], axis=1)


def table(number: int, count: int, features: int = foreign.FEATURES) -> np.ndarray:
    boxes = foreign.boxes_of(number, count)
    values = np.zeros((count, features), np.float32)
    values[:, : foreign.FEATURES] = foreign.features_of(number, count)[:, :features]
    return np.concatenate([values, positions(boxes)], axis=1).astype(np.float32)


def labels(number: int, count: int, names: tuple[str, ...] = ("cup", "drum", "kite")) -> dict:
    boxes = foreign.boxes_of(number, count)
    return {
        "image_h": H,
        "image_w": W,
        "objects": [
            {"class": names[n % len(names)], "rect": boxes[n].tolist(), "conf": (n + 1) / 8}
            for n in range(count)
        ],
    }


def write_folder(folder: Path, count: int = 4) -> Path:
    """A folder with all companions, as VinVL's releases have them."""
    folder.mkdir(parents=True)
    features = [f"{n}\t{n + 1}\t{foreign.text(table(n, n + 1), '<f4')}\n" for n in range(count)]
    (folder / "features.tsv").write_text("".join(features))
    offsets = np.cumsum([0, *(len(line) for line in features)])[:-1]
    (folder / "features.lineidx").write_text("".join(f"{offset}\n" for offset in offsets))
    (folder / "imageid2idx.json").write_text(json.dumps({str(n): n for n in range(count)}))
    # The labels come in another order than the features.
    told = [f"{n}\t{json.dumps(labels(n, n + 1))}\n" for n in reversed(range(count))]
    (folder / "predictions.tsv").write_text("".join(told))
    return folder


def samples_of(out: Path) -> dict[str, object]:
    corpus = Corpus(out)
    assert [fault for _, found in verify(str(out)) for fault in found] == []
    return {corpus[n].meta["url"]: corpus[n] for n in range(len(corpus))}


def test_features_and_labels_are_joined_by_image_id(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "oscar")
    manifest = foreign.run_import("oscar-tsv", source, tmp_path / "out")
    assert (manifest.samples, manifest.regions) == (4, 10)
    assert manifest.detector.objects == ["cup", "drum", "kite"]
    sample = samples_of(tmp_path / "out")["2"]
    assert np.array_equal(sample.regions.boxes, foreign.boxes_of(2, 3))
    assert np.array_equal(sample.regions.features, foreign.features_of(2, 3).astype(np.float16))
    assert sample.regions.object_ids.tolist() == [0, 1, 2]
    assert sample.regions.object_conf.tolist() == [0.125, 0.25, 0.375]
    assert sample.meta["tags"] == ["kite", "drum", "cup"]
    assert (sample.meta["width"], sample.meta["height"]) == (W, H)


def test_a_corpus_goes_through_oscars_files_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    rows = [foreign.lxmert_columns(number, number % 4) for number in range(9)]
    source = foreign.write_tsv(tmp_path / "a" / "a.tsv", rows)
    foreign.run_import("lxmert-tsv", source, tmp_path / "first")
    export_corpus("oscar-tsv", str(tmp_path / "first"), str(tmp_path / "oscar"), "url")
    foreign.run_import("oscar-tsv", tmp_path / "oscar", tmp_path / "second")
    first, second = (tmp_path / name / "shards" / "00000.tar" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_the_export_is_what_oscars_loader_reads(tmp_path: Path) -> None:
    """Seek by lineidx, last column as the blob, width F + 6, rect and size from the labels."""
    foreign.run_import("oscar-tsv", write_folder(tmp_path / "oscar"), tmp_path / "out")
    folder = tmp_path / "exported"
    export_corpus("oscar-tsv", str(tmp_path / "out"), str(folder), "url")
    numbers = json.loads((folder / "imageid2idx.json").read_text())
    for name in ("features", "predictions"):
        offsets = [int(line) for line in (folder / f"{name}.lineidx").read_text().split()]
        with (folder / f"{name}.tsv").open("rb") as file:
            for image_id, number in numbers.items():
                file.seek(offsets[number])
                columns = file.readline().decode().rstrip("\n").split("\t")
                assert columns[0] == image_id
                if name == "features":
                    blob = np.frombuffer(base64.b64decode(columns[-1]), np.float32)
                    rows = blob.reshape(int(columns[1]), -1)
                    expected = table(int(image_id), int(image_id) + 1)
                    assert rows.shape == expected.shape
                    assert np.allclose(rows, expected, atol=2e-3)
                    assert np.array_equal(rows[:, -6:-2], expected[:, -6:-2])
                else:
                    assert json.loads(columns[1])["objects"][0]["class"] == "cup"


def test_the_captioning_form_and_half_precision_are_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "oscar"
    folder.mkdir()
    wide = table(0, 2, features=2048)
    content = {"num_boxes": 2, "features": foreign.text(wide, "<f2")}
    (folder / "train.feature.tsv").write_text(f"9\t{json.dumps(content)}\n")
    told = labels(0, 2)["objects"]
    (folder / "train.label.tsv").write_text(f"9\t{json.dumps(told)}\n")
    foreign.run_import("oscar-tsv", folder, tmp_path / "out")
    sample = samples_of(tmp_path / "out")["9"]
    assert sample.regions.features.shape == (2, 2048)
    expected = wide[:, :2048].astype(np.float16)
    assert np.array_equal(sample.regions.features, expected)
    assert (sample.meta["width"], sample.meta["height"]) == (800, 600)  # the bare list's size


def test_labels_of_other_boxes_go_by_overlap_and_that_is_noted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "oscar", 1)
    boxes = foreign.boxes_of(0, 1)
    far = {"class": "kite", "rect": [0, 0, 1, 1], "conf": 0.9}
    near = {"class": "drum", "rect": (boxes[0] + 0.5).tolist(), "conf": 0.5}
    content = {"image_h": H, "image_w": W, "objects": [far, near]}
    (folder / "predictions.tsv").write_text(f"0\t{json.dumps(content)}\n")
    foreign.run_import("oscar-tsv", folder, tmp_path / "out")
    sample = samples_of(tmp_path / "out")["0"]
    assert Corpus(tmp_path / "out").manifest.detector.objects == ["drum", "kite"]
    assert sample.regions.object_ids.tolist() == [0]
    assert sample.meta["tags"] == ["kite", "drum"]  # the tags stay those of the label file
    assert np.allclose(sample.regions.boxes, boxes, atol=1e-3)
    (row,) = read_decisions(str(tmp_path / "out"))
    assert json.loads(row["scores"]) == {"labels": "by overlap", "unlabelled": 0}


def test_regions_without_a_label_are_of_unknown_class(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "oscar", 1)
    far = {"class": "kite", "rect": [0, 0, 1, 1], "conf": 0.9}
    (folder / "predictions.tsv").write_text(f"0\t{json.dumps([far])}\n".replace("[{", "[{", 1))
    manifest = foreign.run_import("oscar-tsv", folder, tmp_path / "out")
    assert manifest.detector.objects == ["kite", "unknown"]
    sample = samples_of(tmp_path / "out")["0"]
    assert (sample.regions.object_ids.tolist(), sample.regions.object_conf.tolist()) == ([1], [0])


def test_hostile_rows_and_companions_become_decisions(tmp_path: Path) -> None:
    folder = tmp_path / "oscar"
    folder.mkdir()
    good = foreign.text(table(0, 2), "<f4")
    bad_positions = table(0, 2)
    bad_positions[:, -6:] = 50
    lines = {
        "kept": f"0\t2\t{good}",
        "bad-base64": f"1\t2\t{good[:-7]}!",
        "wrong-count": f"2\t{7}\t{good}",
        "bad-position": f"3\t2\t{foreign.text(bad_positions, '<f4')}",
        "bad-json": "4\t{not json",
        "wrong-columns": "5\ta\tb\tc",
        "labels-missing": f"6\t2\t{good}",
    }
    (folder / "features.tsv").write_text("\n".join(lines.values()) + "\n")
    told = "".join(f"{n}\t{json.dumps(labels(0, 2))}\n" for n in range(6))
    (folder / "predictions.tsv").write_text(told)
    manifest = foreign.run_import("oscar-tsv", folder, tmp_path / "out")
    expected = {f"collect/{reason}": 1 for reason in lines if reason != "kept"}
    assert manifest.funnel == {"write/kept": 1, **expected}


@pytest.mark.parametrize(
    ("name", "change", "reasons"),
    [
        ("features.lineidx", lambda text: text.replace("0\n", "4\n", 1), {"collect/lineidx": 1}),
        ("features.lineidx", lambda text: text + "99999\n", {"collect/missing-row": 1}),
        (
            "imageid2idx.json",
            lambda text: text.replace('"1": 1', '"1": 3'),
            {"collect/imageid2idx": 1},
        ),
    ],
)
def test_companions_that_disagree_are_noticed(
    tmp_path: Path, name: str, change: object, reasons: dict[str, int]
) -> None:
    folder = write_folder(tmp_path / "oscar")
    place = folder / name
    changed = change(place.read_text())  # type: ignore[operator]
    assert changed != place.read_text()
    place.write_text(changed)
    manifest = foreign.run_import("oscar-tsv", folder, tmp_path / "out")
    lost = {key: count for key, count in manifest.funnel.items() if key != "write/kept"}
    assert lost == reasons


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "features.tsv").write_text("")
    with pytest.raises(RequestError, match=r"none of predictions\.tsv.*--labels"):
        foreign.run_import("oscar-tsv", tmp_path, tmp_path / "out")
    with pytest.raises(RequestError, match=r"none of features\.tsv"):
        foreign.run_import("oscar-tsv", tmp_path / "nowhere", tmp_path / "out")

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.detector import visual_genome
from data_pipeline.detector.making import make_weights, open_source
from data_pipeline.detector.training import TrainingSettings
from data_pipeline.detector.visual_genome import VisualGenomeExamples, items_of
from trawl.errors import RequestError


def thing(number: int, box: tuple[float, ...], *names: str) -> dict[str, object]:
    x, y, w, h = box
    return {"object_id": number, "x": x, "y": y, "w": w, "h": h, "names": list(names)}


def write(folder: Path, images: int = 3) -> Path:
    """A tiny Visual Genome in its own folders: squares and bars, some unnamed or outside."""
    listed, objects, attributes = [], [], []
    for number in range(images):
        part = folder / ("VG_100K" if number % 2 else "VG_100K_2")
        part.mkdir(parents=True, exist_ok=True)
        pixels = np.full((128, 160, 3), 90 + number, np.uint8)
        pixels[10:70, 10:70] = (220, 30, 30)
        cv2.imwrite(str(part / f"{number}.jpg"), pixels)
        listed.append({"image_id": number, "width": 160, "height": 128, "url": f"x/{number}.jpg"})
        shown = [
            thing(number * 10, (10, 10, 60, 60), "Square "),
            thing(number * 10 + 1, (100, 90, 900, 900), "bar"),
            thing(number * 10 + 2, (5, 5, 9, 9), "nobody names this"),
            thing(number * 10 + 3, (400, 5, 9, 9), "bar"),
        ]
        objects.append({"image_id": number, "objects": shown})
        marked = [{**shown[0], "attributes": ["odd", "Red"]}, {**shown[1]}]
        attributes.append({"image_id": number, "attributes": marked})
    objects.append({"image_id": 99, "objects": [thing(990, (0, 0, 9, 9), "bar")]})
    (folder / "image_data.json").write_text(json.dumps(listed))
    (folder / "objects.json").write_text(json.dumps(objects))
    (folder / "attributes.json").write_text(json.dumps(attributes, indent=1))
    (folder / "objects_vocab.txt").write_text("square,quad\nbar")
    (folder / "attributes_vocab.txt").write_text("blue\nred")
    return folder


def test_named_objects_with_their_first_named_attribute(tmp_path: Path) -> None:
    source = VisualGenomeExamples(str(write(tmp_path)))
    assert (source.objects, source.attributes) == (("square", "bar"), ("blue", "red"))
    assert len(source) == 3
    assert source.left_out == {"no image file": 1, "no named object": 0}
    example = source[1]
    assert example.image.shape == (128, 160, 3)
    assert example.boxes.tolist() == [[10, 10, 70, 70], [100, 90, 160, 128]]  # cut, or left out
    assert example.object_ids.tolist() == [0, 1]
    assert example.attribute_ids.tolist() == [1, -1]


def test_without_lists_of_names_the_most_frequent_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path)
    (folder / "objects_vocab.txt").unlink()
    (folder / "attributes_vocab.txt").unlink()
    monkeypatch.setattr(visual_genome, "OBJECT_COUNT", 2)
    source = VisualGenomeExamples(str(folder))
    assert source.objects == ("bar", "nobody names this")  # 7 and 3, before "square" by alphabet
    assert source.attributes == ("odd", "red")


def test_lists_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a.json"
    items = [{"image_id": n, "text": "é" * n, "inner": [1, {"x": "]}"}]} for n in range(60)]
    place.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    for piece in (2, 7, 1000):
        monkeypatch.setattr(visual_genome, "_PIECE", piece)
        assert list(items_of(str(place))) == items


def test_damaged_lists_are_named(tmp_path: Path) -> None:
    for text, fault in (
        ('[{"image_id": 1}, {"image', "breaks off"),
        ('{"image_id": 1}', "not a JSON list"),
        ("[1, 2]", "where an object belongs"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(RequestError, match=rf"a\.json.*{fault}"):
            list(items_of(str(tmp_path / "a.json")))
    folder = write(tmp_path / "vg")
    (folder / "objects.json").write_text(
        '[{"image_id": 1, "objects": [{"x": 1, "names": ["bar"]}]}]'
    )
    with pytest.raises(RequestError, match=r"objects\.json: y: None is no number"):
        VisualGenomeExamples(str(folder))


def test_a_detector_trains_on_it(tmp_path: Path) -> None:
    source = open_source([str(write(tmp_path / "vg"))], None, "train", 0)
    made = make_weights(
        source,
        tmp_path / "vg.safetensors",
        TrainingSettings(steps=1, batch=1),
        cache=None,
        workers=0,
        command="test",
    )
    assert made.objects == ("square", "bar")
    assert (tmp_path / "vg.safetensors").exists()

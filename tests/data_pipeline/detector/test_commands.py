"""`trawl regions train` and `trawl regions evaluate` on a small folder."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from data_pipeline.detector.arithmetic import is_imitated
from data_pipeline.detector.inference import load_detector
from data_pipeline.regions_cli import regions
from tests.data_pipeline.detector.tiny_detector import PaintedExamples
from trawl.errors import RequestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four painted images in COCO's boxes format."""
    source = PaintedExamples(4)
    images, annotations = [], []
    (tmp_path / "data" / "images").mkdir(parents=True)
    for index in range(4):
        example = source[index]
        name = f"{index}.png"
        cv2.imwrite(str(tmp_path / "data" / "images" / name), example.image[:, :, ::-1])
        images.append({"id": index, "file_name": name})
        for box, kind, colour in zip(
            example.boxes, example.object_ids, example.attribute_ids, strict=True
        ):
            annotations.append(
                {
                    "image_id": index,
                    "category_id": int(kind) + 1,
                    "bbox": [float(v) for v in (*box[:2], *(box[2:] - box[:2]))],
                    "attributes": {"colour": source.attributes[colour]},
                }
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(source.objects)]
    table = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "data" / "instances.json").write_text(json.dumps(table))
    return tmp_path / "data"


def test_a_trained_file_is_described_loads_and_is_measured(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "small.safetensors"
    arguments = ["--data", str(folder), "--threads", "1"]
    made = CliRunner().invoke(
        regions,
        ["train", *arguments, "--out", str(out), "--steps", "2", "--batch", "2", "--workers", "0"],
    )
    assert made.exit_code == 0, made.output
    assert ("only imitates bfloat16" in made.output) == is_imitated("bfloat16", "cpu")
    assert {path.name for path in out.parent.iterdir()} == {
        "small.safetensors",
        "small.json",
        "small.jsonl",
    }
    detector = load_detector("demo", out)
    assert detector.objects == ["square", "bar"]
    assert detector.attributes == ["blue", "red"]
    (found,) = detector.detect([np.zeros((200, 300, 3), np.uint8)])
    assert found.features.shape[1] == 2048

    measured = CliRunner().invoke(
        regions, ["evaluate", *arguments, "--weights", str(out), "--record"]
    )
    assert measured.exit_code == 0, measured.output
    assert "mAP@0.5" in measured.output
    made_by = json.loads(out.with_suffix(".json").read_text())["made_by"]
    assert made_by["measured"]["images"] == 4


def test_exactly_one_source_is_asked_for(folder: Path, tmp_path: Path) -> None:
    for sources in ([], ["--world", "0", "--data", str(folder)]):
        result = CliRunner().invoke(regions, ["train", "--out", str(tmp_path / "x"), *sources])
        assert isinstance(result.exception, RequestError)
        assert "--world" in str(result.exception)


def test_data_with_other_names_is_not_measured(folder: Path) -> None:
    result = CliRunner().invoke(regions, ["evaluate", "--data", str(folder)])
    assert isinstance(result.exception, RequestError)

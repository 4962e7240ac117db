"""Plugged-in classifiers of images: transformers and ONNX folders, labels, thresholds, warnings."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline import build
from data_pipeline.recipe import CorpusRecipe, ImageFilter
from data_pipeline.steps.image_classifiers import classify, load_classifier
from tests.data_pipeline.build_here import build_here, reasons
from tests.data_pipeline.sources.pictures import write_picture
from tests.data_pipeline.steps.tiny_models import write_classifier, write_onnx
from trawl.errors import RequestError
from trawl.events import EventLog, read_events

BRIGHT = np.full((90, 120, 3), 255, np.uint8)
DARK = np.zeros((90, 120, 3), np.uint8)


def _settings(**kinds: dict[str, Any]) -> ImageFilter:
    return ImageFilter.model_validate(kinds)


def test_evidence_is_the_probability_of_the_named_classes(tmp_path: Path) -> None:
    import torch
    from transformers import ViTForImageClassification, ViTImageProcessor

    folder = write_classifier(tmp_path / "model", ("normal", "porn", "sexy"))
    model = ViTForImageClassification.from_pretrained(folder).eval()
    inputs = ViTImageProcessor.from_pretrained(folder)(images=BRIGHT, return_tensors="pt")
    with torch.inference_mode():
        plain = model(**inputs).logits.softmax(-1)[0].numpy()
    for labels in (["porn"], ["porn", "sexy"]):
        unsafe = {"model": str(folder), "labels": labels, "threshold": 1.0}
        reason, evidence = classify(BRIGHT, _settings(unsafe=unsafe))
        expected = sum(plain[["normal", "porn", "sexy"].index(label)] for label in labels)
        assert evidence == {"unsafe": pytest.approx(expected, abs=1e-4)}
        assert reason == ""


@pytest.mark.parametrize("kind", ["unsafe", "watermark"])
def test_a_build_drops_what_a_classifier_speaks_against(tmp_path: Path, kind: str) -> None:
    write_picture(tmp_path / "images" / "1.jpg", 1)
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}
    content["annotations"] = [{"image_id": 1, "caption": "A mill by the river"}]
    (tmp_path / "captions.json").write_text(json.dumps(content))
    folder = write_classifier(tmp_path / "model", ("no", "yes"), certain=1)
    for threshold, reason in ((0.9, kind), (1.0, "kept")):
        plugged = {"model": str(folder), "labels": ["yes"], "threshold": threshold}
        out = tmp_path / f"out-{threshold}"
        source = {"kind": "captions", "images": str(tmp_path / "images")}
        source["captions"] = str(tmp_path / "captions.json")
        if threshold == 1.0:
            plugged["labels"] = ["no"]
        build_here(
            out,
            {"collect": {"source": source, "partitions": 1}, "image_filter": {kind: plugged}},
        )
        assert reasons(out) == {"1.jpg": reason}


def test_what_is_off_is_said_once_in_events_and_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"collect": {"source": {"kind": "warc", "uris": ["x"]}}, "name": "test"}
    for plugged, expected in (({}, ["unsafe", "watermark"]), ({"unsafe": "x"}, ["watermark"])):
        filters = {kind: {"model": model} for kind, model in plugged.items()}
        recipe = CorpusRecipe.model_validate({**content, "image_filter": filters})
        place = tmp_path / f"events-{len(plugged)}.jsonl"
        with EventLog(place) as log:
            build.warn(recipe, log)
        said = [event["text"] for event in read_events(place) if event["kind"] == "warning"]
        assert capsys.readouterr().err.splitlines() == [f"WARNING: {text}" for text in said]
        assert [text.split()[0] for text in said] == [
            f"image_filter.{kind}.model" for kind in expected
        ]


@pytest.mark.parametrize(
    ("labels", "files", "told"),
    [
        (("nsfw",), None, r"labels: no class 'nsfw'; name some of normal, porn"),
        ((), None, r"labels: which classes"),
        (("x",), {}, r"model: .*neither an ONNX file nor a config\.json"),
        (("x",), {"config.json": "{}"}, r"model: .*not a whole classifier"),
        (("x",), {"a.onnx": "", "b.onnx": ""}, r"model: .*2 ONNX files"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, labels: tuple[str, ...], files: dict[str, str] | None, told: str
) -> None:
    if files is None:
        write_classifier(tmp_path, ("normal", "porn"))
    for name, text in (files or {}).items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=rf"image_filter\.unsafe\.{told}"):
        load_classifier("unsafe", str(tmp_path), labels, "logits")


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is not None, reason="onnxruntime is installed"
)
def test_what_onnx_needs_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(RequestError, match="pip install onnxruntime"):
        load_classifier("watermark", str(tmp_path), ("x",), "logits")


@pytest.mark.parametrize("last", [False, True])
def test_onnx_models_are_read_with_what_lies_beside_them(tmp_path: Path, last: bool) -> None:
    write_onnx(tmp_path / "model.onnx", 2, last)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "clean", "1": "marked"}}))
    mark = {"model": str(tmp_path), "labels": ["marked"], "threshold": 0.6}
    # The mean of a white picture is 1, so its logits are 0 and 1; of a black one they are equal.
    for pixels, reason, evidence in ((BRIGHT, "watermark", 1 / (1 + np.exp(-1))), (DARK, "", 0.5)):
        found, said = classify(pixels, _settings(watermark=mark))
        assert (found, said) == (reason, {"watermark": pytest.approx(evidence, abs=1e-3)})
    plain = {**mark, "outputs": "probabilities"}
    assert classify(BRIGHT, _settings(watermark=plain))[1] == {"watermark": pytest.approx(1.0)}
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    load_classifier.cache_clear()
    # Normalised, white is 1 and black is -1.
    assert classify(DARK, _settings(watermark=mark))[1] == {
        "watermark": pytest.approx(1 / (1 + np.exp(1)), abs=1e-3)
    }
    (tmp_path / "model.onnx").write_bytes(b"no model")
    load_classifier.cache_clear()
    with pytest.raises(RequestError, match="not a whole classifier"):
        classify(DARK, _settings(watermark=mark))


def test_an_onnx_model_of_one_output_needs_no_label(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", 1)
    found = classify(BRIGHT, _settings(unsafe={"model": str(tmp_path)}))
    assert found == ("unsafe", {"unsafe": 0.5})

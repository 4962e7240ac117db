"""CLIP models as scorers: batches score as single pairs do, and a build keeps by the cosine."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.manifest import read_manifest
from data_pipeline.images import Pixels
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import computes_on_gpu
from data_pipeline.steps.clip import load_clip
from tests.data_pipeline.build_here import build_here
from tests.data_pipeline.sources.pictures import served, write_picture
from tests.data_pipeline.steps.tiny_models import write_clip, write_open_clip
from trawl import chance
from trawl.errors import RequestError

TEXTS = ["a dog", "an old mill by the river", "x", "a cat " * 40, "", "snow", "boats"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP model of transformers."""
    return write_clip(tmp_path_factory.mktemp("clip") / "model")


def _pictures(count: int) -> list[Pixels]:
    random = chance.generator("clip-test")
    sides = [(40, 60), (33, 32), (64, 64)]
    return [
        random.integers(0, 255, (*sides[number % 3], 3), dtype=np.uint8) for number in range(count)
    ]


def test_batches_score_as_single_pairs_do(folder: Path) -> None:
    pictures = _pictures(7)
    single, batched = load_clip(str(folder), 1), load_clip(str(folder), 4)
    images = [batched.images(pictures), np.concatenate([single.images([p]) for p in pictures])]
    texts = [batched.texts(TEXTS), np.concatenate([single.texts([text]) for text in TEXTS])]
    np.testing.assert_allclose(images[0], images[1], atol=2e-6)
    np.testing.assert_allclose(texts[0], texts[1], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(images[0], axis=1), 1, atol=1e-5)
    # Of one size of batch, the same to the last bit whatever stands beside it.
    for number, picture in enumerate(pictures):
        assert (batched.images([picture])[0] == images[0][number]).all()
    for number, text in enumerate(TEXTS):
        assert (batched.texts([text])[0] == texts[0][number]).all()
    assert len(batched.images([])) == len(batched.texts([])) == 0


def test_embeddings_are_those_of_the_plain_library(folder: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    picture = _pictures(1)[0]
    inputs = processor(text=["a dog"], images=picture, return_tensors="pt", padding=True)
    with torch.inference_mode():
        plain = model(**inputs)
    clip = load_clip(str(folder), 3)
    np.testing.assert_allclose(clip.images([picture])[0], plain.image_embeds[0], atol=1e-5)
    np.testing.assert_allclose(clip.texts(["a dog"])[0], plain.text_embeds[0], atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = _pictures(5)
    on_gpu = load_clip(str(folder), 4).images(pictures)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    load_clip.cache_clear()
    np.testing.assert_allclose(load_clip(str(folder), 4).images(pictures), on_gpu, atol=1e-3)


def test_a_build_keeps_by_the_cosine(folder: Path, tmp_path: Path) -> None:
    for number in range(4):
        write_picture(tmp_path / "site" / f"{number}.jpg", number)
    lines = [
        f"http://a.test/{number}.jpg\t{text}"
        for number in range(4)
        for text in ("an old mill by the river", "two boats on a lake", "snow on the hills")
    ]
    (tmp_path / "table.tsv").write_text("\n".join(lines))
    source = {"kind": "table", "format": "cc12m", "uris": [str(tmp_path / "table.tsv")]}
    clip = load_clip(str(folder), 2)
    with served(tmp_path / "site") as download:
        content = {
            "collect": {"source": source, "partitions": 2},
            "download": download,
            "image_filter": {"natural": {"enabled": False}},
            "score": {"model": str(folder), "threshold": 0.05, "batch": 2},
        }
        build_here(tmp_path / "out", content)
    rows = list(read_decisions(str(tmp_path / "out")))
    assert len(rows) == 12
    import cv2

    for row in rows:
        place = str(tmp_path / "site" / row["url"].rpartition("/")[2])
        pixels = cv2.cvtColor(cv2.imread(place), cv2.COLOR_BGR2RGB)
        expected = max(0.0, float(clip.images([pixels])[0] @ clip.texts([row["text"]])[0]))
        assert row["score"] == pytest.approx(expected, abs=2e-2)  # another JPEG decoder
        assert (row["reason"] == "low-score") == (row["score"] < 0.05)
    assert {row["reason"] for row in rows} >= {"kept", "low-score"}
    recipe = CorpusRecipe.model_validate({"name": "test", **content})
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    moved = recipe.model_copy(
        update={"score": recipe.score.model_copy(update={"model": str(copy)})}
    )
    assert moved.digest() == recipe.digest() == read_manifest(str(tmp_path / "out")).recipe_sha256
    (copy / "config.json").write_text("{}")
    assert computes_on_gpu(recipe, "score")
    assert not computes_on_gpu(recipe, "image_filter")


def test_another_model_makes_another_recipe(folder: Path, tmp_path: Path) -> None:
    def digest(model: str) -> str:
        content = {"collect": {"source": {"kind": "warc", "uris": ["x"]}}, "name": "test"}
        return CorpusRecipe.model_validate({**content, "score": {"model": model}}).digest()

    copy = shutil.copytree(folder, tmp_path / "copy")
    assert digest(str(copy)) == digest(str(folder)) != digest("builtin")
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "config.json").write_text("{}")
    assert digest(str(other)) != digest(str(folder))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "neither open_clip_config.json nor config.json"),
        ({"config.json": "{}"}, "not a whole CLIP model"),
        ({"config.json": json.dumps({"model_type": "bert"})}, "not a whole CLIP model"),
    ],
)
def test_folders_that_hold_no_clip_are_named(
    tmp_path: Path, files: dict[str, str], told: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=rf"score\.model: .*{told}"):
        load_clip(str(tmp_path), 2)


@pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is not None, reason="open_clip is installed"
)
def test_what_open_clip_needs_is_told(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(RequestError, match=r"pip install 'open_clip_torch>=3\.0'"):
        load_clip(str(tmp_path), 2)


def test_open_clip_models_score_alike_in_batches(tmp_path: Path) -> None:
    folder = str(write_open_clip(tmp_path / "model"))
    pictures = _pictures(5)
    batched, single = load_clip(folder, 4), load_clip(folder, 1)
    np.testing.assert_allclose(
        batched.images(pictures), np.concatenate([single.images([p]) for p in pictures]), atol=2e-6
    )
    assert batched.texts(TEXTS).shape == (len(TEXTS), 8)
    (tmp_path / "model" / "open_clip_pytorch_model.bin").write_bytes(b"no weights")
    load_clip.cache_clear()
    with pytest.raises(RequestError, match="not a whole CLIP model"):
        load_clip(folder, 4)

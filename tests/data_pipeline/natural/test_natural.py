"""The natural-image model: what it tells apart, sites that are new to it too, and its training."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.images import Pixels
from data_pipeline.natural import drawings, screens
from data_pipeline.natural.examples import from_labels, made
from data_pipeline.natural.model import load_model
from data_pipeline.natural.statistics import statistics_of
from data_pipeline.natural.training import Sources, measured, train
from data_pipeline.steps.looks import looks_of
from tests.data_pipeline.builds import trawl_corpus
from trawl.chance import generator
from trawl.errors import RequestError

LABELS = Path(__file__).parents[2] / "data" / "natural_images.jsonl"
DRAWERS = (
    *(screens.window, screens.page, screens.program, screens.text, screens.table, screens.squares),
    *(drawings.line_art, drawings.cartoon, drawings.banner, drawings.land_map, drawings.plot),
    *(drawings.circuit, drawings.clip_art),
)


@pytest.mark.parametrize("draw", DRAWERS, ids=lambda draw: draw.__name__)
def test_each_kind_of_graphic_is_dropped(draw: object) -> None:
    pixels = np.asarray(draw(generator("held out", draw.__name__), 560, 420))  # type: ignore[operator,attr-defined]
    assert looks_of(pixels).natural < 0.5


def test_statistics_are_finite_for_any_image() -> None:
    shapes = ((1, 1), (2, 900), (900, 2), (17, 33), (301, 301))
    for height, width in shapes:
        for fill in (0, 255):
            image = np.full((height, width, 3), fill, np.uint8)
            values = statistics_of(image, image[..., 0]).values()
            assert np.isfinite(list(values)).all(), (height, width, fill)


def test_a_larger_copy_is_judged_alike() -> None:
    for picture in made(0, 4):
        image: Pixels = picture.pixels
        twice = np.asarray(cv2.resize(image, None, fx=1.5, fy=1.5), np.uint8)
        assert abs(looks_of(image).natural - looks_of(twice).natural) < 0.6


def test_sites_that_it_was_not_trained_on(shared_data: Path, tmp_path: Path) -> None:
    """A few of the labels held out; `bench/natural.py` takes them all."""
    lines = LABELS.read_text().splitlines()
    few = [line for line in lines if "udacity" in line] + [
        line for line in lines if "getty" in line
    ][::3]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(few))
    model, counts = load_model("builtin"), Counter[tuple[bool, bool]]()
    examples = measured(from_labels(str(labels), str(shared_data / "web"), held_out=True))
    for natural, probability in zip(
        examples.natural.tolist(), model.probabilities(examples.rows), strict=True
    ):
        counts[natural, bool(probability >= 0.5)] += 1
    assert sum(counts.values()) >= 50
    assert counts[True, True] >= 0.9 * (counts[True, True] + counts[True, False])
    assert counts[True, True] >= 0.9 * (counts[True, True] + counts[False, True])


def test_one_image_is_judged_as_many_are() -> None:
    model = load_model("builtin")
    examples = measured(made(0, 2))
    many = model.probabilities(examples.rows)
    for row, probability in zip(examples.rows, many, strict=True):
        statistics = dict(zip(examples.names, row.tolist(), strict=True))
        assert model.naturalness(statistics) == pytest.approx(probability, abs=1e-6)


def test_training_learns_from_made_pictures_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for picture in made(0, 3):
        if picture.natural:
            cv2.imwrite(str(folder / f"{picture.key}.png"), picture.pixels[..., ::-1])
    (folder / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "natural.safetensors"
    told = train(Sources(5, photographs=[str(folder)]), out, steps=120)
    assert "precision" in told
    model = load_model(str(out))
    assert model.source == "5 made of each class, photos"
    examples = measured(made(0, 5))  # what it learned from: five of a kind carry no further
    right = (model.probabilities(examples.rows) >= 0.5) == examples.natural
    assert right.all()
    again = tmp_path / "again.safetensors"
    train(Sources(5, photographs=[str(folder)]), again, steps=120)
    assert again.read_bytes() == out.read_bytes()


def test_bad_requests_are_told_in_a_line(tmp_path: Path) -> None:
    out = str(tmp_path / "natural.safetensors")
    told = trawl_corpus("train-natural", out, "--photographs", str(tmp_path), code=2)
    assert "no image there" in told
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"warc": "a.warc.gz"}')
    told = trawl_corpus("train-natural", out, "--made", "1", "--labels", str(labels), code=2)
    assert "labels.jsonl, line 1" in told
    labels.write_bytes(b"no model")
    with pytest.raises(RequestError, match="train-natural"):
        load_model(str(labels))

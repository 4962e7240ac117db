"""The image filter: its borders, what looks natural, and hashes that survive copying."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_pipeline.images import decode
from data_pipeline.recipe import ImageFilter
from data_pipeline.steps.image_filter import judge_row, reason_of_size
from data_pipeline.steps.looks import looks_of
from trawl.demo.render import encode_jpeg, render
from trawl.demo.scenes import sample_scene

SETTINGS = ImageFilter()


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (301, 301, ""),
        (300, 500, "too-small"),
        (500, 300, "too-small"),
        (1204, 301, ""),
        (1205, 301, "bad-aspect"),
        (301, 1205, "bad-aspect"),
        (10_000, 5_000, ""),
        (10_000, 5_001, "too-many-pixels"),
    ],
)
def test_more_than_300_pixels_on_each_side(width: int, height: int, reason: str) -> None:
    assert reason_of_size(width, height, SETTINGS) == reason


def _drawing(kind: str) -> np.ndarray:
    image = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(image)
    if kind == "logo":
        draw.ellipse((120, 60, 360, 300), fill=(220, 60, 30))
        draw.rectangle((220, 120, 260, 240), fill="white")
    elif kind == "chart":
        draw.line((40, 20, 40, 320, 460, 320), fill="black", width=2)
        for place in range(8):
            height = 40 + 31 * place
            draw.rectangle((60 + place * 50, 320 - height, 90 + place * 50, 320), fill="steelblue")
    elif kind == "text":
        for line in range(18):
            draw.text(
                (10, 10 + line * 19), "The quick brown fox jumps over a dog " * 2, fill="black"
            )
    elif kind == "diagram":
        for place in range(5):
            box = (20 + place * 90, 40 + place * 60, 100 + place * 90, 90 + place * 60)
            draw.rectangle(box, outline="black", width=3, fill=(255, 240, 200))
            draw.line((box[2], box[3], box[2] + 10, box[3] + 20), fill="black", width=3)
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["logo", "chart", "text", "diagram"])
def test_drawings_do_not_look_natural(kind: str) -> None:
    assert looks_of(_drawing(kind)).natural < SETTINGS.natural.threshold


def test_scenes_of_the_world_look_natural() -> None:
    for number in range(12):
        looks = looks_of(decode(encode_jpeg(render(sample_scene(3, "train", number))), 10**8))
        assert looks.natural > 0.8
        assert looks.entropy > SETTINGS.min_entropy


def test_photographs_look_natural(shared_data: Path) -> None:
    photos = sorted((shared_data / "pairs" / "images").glob("coco_*.jpg"))
    natural = [looks_of(decode(path.read_bytes(), 10**8)).natural >= 0.5 for path in photos[:120]]
    assert sum(natural) >= 0.98 * len(natural)


def _distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_copies_have_near_hashes_and_other_pictures_far_ones() -> None:
    hashes = []
    for number in range(6):
        image = render(sample_scene(4, "train", number))
        height, width = image.shape[:2]
        own = looks_of(image).phash
        hashes.append(own)
        smaller = cv2.resize(image, (width * 2 // 3, height * 2 // 3), interpolation=cv2.INTER_AREA)
        again = decode(encode_jpeg(smaller, quality=60), 10**8)
        assert _distance(own, looks_of(again).phash) <= 6
    for number, one in enumerate(hashes):
        assert all(_distance(one, other) > 12 for other in hashes[:number])


def test_a_verdict_names_the_first_fault() -> None:
    data = encode_jpeg(render(sample_scene(5, "train", 0)))
    row = {"sha256": "", "offset": 0, "size": len(data), "width": 400, "height": 400}
    assert judge_row(io.BytesIO(data), row, SETTINGS)["reason"] == ""
    cut = io.BytesIO(data[: len(data) // 2])
    assert judge_row(cut, row, SETTINGS)["reason"] == "truncated"
    small = {**row, "width": 10}
    assert judge_row(io.BytesIO(b""), small, SETTINGS)["reason"] == "too-small"
    strict = ImageFilter.model_validate({"natural": {"threshold": 1.0}})
    assert judge_row(io.BytesIO(data), row, strict)["reason"] == "unnatural"
    off = ImageFilter.model_validate({"natural": {"threshold": 1.0, "enabled": False}})
    assert judge_row(io.BytesIO(data), row, off)["reason"] == ""

"""The flat graphics of the demo's web."""

import io

import numpy as np
import pytest
from PIL import Image

from trawl.demo.graphics import (
    CONTENT_KINDS,
    GRAPHIC_KINDS,
    content_type,
    draw_graphic,
    encode_graphic,
    graphic_format,
    graphic_size,
)
from trawl.demo.render import render
from trawl.demo.scenes import sample_scene


def _flatness(image: np.ndarray) -> float:
    """The share of pixels that equal their right neighbour exactly."""
    return float((image[:, 1:] == image[:, :-1]).all(axis=2).mean())


@pytest.mark.parametrize("kind", GRAPHIC_KINDS)
def test_a_graphic_is_a_pure_function_of_seed_kind_and_index(kind: str) -> None:
    assert encode_graphic(3, kind, 1) == encode_graphic(3, kind, 1)
    others = {encode_graphic(seed, kind, index) for seed in (3, 4) for index in range(4)}
    assert len(others) >= 6


@pytest.mark.parametrize("kind", GRAPHIC_KINDS)
def test_a_graphic_has_the_size_and_format_that_were_announced(kind: str) -> None:
    for index in range(3):
        with Image.open(io.BytesIO(encode_graphic(0, kind, index))) as image:
            assert image.size == graphic_size(0, kind, index)
            assert str(image.format).lower() == graphic_format(kind)
    assert content_type(graphic_format(kind)).startswith("image/")


@pytest.mark.parametrize("kind", CONTENT_KINDS)
def test_graphics_among_the_content_pass_every_limit_on_size(kind: str) -> None:
    for index in range(12):
        width, height = graphic_size(0, kind, index)
        assert min(width, height) > 300
        assert max(width, height) <= 4 * min(width, height)


def test_graphics_are_flat_and_scenes_are_not() -> None:
    graphics = [
        _flatness(np.asarray(draw_graphic(0, kind, index)))
        for kind in CONTENT_KINDS
        for index in range(2)
    ]
    scenes = [_flatness(render(sample_scene(0, "web", index))) for index in range(12)]
    assert min(graphics) > max(scenes)

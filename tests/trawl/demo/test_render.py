import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import simplejpeg

from trawl.demo import surfaces
from trawl.demo.raster import SOLID, rasterise
from trawl.demo.render import encode_jpeg, render
from trawl.demo.scenes import sample_scene
from trawl.demo.surfaces import BACKGROUNDS, COLOURS


def digest(index: int) -> str:
    return hashlib.sha256(encode_jpeg(render(sample_scene(5, "train", index)))).hexdigest()


def test_pictures_have_the_scenes_size() -> None:
    scene = sample_scene(5, "train", 0)
    image = render(scene)
    assert image.dtype == np.uint8
    assert image.shape == (scene.height, scene.width, 3)
    again = simplejpeg.decode_jpeg(encode_jpeg(image, quality=95))
    assert again.shape == image.shape
    assert np.abs(again.astype(int) - image).mean() < 8


def test_bytes_do_not_depend_on_process_nor_order() -> None:
    here = [digest(index) for index in (0, 1, 2)]
    assert [digest(index) for index in (2, 0, 1)] == [here[2], here[0], here[1]]
    code = (
        "import hashlib; from trawl.demo.render import encode_jpeg, render; "
        "from trawl.demo.scenes import sample_scene; "
        "print([hashlib.sha256(encode_jpeg(render(sample_scene(5, 'train', index)))).hexdigest()"
        " for index in (2, 1, 0)])"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}
    )
    assert made.stdout.strip() == str(here[::-1])


def test_pictures_are_no_flat_graphics() -> None:
    for index in range(40):
        image = simplejpeg.decode_jpeg(encode_jpeg(render(sample_scene(6, "train", index))))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        share = np.bincount(grey.ravel(), minlength=256) / grey.size
        share = share[share > 0]
        assert -(share * np.log2(share)).sum() > 5
        rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
        blocks = grey[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
        assert (blocks.std(axis=(1, 3)) < 1).mean() < 0.1


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_textures_are_rich_and_differ_by_variant(background: str) -> None:
    first, second = (surfaces.texture(background, variant) for variant in (0, 1))
    assert first.shape == (surfaces.SIDE, surfaces.SIDE, 3)
    assert first.std() > 8
    assert (first != second).mean() > 0.5
    assert not first.flags.writeable


def test_objects_have_the_colour_that_the_scene_says() -> None:
    names = list(COLOURS)
    known = np.array(list(COLOURS.values()), dtype=float)
    right = total = 0
    for index in range(120):
        scene = sample_scene(7, "train", index)
        if scene.light not in ("daylight", "overcast", "sunshine"):
            continue
        image = render(scene)
        for item in scene.objects:
            inside = item.pose.x >= 0 and item.pose.y >= 0
            raster = rasterise(item.kind, item.pose)
            rows, columns = raster.alpha.shape
            patch = image[item.pose.y : item.pose.y + rows, item.pose.x : item.pose.x + columns]
            whole = inside and patch.shape[:2] == (rows, columns)
            if item.pattern != "plain" or item.visible < 1 or not whole:
                continue
            own = (raster.alpha >= SOLID) & (raster.paint[..., 0] > 250)
            colour = np.median(patch[own].astype(float), axis=0)
            total += 1
            right += names[np.abs(known - colour).sum(axis=1).argmin()] == item.colour
    assert total > 40
    assert right / total > 0.8

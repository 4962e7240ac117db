"""What the natural-image model learns from: made pictures, folders, and labelled images in WARCs.

Made ones need no data at all: scenes of the demo's world are natural, the demo's graphics and those
of `screens` and `drawings` are not. Folders and labels bring the real web.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_pipeline.crawl.warc import read_warc
from data_pipeline.images import ImageError, Pixels, decode
from data_pipeline.natural import drawings, screens
from data_pipeline.natural.wear import Chance, cut_out, worn
from trawl import storage
from trawl.chance import generator
from trawl.demo.graphics import CONTENT_KINDS, draw_graphic
from trawl.demo.render import render
from trawl.demo.scenes import sample_scene
from trawl.errors import RequestError

_MAX_PIXELS = 20_000_000
_MAX_SIDE = 1600
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_DRAWERS: tuple[Callable[[Chance, int, int], Any], ...] = (
    *(screens.window, screens.page, screens.program, screens.text, screens.table, screens.squares),
    *(drawings.line_art, drawings.cartoon, drawings.gradient, drawings.banner, drawings.land_map),
    *(drawings.plot, drawings.circuit, drawings.clip_art),
)


@dataclass(frozen=True)
class Picture:
    """A picture to learn from; `group` names its origin, `key` the picture itself."""

    pixels: Pixels
    natural: bool
    group: str
    key: str


def made(seed: int, count: int) -> Iterator[Picture]:
    """Yield `count` natural pictures and as many graphics, all worn as pictures on pages are."""
    for number in range(count):
        chance = generator(seed, "natural scene", number)
        scene = render(sample_scene(seed, "natural", number))
        # Each third as it is: what most pages of the demo's web show.
        pixels = scene if number % 3 == 0 else worn(chance, scene)
        yield Picture(pixels, True, "scenes", f"scene {number}")
        yield Picture(_graphic(seed, number, scene), False, "graphics", f"graphic {number}")


def _graphic(seed: int, number: int, scene: Pixels) -> Pixels:
    """Draw a graphic of one kind after the other; some begin from a scene."""
    chance = generator(seed, "natural graphic", number)
    kind = number % (len(_DRAWERS) + len(CONTENT_KINDS) + 1)
    if kind < len(_DRAWERS):
        width, height = int(chance.integers(320, 1000)), int(chance.integers(320, 800))
        pixels = np.asarray(_DRAWERS[kind](chance, width, height))
    elif kind < len(_DRAWERS) + len(CONTENT_KINDS):
        content = CONTENT_KINDS[kind - len(_DRAWERS)]
        pixels = np.asarray(draw_graphic(seed, content, number))
    else:
        pixels = drawings.engraving(chance, scene)
    return worn(chance, pixels) if number % 3 else np.ascontiguousarray(pixels)


def from_folder(folder: str, natural: bool, most: int) -> Iterator[Picture]:
    """Return the images below a folder, at most `most` of them, drawn blindly.

    RequestError at once if there is none.
    """
    names = [name for name in storage.list_files(folder) if name.lower().endswith(_SUFFIXES)]
    if not names:
        raise RequestError(f"{folder}: no image there; name a folder with {', '.join(_SUFFIXES)}")
    order = generator("natural folder", len(names)).permutation(len(names))[:most]
    return _from_files([names[place] for place in sorted(order)], natural)


def _from_files(names: list[str], natural: bool) -> Iterator[Picture]:
    for name in names:
        pixels = _decoded(storage.read_bytes(name))
        if pixels is not None:
            # Grouped by folder, one below the other: a folder is a site or a kind of picture.
            yield Picture(_fitted(pixels), natural, name.rpartition("/")[0], name)


def from_labels(labels: str, warcs: str, held_out: bool) -> Iterator[Picture]:
    """Return the images of WARC files in the folder `warcs` that JSON lines label.

    A label has `warc`, `url`, `natural`, and `group`, its site; those that say `held_out` are for
    the figures alone, and those that say `unsure`, where people may differ, for nothing.
    RequestError at once for a line that is no label.
    """
    wanted: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(storage.read_text(labels).splitlines(), start=1):
        try:
            row = json.loads(line)
            known = {key: row[key] for key in ("warc", "url", "natural", "group")}
        except (ValueError, KeyError, TypeError) as error:
            told = "a label needs warc, url, natural and group"
            raise RequestError(f"{labels}, line {number}: {error!r}; {told}") from error
        if not row.get("unsure") and bool(row.get("held_out")) == held_out:
            wanted.setdefault(known["warc"], {})[known["url"]] = known
    return _from_warcs(wanted, warcs)


def _from_warcs(wanted: dict[str, dict[str, Any]], warcs: str) -> Iterator[Picture]:
    """Yield the images that `wanted` labels, by file and address."""
    for name in sorted(wanted):
        rows = wanted[name]
        for record in read_warc(storage.join(warcs, name)):
            row = rows.pop(record.url, None) if record.body is not None else None
            pixels = _decoded(record.body or b"") if row else None
            if row and pixels is not None:
                yield Picture(pixels, row["natural"], row["group"], row["url"])


def _fitted(pixels: Pixels) -> Pixels:
    """Shrink what is larger than pictures on pages are: wallpapers, scans."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _MAX_SIDE / max(height, width))
    if scale == 1.0:
        return pixels
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _decoded(data: bytes) -> Pixels | None:
    """Return the pixels of image bytes, None if there are none to be had."""
    try:
        return decode(data, _MAX_PIXELS)
    except ImageError:
        return None


def varied(pictures: Iterable[Picture], seed: int) -> Iterator[Picture]:
    """Yield each picture as it is and once worn; of photographs some drawn or cut out too."""
    for picture in pictures:
        chance = generator(seed, "natural wear", picture.key)
        yield picture
        yield Picture(worn(chance, picture.pixels), picture.natural, picture.group, picture.key)
        if not picture.natural:
            continue
        fate = chance.random()
        if fate < 0.12:
            yield _changed(picture, drawings.engraving(chance, picture.pixels), False)
        elif fate < 0.24:
            yield _changed(picture, drawings.illustration(chance, picture.pixels), False)
        elif fate < 0.4:
            yield _changed(picture, worn(chance, cut_out(chance, picture.pixels)), True)


def _changed(picture: Picture, pixels: Pixels, natural: bool) -> Picture:
    """Return a picture made of another; drawings of photographs are a group of their own."""
    group = picture.group if natural else f"{picture.group}, drawn"
    return Picture(pixels, natural, group, picture.key)

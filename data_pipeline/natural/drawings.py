"""Made-up drawings: line art, cartoons, maps, plots, circuits, clip art, gradients, slides.

Beside them two ways to turn a photograph into a drawing, an engraving and a flat illustration:
what lies nearest to photographs and must be dropped all the same.
"""

from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_pipeline.images import Pixels
from data_pipeline.natural.screens import Chance, Colour, canvas, grey, shade, write
from trawl.demo.prose import filler_words

Points = list[tuple[float, float]]


def blob(chance: Chance, middle: tuple[float, float], radius: float, corners: int) -> Points:
    """Return the corners of a closed shape around a place."""
    angles = np.sort(chance.uniform(0, 2 * np.pi, corners))
    reach = radius * chance.uniform(0.5, 1.0, corners)
    x, y = middle
    return [(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(reach, angles, strict=True)]


def smooth(points: Points) -> Points:
    """Round a closed shape off by cutting its corners three times (Chaikin)."""
    places = np.array(points)
    for _ in range(3):
        following = np.roll(places, -1, axis=0)
        places = np.stack([places * 0.75 + following * 0.25, places * 0.25 + following * 0.75], 1)
        places = places.reshape(-1, 2)
    return [(float(x), float(y)) for x, y in places]


def _place(chance: Chance, width: int, height: int) -> tuple[float, float]:
    return float(chance.uniform(0, width)), float(chance.uniform(0, height))


def line_art(chance: Chance, width: int, height: int) -> Image.Image:
    """Outlines with hatching, in ink on paper."""
    image, draw = canvas(width, height, shade(chance, 235, 256))
    ink = grey(int(chance.integers(0, 60)))
    thick = int(chance.integers(1, 4))
    for _ in range(int(chance.integers(4, 14))):
        middle = _place(chance, width, height)
        radius = min(width, height) * float(chance.uniform(0.1, 0.45))
        shape = smooth(blob(chance, middle, radius, int(chance.integers(4, 10))))
        draw.line([*shape, shape[0]], fill=ink, width=thick, joint="curve")
        lean = float(chance.uniform(-1, 1))
        for step in range(int(chance.integers(0, 40))):
            x, y = middle[0] - radius / 3 + step * 4, middle[1]
            long = radius * float(chance.uniform(0.1, 0.4))
            draw.line((x, y, x + long * lean, y + long), fill=ink, width=1)
    return image


def cartoon(chance: Chance, width: int, height: int) -> Image.Image:
    """Flat shapes with or without black outlines, over a flat or shaded ground."""
    shaded = chance.random() < 0.4
    ground = gradient(chance, width, height) if shaded else None
    image = ground or canvas(width, height, shade(chance, 120, 256))[0]
    draw = ImageDraw.Draw(image)
    outline = int(chance.integers(0, 5))
    for _ in range(int(chance.integers(5, 40))):
        radius = min(width, height) * float(chance.uniform(0.03, 0.35))
        shape = blob(chance, _place(chance, width, height), radius, int(chance.integers(3, 9)))
        shape = smooth(shape) if chance.random() < 0.7 else shape
        draw.polygon(shape, fill=shade(chance, 0, 256))
        if outline:
            draw.line([*shape, shape[0]], fill=grey(10), width=outline)
    return image


def gradient(chance: Chance, width: int, height: int) -> Image.Image:
    """A smooth run from colour to colour, as backgrounds have it."""
    corners = chance.uniform(0, 256, (2, 2, 3)).astype(np.float32)
    if chance.random() < 0.5:
        corners[:, 1] = corners[:, 0]
    spread: Any = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return Image.fromarray(spread.astype(np.uint8))


def banner(chance: Chance, width: int, height: int) -> Image.Image:
    """A slide or banner: a shaded ground, a few large words, a mark, a button."""
    image = gradient(chance, width, height)
    draw = ImageDraw.Draw(image)
    for _ in range(int(chance.integers(0, 6))):
        x, y = _place(chance, width, height)
        radius = min(width, height) * float(chance.uniform(0.05, 0.4))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade(chance, 0, 256))
    for number in range(int(chance.integers(1, 5))):
        size = height / float(chance.uniform(6, 14))
        place = (width * 0.06, height * (0.1 + 0.2 * number))
        write(draw, place, filler_words(chance, 3).title(), size, shade(chance, 200, 256))
    box = (width * 0.06, height * 0.85, width * 0.3, height * 0.95)
    draw.rounded_rectangle(box, 8, fill=shade(chance, 0, 256))
    return image


def land_map(chance: Chance, width: int, height: int) -> Image.Image:
    """A map: pale countries with borders, rivers or roads, names; in colour or in ink."""
    plain = chance.random() < 0.4
    image, draw = canvas(width, height, grey(250) if plain else shade(chance, 170, 240))
    for _ in range(int(chance.integers(4, 16))):
        middle = _place(chance, width, height)
        radius = min(width, height) * float(chance.uniform(0.1, 0.4))
        shape = smooth(blob(chance, middle, radius, 14))
        fill = grey(250) if plain else shade(chance, 170, 256)
        draw.polygon(shape, fill=fill, outline=grey(90))
    for _ in range(int(chance.integers(3, 24))):
        road = [_place(chance, width, height)]
        for _ in range(int(chance.integers(3, 12))):
            x, y = road[-1]
            road.append((x + float(chance.normal(0, 40)), y + float(chance.normal(0, 40))))
        colour = grey(40) if plain else shade(chance, 60, 256)
        draw.line(road, fill=colour, width=int(chance.integers(1, 6)), joint="curve")
    for _ in range(int(chance.integers(6, 60))):
        size = float(chance.uniform(8, 16))
        write(draw, _place(chance, width, height), filler_words(chance, 1).title(), size, grey(40))
    return image


def plot(chance: Chance, width: int, height: int) -> Image.Image:
    """Points, curves or a field of colours between two axes."""
    image, draw = canvas(width, height, grey(255))
    left, top, right, bottom = width * 0.12, height * 0.08, width * 0.95, height * 0.88
    kind = int(chance.integers(3))
    if kind == 0:
        field: Any = cv2.resize(chance.random((6, 6)).astype(np.float32), (512, 512))
        mapped = np.clip(field, 0, 1) * 255
        tinted: Any = cv2.applyColorMap(mapped.astype(np.uint8), int(chance.integers(0, 20)))
        size = (int(right - left), int(bottom - top))
        image.paste(Image.fromarray(tinted[..., ::-1].copy()).resize(size), (int(left), int(top)))
    for _ in range(int(chance.integers(1, 5))):
        colour = shade(chance, 0, 220)
        level = np.cumsum(chance.normal(0, 1, 80))
        level = (level - level.min()) / (np.ptp(level) + 1e-6)
        x = np.linspace(left, right, 80)
        points = list(zip(x.tolist(), (bottom - level * (bottom - top)).tolist(), strict=True))
        if kind == 1:
            for px, py in points:
                py += float(chance.normal(0, 20))
                draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill=colour)
        else:
            draw.line(points, fill=colour, width=int(chance.integers(1, 4)))
    draw.rectangle((left, top, right, bottom), outline=grey(20), width=2)
    for step in range(6):
        write(draw, (4, top + (bottom - top) * step / 6), str(step * 10), 12, grey(20))
        write(draw, (left + (right - left) * step / 6, bottom + 4), str(step), 12, grey(20))
    return image


def circuit(chance: Chance, width: int, height: int) -> Image.Image:
    """Boxes joined by right-angled lines, as diagrams and circuit plans have them."""
    dark = chance.random() < 0.3
    image, draw = canvas(width, height, grey(8) if dark else shade(chance, 240, 256))
    ink = shade(chance, 140, 256) if dark else shade(chance, 0, 130)
    for _ in range(int(chance.integers(8, 50))):
        x, y = _place(chance, width, height)
        far, deep = _place(chance, width, height)
        draw.line([(x, y), (far, y), (far, deep)], fill=ink, width=int(chance.integers(1, 3)))
    for _ in range(int(chance.integers(4, 20))):
        x, y = _place(chance, width, height)
        box = (x, y, x + float(chance.uniform(20, 140)), y + float(chance.uniform(14, 70)))
        fill = grey(8) if dark else shade(chance, 190, 256)
        draw.rounded_rectangle(box, int(chance.integers(0, 8)), fill=fill, outline=ink, width=2)
        write(draw, (x + 4, y + 2), filler_words(chance, 1), 12, ink)
    return image


def clip_art(chance: Chance, width: int, height: int) -> Image.Image:
    """One shaded object in the middle of a blank: a button, a ball, a sign."""
    ground: Colour = grey(255) if chance.random() < 0.8 else shade(chance, 0, 256)
    image, _ = canvas(width, height, ground)
    for _ in range(int(chance.integers(1, 8))):
        mask, draw = canvas(width, height, grey(0))
        middle = (width * float(chance.uniform(0.3, 0.7)), height * float(chance.uniform(0.3, 0.7)))
        radius = min(width, height) * float(chance.uniform(0.08, 0.45))
        if chance.random() < 0.4:
            box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius)
            draw.ellipse(box, fill=grey(255))
        else:
            draw.polygon(smooth(blob(chance, middle, radius, 7)), fill=grey(255))
        filled = gradient(chance, width, height)
        if chance.random() < 0.3:
            filled, _ = canvas(width, height, shade(chance, 0, 256))
        image.paste(filled, (0, 0), mask.convert("L"))
    return image.filter(ImageFilter.SMOOTH) if chance.random() < 0.3 else image


def engraving(chance: Chance, photograph: Pixels) -> Pixels:
    """Turn a photograph into strokes of one ink: edges, and lines whose weight follows the tone."""
    tones: Any = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
    tones = cv2.GaussianBlur(tones, (0, 0), float(chance.uniform(0.8, 2.0))).astype(np.float32)
    near: Any = cv2.GaussianBlur(tones, (0, 0), 1.0)
    far: Any = cv2.GaussianBlur(tones, (0, 0), float(chance.uniform(2.0, 4.0)))
    ink = (near - far) < -float(chance.uniform(1.5, 5))
    if chance.random() < 0.7:
        height, width = tones.shape
        angle, period = float(chance.uniform(0, np.pi)), float(chance.uniform(3, 8))
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
        ink |= (wave * 127 + 128) > tones * float(chance.uniform(1.3, 2.2)) + 20
    paper, dark = np.array(shade(chance, 225, 256)), np.array(shade(chance, 0, 60))
    drawn = np.where(ink[..., None], dark, paper).astype(np.uint8)
    return cv2.GaussianBlur(drawn, (0, 0), float(chance.uniform(0.3, 0.8)))  # type: ignore[return-value]


def illustration(chance: Chance, photograph: Pixels) -> Pixels:
    """Turn a photograph into few flat colours with smooth borders, and perhaps outlines."""
    flat: Any = photograph
    for _ in range(2):
        flat = cv2.bilateralFilter(flat, 9, 60, 9)
    flat = cv2.medianBlur(flat, 9)
    step = int(chance.integers(28, 64))
    flat = (flat // step * step + step // 2).astype(np.uint8)
    flat = cv2.medianBlur(flat, 5)
    if chance.random() < 0.5:
        tones: Any = cv2.cvtColor(flat, cv2.COLOR_RGB2GRAY)
        edges: Any = cv2.dilate(cv2.Canny(tones, 60, 120), np.ones((2, 2), np.uint8))
        flat[edges > 0] = shade(chance, 0, 50)
    return flat  # type: ignore[no-any-return]

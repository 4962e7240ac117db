"""The flat graphics of the demo's web: what pages show besides photographs.

Logos, icons, badges, banners, adverts, text screenshots, quote cards and, from `charts`, charts,
maps and diagrams. Every graphic is a pure function of seed, kind and index.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trawl.chance import generator
from trawl.demo.charts import draw_bars, draw_diagram, draw_lines, draw_map, draw_pie, draw_table
from trawl.demo.prose import filler_sentence, filler_words

Chance = np.random.Generator
Colour = tuple[int, int, int]

_SIZES: dict[str, tuple[tuple[int, int], ...]] = {
    "logo": ((180, 60), (240, 80), (160, 160), (400, 140)),
    "large-logo": ((512, 400), (480, 480), (640, 360)),
    "icon": ((16, 16), (24, 24), (32, 32), (48, 48), (64, 64)),
    "badge": ((88, 31), (120, 60)),
    "banner": ((728, 90), (970, 250), (468, 60), (1280, 310)),
    "advert": ((300, 250), (336, 280), (640, 480), (160, 600)),
    "spacer": ((1, 1), (2, 2)),
    "bar-chart": ((560, 400), (640, 480), (720, 405)),
    "line-chart": ((560, 400), (640, 480), (720, 405)),
    "pie-chart": ((420, 420), (520, 400)),
    "map": ((500, 400), (600, 600)),
    "diagram": ((640, 400), (520, 520)),
    "table": ((560, 360), (640, 420)),
    "screenshot": ((640, 480), (800, 600), (375, 667)),
    "quote-card": ((480, 480), (600, 400)),
}
GRAPHIC_KINDS = tuple(_SIZES)
"""Every kind of graphic."""

CONTENT_KINDS = (
    *("bar-chart", "line-chart", "pie-chart", "map", "diagram"),
    *("table", "screenshot", "quote-card", "large-logo"),
)
"""Kinds that stand among a page's content and are larger than any limit on the size."""

_FORMATS = {"spacer": "gif", "banner": "gif", "badge": "gif", "quote-card": "jpeg", "map": "jpeg"}
_CONTENT_TYPES = {"png": "image/png", "gif": "image/gif", "jpeg": "image/jpeg"}


def graphic_size(seed: int, kind: str, index: int) -> tuple[int, int]:
    """Return width and height in pixels."""
    sizes = _SIZES[kind]
    return sizes[int(generator(seed, "graphic-size", kind, index).integers(len(sizes)))]


def graphic_format(kind: str) -> str:
    """Return "png", "gif" or "jpeg"."""
    return _FORMATS.get(kind, "png")


def content_type(image_format: str) -> str:
    """Return the media type of an image format."""
    return _CONTENT_TYPES.get(image_format, f"image/{image_format}")


def draw_graphic(seed: int, kind: str, index: int) -> Image.Image:
    """Draw graphic `index` of `kind`; raises KeyError for a kind that there is not."""
    chance = generator(seed, "graphic", kind, index)
    width, height = graphic_size(seed, kind, index)
    image = Image.new("RGB", (width, height), _pale(chance))
    _DRAWERS[kind](ImageDraw.Draw(image), chance, width, height)
    return image


def encode_graphic(seed: int, kind: str, index: int) -> bytes:
    """Draw and encode graphic `index` of `kind` in the format of its kind."""
    buffer = io.BytesIO()
    image = draw_graphic(seed, kind, index)
    image_format = graphic_format(kind)
    if image_format == "jpeg":
        image.save(buffer, "JPEG", quality=90)
    elif image_format == "gif":
        image.quantize(64).save(buffer, "GIF")
    else:
        image.save(buffer, "PNG")
    return buffer.getvalue()


def _pale(chance: Chance) -> Colour:
    red, green, blue = (int(part) for part in chance.integers(226, 256, 3))
    return red, green, blue


def _strong(chance: Chance) -> Colour:
    red, green, blue = (int(part) for part in chance.integers(10, 200, 3))
    return red, green, blue


def write_line(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: float, colour: Colour
) -> None:
    """Write one line of `text` with its upper left corner at `place`."""
    draw.text(place, text, fill=colour, font=ImageFont.load_default(size))


def _draw_logo(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """A mark of two simple shapes and a name."""
    mark = min(width * 0.4, height * 0.8)
    top = (height - mark) / 2
    box = (top, top, top + mark, top + mark)
    first, second = _strong(chance), _strong(chance)
    if chance.random() < 0.5:
        draw.ellipse(box, fill=first)
    else:
        draw.rounded_rectangle(box, radius=mark / 6, fill=first)
    inner = (top + mark * 0.3, top + mark * 0.3, top + mark * 0.7, top + mark * 0.7)
    draw.regular_polygon(
        ((inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2, mark * 0.26),
        n_sides=int(chance.integers(3, 7)),
        fill=second,
    )
    name = filler_words(chance, 1).upper()
    room = width - top * 2 - mark
    if room > mark * 0.6:
        size = min(height * 0.28, room / (0.85 * len(name)))
        write_line(draw, (top * 2 + mark, (height - size) / 2), name, size, first)


def _draw_icon(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """A round or square button with one sign on it."""
    draw.rounded_rectangle(
        (0, 0, width - 1, height - 1),
        radius=int(chance.integers(0, width // 2)),
        fill=_strong(chance),
    )
    draw.regular_polygon(
        (width / 2, height / 2, width * 0.3), n_sides=int(chance.integers(3, 8)), fill=_pale(chance)
    )


def _draw_badge(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """A small framed label."""
    draw.rectangle((0, 0, width - 1, height - 1), outline=_strong(chance), width=2)
    write_line(draw, (5, height * 0.25), filler_words(chance, 1), height * 0.4, _strong(chance))


def _draw_spacer(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """One flat colour, as trackers and lazy loaders use it."""
    draw.rectangle((0, 0, width, height), fill=_pale(chance))


def _draw_banner(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """A wide strip with a slogan and a button."""
    draw.rectangle((0, 0, width, height), fill=_strong(chance))
    size = min(height * 0.4, width / 22)
    write_line(draw, (width * 0.04, height * 0.3), filler_words(chance, 3), size, _pale(chance))
    box = (width * 0.78, height * 0.25, width * 0.96, height * 0.75)
    draw.rounded_rectangle(box, radius=height * 0.1, fill=_pale(chance))
    write_line(draw, (width * 0.8, height * 0.38), "Order now", width / 50, _strong(chance))


def _draw_advert(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Stripes, a price and a button."""
    for top in range(0, height, max(height // 3, 1)):
        draw.rectangle((0, top, width, top + height // 3), fill=_strong(chance))
    size = min(width, height) / 9
    write_line(draw, (width * 0.06, height * 0.1), "SALE", size * 1.6, _pale(chance))
    price = f"${int(chance.integers(3, 90))}.99"
    write_line(draw, (width * 0.06, height * 0.4), price, size, _pale(chance))
    draw.rectangle((width * 0.1, height * 0.72, width * 0.9, height * 0.9), fill=_pale(chance))
    write_line(draw, (width * 0.16, height * 0.76), "Click here", size * 0.7, _strong(chance))


def _draw_screenshot(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """A window of text with a bar at the top."""
    draw.rectangle((0, 0, width, height), fill=(252, 252, 252))
    draw.rectangle((0, 0, width, 34), fill=_strong(chance))
    for number in range(3):
        draw.ellipse((10 + 22 * number, 10, 24 + 22 * number, 24), fill=_pale(chance))
    top = 52.0
    while top < height - 24:
        text = filler_sentence(chance)[: width // 8]
        write_line(draw, (20, top), text, 14, (40, 40, 44))
        top += 22 if chance.random() < 0.8 else 40


def _draw_quote_card(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """A saying in large letters on one colour."""
    draw.rectangle((0, 0, width, height), fill=_strong(chance))
    words = filler_sentence(chance).split()
    lines = [" ".join(words[start : start + 4]) for start in range(0, len(words), 4)]
    for number, line in enumerate(lines[:7]):
        place = (width * 0.08, height * 0.12 + number * height * 0.11)
        write_line(draw, place, line, height / 15, _pale(chance))


_DRAWERS: dict[str, Callable[[ImageDraw.ImageDraw, Chance, int, int], None]] = {
    "logo": _draw_logo,
    "large-logo": _draw_logo,
    "icon": _draw_icon,
    "badge": _draw_badge,
    "banner": _draw_banner,
    "advert": _draw_advert,
    "spacer": _draw_spacer,
    "bar-chart": draw_bars,
    "line-chart": draw_lines,
    "pie-chart": draw_pie,
    "map": draw_map,
    "diagram": draw_diagram,
    "table": draw_table,
    "screenshot": _draw_screenshot,
    "quote-card": _draw_quote_card,
}

"""Made-up pictures of screens and print: windows, programs, terminals, tables, text, codes.

With `drawings`, what the filter for natural images learns to drop. Each is a function of a chance
and a size, and returns an RGB picture.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trawl.demo.prose import filler_sentence, filler_words

Chance = np.random.Generator
Colour = tuple[int, int, int]


def shade(chance: Chance, low: int, high: int) -> Colour:
    """Return a colour whose channels are from `low` to `high`."""
    red, green, blue = (int(part) for part in chance.integers(low, high, 3))
    return red, green, blue


def grey(level: int) -> Colour:
    """Return a grey."""
    return level, level, level


def write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: float, colour: Colour
) -> None:
    """Write one line of text."""
    draw.text(place, text, fill=colour, font=ImageFont.load_default(size))


def canvas(width: int, height: int, colour: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return an empty picture and what draws on it."""
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def window(chance: Chance, width: int, height: int) -> Image.Image:
    """A program's window: title, menu, side panel, fields and buttons; light or dark."""
    dark = chance.random() < 0.35
    back, ink = (grey(int(chance.integers(20, 60))), grey(210)) if dark else (grey(240), grey(30))
    image, draw = canvas(width, height, back)
    bar = max(18, height // 16)
    accent = shade(chance, 20, 220)
    draw.rectangle((0, 0, width, bar), fill=accent if chance.random() < 0.6 else grey(200))
    write(draw, (8, 3), filler_words(chance, 2), bar * 0.6, ink)
    split = int(width * chance.uniform(0, 0.35))
    draw.rectangle((0, bar, split, height), fill=shade(chance, 30, 90) if dark else grey(225))
    size = float(chance.uniform(10, 17))
    y = bar + size
    while y < height - 2 * size:
        if split > 60:
            write(draw, (8, y), filler_words(chance, 1)[: split // 9], size, ink)
        _field(draw, chance, (split + 12, y, width - 12, y + size * 1.5), ink, accent)
        y += size * float(chance.choice([1.8, 2.2, 3.0]))
    return image


def _field(
    draw: ImageDraw.ImageDraw,
    chance: Chance,
    box: tuple[float, float, float, float],
    ink: Colour,
    accent: Colour,
) -> None:
    """Draw one row of a form: a label, an input, a slider, a box to tick or a button."""
    left, top, right, bottom = box
    middle = left + (right - left) * 0.4
    if right - left < 80:
        return
    size = (bottom - top) * 0.66
    kind = int(chance.integers(5))
    write(
        draw, (left, top), filler_words(chance, 2)[: int((middle - left) / size * 1.6)], size, ink
    )
    if kind == 0:
        draw.rectangle((middle, top, right, bottom), outline=ink, fill=shade(chance, 235, 256))
        write(draw, (middle + 4, top), str(int(chance.integers(10_000))), size, grey(40))
    elif kind == 1:
        draw.line((middle, (top + bottom) / 2, right, (top + bottom) / 2), fill=ink, width=2)
        knob = middle + (right - middle) * float(chance.random())
        draw.ellipse((knob - 5, top, knob + 5, bottom), fill=accent)
    elif kind == 2:
        draw.rectangle((middle, top, middle + bottom - top, bottom), outline=ink, width=2)
    elif kind == 3:
        draw.rounded_rectangle((middle, top, middle + 90, bottom), 4, fill=accent)
        write(draw, (middle + 10, top + 1), filler_words(chance, 1)[:9], size, grey(250))


def page(chance: Chance, width: int, height: int) -> Image.Image:
    """A page of a site: header, columns of text, cards of one colour."""
    image, draw = canvas(width, height, shade(chance, 244, 256))
    draw.rectangle((0, 0, width, height // 8), fill=shade(chance, 10, 230))
    write(draw, (12, height / 40), filler_words(chance, 2).title(), height / 16, grey(250))
    columns = int(chance.integers(1, 4))
    step = width / columns
    for column in range(columns):
        y = height / 6
        while y < height - 16:
            if chance.random() < 0.15:
                tall = float(chance.uniform(30, 120))
                box = (step * column + 8, y, step * (column + 1) - 8, y + tall)
                draw.rounded_rectangle(box, 6, fill=shade(chance, 150, 245))
                y += tall + 8
                continue
            text = filler_sentence(chance)[: int(step / 7)]
            write(draw, (step * column + 10, y), text, 12, grey(60))
            y += 16
    return image


def program(chance: Chance, width: int, height: int) -> Image.Image:
    """Source code or a terminal: short coloured words on one dark or light colour."""
    dark = chance.random() < 0.7
    back = grey(int(chance.integers(0, 50))) if dark else grey(250)
    image, draw = canvas(width, height, back)
    inks = [shade(chance, 120, 256) if dark else shade(chance, 0, 140) for _ in range(5)]
    size = float(chance.uniform(9, 16))
    y = 6.0
    while y < height - size:
        x = 8 + size * 2 * int(chance.integers(0, 4))
        for _ in range(int(chance.integers(0, 9))):
            word = filler_words(chance, 1)[:10] + str(
                chance.choice(["", "()", ":", " =", ";", "."])
            )
            write(draw, (x, y), word, size, inks[int(chance.integers(5))])
            x += size * 0.6 * (len(word) + 1)
        y += size * 1.3
    return image


def text(chance: Chance, width: int, height: int) -> Image.Image:
    """A printed page: lines of text in one ink on paper, with a heading."""
    paper = int(chance.integers(215, 256))
    image, draw = canvas(width, height, (paper, paper - int(chance.integers(0, 30)), paper - 20))
    ink = grey(int(chance.integers(0, 70)))
    size = float(chance.uniform(9, 22))
    margin = float(chance.uniform(6, width / 8))
    write(draw, (margin, margin), filler_words(chance, 3).title(), size * 1.6, ink)
    y = margin + size * 3
    while y < height - margin:
        line = " ".join(filler_sentence(chance) for _ in range(3))
        write(draw, (margin, y), line[: int((width - 2 * margin) / size * 2)], size, ink)
        y += size * 1.35
    return image


def table(chance: Chance, width: int, height: int) -> Image.Image:
    """A spreadsheet: rules, a coloured head, numbers."""
    image, draw = canvas(width, height, grey(255))
    rows, columns = int(chance.integers(6, 24)), int(chance.integers(3, 9))
    down, across = height / rows, width / columns
    draw.rectangle((0, 0, width, down), fill=shade(chance, 60, 230))
    for row in range(rows):
        draw.line((0, row * down, width, row * down), fill=grey(180))
        for column in range(columns):
            entry = filler_words(chance, 1) if row == 0 else f"{chance.uniform(0, 999):.1f}"
            place = (column * across + 4, row * down + 2)
            write(draw, place, entry[: int(across / 7)], min(14.0, down * 0.7), grey(30))
    for column in range(columns):
        draw.line((column * across, 0, column * across, height), fill=grey(180))
    return image


def squares(chance: Chance, width: int, height: int) -> Image.Image:
    """A QR code, or the stripes of a bar code, with a quiet zone."""
    cells = int(chance.integers(21, 58))
    pattern = (chance.random((cells, cells)) < 0.5).astype(np.uint8) * 255
    if chance.random() < 0.3:
        pattern[:] = pattern[0]
    else:
        for top, left in ((0, 0), (0, cells - 7), (cells - 7, 0)):
            pattern[top : top + 7, left : left + 7] = 0
            pattern[top + 1 : top + 6, left + 1 : left + 6] = 255
            pattern[top + 2 : top + 5, left + 2 : left + 5] = 0
    side = min(width, height)
    code = Image.fromarray(pattern).resize((side * 8 // 10,) * 2, Image.Resampling.NEAREST)
    image, _ = canvas(width, height, grey(255))
    image.paste(code.convert("RGB"), ((width - code.width) // 2, (height - code.height) // 2))
    return image

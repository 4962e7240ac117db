"""Charts, maps, diagrams and tables: the graphics of the demo's web that show figures."""

from collections.abc import Iterator

import numpy as np
from PIL import ImageDraw, ImageFont

from trawl.demo.prose import filler_words

Chance = np.random.Generator
Colour = tuple[int, int, int]

_INK: Colour = (52, 54, 60)
_GRID: Colour = (206, 208, 214)
_SERIES: tuple[Colour, ...] = (
    *((66, 103, 172), (221, 132, 82), (85, 168, 104), (196, 78, 82)),
    *((129, 114, 179), (147, 120, 96), (218, 139, 195), (140, 140, 140)),
)


def _label(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: float) -> None:
    draw.text(place, text, fill=_INK, font=ImageFont.load_default(size))


def _frame(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> tuple[float, ...]:
    """Draw background, title, axes and grid; return left, top, right, bottom of the plot."""
    draw.rectangle((0, 0, width, height), fill=(255, 255, 255))
    left, top, right, bottom = width * 0.1, height * 0.16, width * 0.96, height * 0.86
    _label(draw, (left, height * 0.03), filler_words(chance, 3).capitalize(), height * 0.055)
    for step in range(6):
        level = bottom + (top - bottom) * step / 5
        draw.line((left, level, right, level), fill=_GRID, width=1)
        _label(draw, (width * 0.02, level - 7), str(step * 20), 12)
    draw.line((left, top, left, bottom), fill=_INK, width=2)
    draw.line((left, bottom, right, bottom), fill=_INK, width=2)
    return left, top, right, bottom


def _years(
    draw: ImageDraw.ImageDraw, chance: Chance, plot: tuple[float, ...], count: int
) -> Iterator[tuple[float, float]]:
    """Write years below the plot; yield left edge and width of each one's column."""
    left, _, right, bottom = plot
    first = int(chance.integers(1990, 2016))
    step = (right - left) / count
    for number in range(count):
        _label(draw, (left + step * (number + 0.2), bottom + 6), str(first + number), 11)
        yield left + step * number, step


def draw_bars(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Draw a bar chart."""
    plot = _frame(draw, chance, width, height)
    colour = _SERIES[int(chance.integers(len(_SERIES)))]
    for left, step in _years(draw, chance, plot, int(chance.integers(5, 11))):
        level = plot[3] + (plot[1] - plot[3]) * float(chance.uniform(0.1, 0.95))
        draw.rectangle((left + step * 0.15, level, left + step * 0.85, plot[3]), fill=colour)


def draw_lines(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Draw a line chart of two to four series."""
    plot = _frame(draw, chance, width, height)
    columns = list(_years(draw, chance, plot, int(chance.integers(6, 11))))
    for number in range(int(chance.integers(2, 5))):
        level = float(chance.uniform(0.2, 0.8))
        points = []
        for left, step in columns:
            level = float(np.clip(level + chance.normal(0, 0.12), 0.03, 0.97))
            points.append((left + step / 2, plot[3] + (plot[1] - plot[3]) * level))
        draw.line(points, fill=_SERIES[number], width=3, joint="curve")
        for x, y in points:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_SERIES[number])


def draw_pie(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Draw a pie chart with a legend."""
    draw.rectangle((0, 0, width, height), fill=(255, 255, 255))
    _label(draw, (width * 0.06, height * 0.03), filler_words(chance, 2).capitalize(), 20)
    shares = chance.dirichlet(np.ones(int(chance.integers(3, 7))) * 2)
    side = min(width, height) * 0.62
    box = (width * 0.06, height * 0.2, width * 0.06 + side, height * 0.2 + side)
    start = 0.0
    for number, share in enumerate(shares):
        end = start + 360 * float(share)
        draw.pieslice(box, start, end, fill=_SERIES[number], outline=(255, 255, 255))
        level = height * 0.2 + 24 * number
        draw.rectangle((box[2] + 12, level, box[2] + 26, level + 14), fill=_SERIES[number])
        _label(draw, (box[2] + 32, level), f"{share:.0%}", 13)
        start = end


def draw_map(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Draw a street map: land, water, roads and place names."""
    draw.rectangle((0, 0, width, height), fill=(240, 236, 224))
    shore = [(0.0, 0.0)]
    shore += [(width * step / 6, height * float(chance.uniform(0.1, 0.35))) for step in range(7)]
    draw.polygon([*shore, (width, 0)], fill=(168, 206, 228))
    for _ in range(4):
        x, y = float(chance.uniform(0, width)), float(chance.uniform(height * 0.4, height))
        draw.rectangle((x, y, x + width * 0.16, y + height * 0.12), fill=(198, 222, 180))
    for number in range(9):
        colour = (250, 214, 120) if number < 3 else (255, 255, 255)
        ends = chance.uniform(0, 1, 2) * (width if number % 2 else height)
        first, last = float(ends[0]), float(ends[1])
        line = (first, 0.0, last, float(height)) if number % 2 else (0.0, first, float(width), last)
        draw.line(line, fill=colour, width=8 if number < 3 else 5)
    for _ in range(6):
        place = (float(chance.uniform(0, width * 0.8)), float(chance.uniform(0, height * 0.95)))
        _label(draw, place, filler_words(chance, 1).capitalize(), 13)


def draw_diagram(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Draw labelled boxes that arrows join."""
    draw.rectangle((0, 0, width, height), fill=(255, 255, 255))
    columns, rows = 3, int(chance.integers(2, 4))
    for row in range(rows):
        for column in range(columns):
            x, y = width * (column + 0.15) / columns, height * (row + 0.25) / rows
            right, bottom = x + width * 0.7 / columns, y + height * 0.5 / rows
            if column + 1 < columns:
                middle = (y + bottom) / 2
                end = x + width / columns
                draw.line((right, middle, end, middle), fill=_INK, width=2)
                draw.polygon([(end, middle), (end - 9, middle - 5), (end - 9, middle + 5)], _INK)
            colour = _SERIES[int(chance.integers(len(_SERIES)))]
            draw.rounded_rectangle((x, y, right, bottom), 8, outline=colour, width=3)
            _label(draw, (x + 8, (y + bottom) / 2 - 8), filler_words(chance, 1), 14)


def draw_table(draw: ImageDraw.ImageDraw, chance: Chance, width: int, height: int) -> None:
    """Draw a table of words and figures."""
    draw.rectangle((0, 0, width, height), fill=(255, 255, 255))
    rows, columns = int(chance.integers(6, 11)), int(chance.integers(3, 6))
    step_x, step_y = width / columns, height / rows
    draw.rectangle((0, 0, width, step_y), fill=_SERIES[int(chance.integers(len(_SERIES)))])
    for row in range(rows):
        draw.line((0, row * step_y, width, row * step_y), fill=_GRID, width=1)
        for column in range(columns):
            wordy = row == 0 or column == 0
            text = filler_words(chance, 1) if wordy else str(chance.integers(10, 9999))
            _label(draw, (column * step_x + 6, row * step_y + step_y * 0.25), text, step_y * 0.4)

"""Charts as inline SVG: curves, histograms and the funnel."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)")
_WIDTH, _HEIGHT = 500, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 28, 40

Point = tuple[float, float]


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers between `low` and `high`."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10 ** math.floor(math.log10(span / count))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= count)
    first = math.ceil(low / step)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


class _Frame:
    """The axes of a chart: maps data to places in the drawing and draws the grid."""

    def __init__(self, x: Point, y: Point) -> None:
        self.x_low, self.x_high = x[0], x[1] if x[1] > x[0] else x[0] + 1
        self.y_low, self.y_high = y[0], y[1] if y[1] > y[0] else y[0] + 1

    def place(self, x: float, y: float) -> Point:
        across = (x - self.x_low) / (self.x_high - self.x_low)
        up = (y - self.y_low) / (self.y_high - self.y_low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    def data(self) -> str:
        """Return the attribute by which a script finds the values of places: two of each axis."""
        (left, bottom), (right, top) = (
            self.place(self.x_low, self.y_low),
            self.place(self.x_high, self.y_high),
        )
        values = (left, right, self.x_low, self.x_high, bottom, top, self.y_low, self.y_high)
        return f' data-axes="{" ".join(f"{value:.9g}" for value in values)}"'

    def grid(self, x_label: str, y_label: str) -> str:
        parts = []
        for value in _ticks(self.y_low, self.y_high):
            y = self.place(self.x_low, value)[1]
            parts.append(
                f'<path class="axis" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
            )
        for value in _ticks(self.x_low, self.x_high):
            x = self.place(value, self.y_low)[0]
            parts.append(
                f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
                f"{_number(value)}</text>"
            )
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">'
            f'{escape(x_label)}</text><text x="4" y="14">{escape(y_label)}</text>'
        )
        return "".join(parts)


def _svg(body: str, label: str, more: str = "") -> str:
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(label)}"{more}>{body}</svg>'
    )


def _legend(names: Sequence[str], y_label: str) -> list[Point]:
    """Return the right ends of the names: in one line beside the label if they fit, else stacked.

    A letter is taken to be 6 wide, which is more than the font's mean.
    """
    right, ends = float(_WIDTH - _RIGHT), []
    for name in reversed(names):
        ends.append((right, 14.0))
        right -= 6 * len(name) + 14
    if right > 6 * len(y_label):
        return ends[::-1]
    return [(float(_WIDTH - _RIGHT), 14.0 + 14 * number) for number in range(len(names))]


def line_chart(
    series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, *, from_zero: bool = True
) -> str:
    """Return curves, one a name, with a legend; points that are not finite are left out.

    from_zero: whether the height begins at 0, or at the least value.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    every = [point for points in finite.values() for point in points]
    if not every:
        return "<p>No points yet.</p>"
    xs, ys = [x for x, _ in every], [y for _, y in every]
    low = min(0.0, min(ys)) if from_zero else min(ys)
    frame = _Frame((min(xs), max(xs)), (low, max(ys)))
    legend = _legend(list(finite), y_label)
    parts = [frame.grid(x_label, y_label)]
    for number, (name, points) in enumerate(finite.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*frame.place(x, y)) for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" '
            f'data-name="{escape(name)}"/>'
            f'<text x="{legend[number][0]:.0f}" y="{legend[number][1]:.0f}" text-anchor="end" '
            f'style="fill:{colour}">{escape(name)}</text>'
        )
    return _svg("".join(parts), f"{y_label} against {x_label}", frame.data())


def histogram(values: Sequence[float], x_label: str, bins: int = 24) -> str:
    """Return a histogram of `values` in `bins` equal bins."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "<p>No values.</p>"
    low, high = min(finite), max(finite)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in finite:
        counts[min(int((value - low) / width), bins - 1)] += 1
    frame = _Frame((low, low + width * bins), (0.0, float(max(counts))))
    parts = [frame.grid(x_label, "count")]
    for number, count in enumerate(counts):
        left, top = frame.place(low + number * width, float(count))
        right, ground = frame.place(low + (number + 1) * width, 0.0)
        parts.append(
            f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
            f'height="{ground - top:.1f}" fill="var(--a)"/>'
        )
    return _svg("".join(parts), f"histogram of {x_label}")


def funnel(steps: Sequence[tuple[str, int, str]]) -> str:
    """Return the funnel: one bar a step of (name, how many are left, why others went)."""
    widest = max((count for _, count, _ in steps), default=0) or 1
    row, parts = 34, []
    for number, (name, count, note) in enumerate(steps):
        y = number * row
        length = 420 * count / widest
        parts.append(
            f'<text x="0" y="{y + 20}">{escape(name)}</text>'
            f'<rect x="130" y="{y + 6}" width="{max(length, 1):.1f}" height="20" rx="3" '
            f'fill="var(--a)"/><text x="{138 + length:.1f}" y="{y + 20}">{count:,}'
            f"{' · ' + escape(note) if note else ''}</text>"
        )
    height = row * len(steps)
    return (
        f'<div class="scroll"><svg width="1080" height="{height}" viewBox="0 0 1080 {height}" '
        f'role="img" aria-label="funnel">{"".join(parts)}</svg></div>'
    )

"""The drawing language of the world: an object is a list of parts, a part a filled outline or line.

A drawing is text, one part a line: a form, a material, then numbers. Coordinates are those of a
square of 100 by 100, x to the right and y downwards; a drawing need not fill the square, because
it is scaled by its own extent when it is drawn. Later parts cover earlier ones.

    poly MATERIAL x,y x,y ...           filled, straight sides
    blob MATERIAL x,y x,y ...           filled, smooth outline through the points
    oval MATERIAL x,y rx,ry             filled ellipse
    slab MATERIAL x,y x,y [corner,0]    filled rectangle with rounded corners
    line MATERIAL/WIDTH x,y x,y ...     open line with straight legs
    bend MATERIAL/WIDTH x,y x,y ...     open smooth line
    ring MATERIAL/WIDTH x,y rx,ry       ellipse drawn as a line
    both FORM ...                       the part and its mirror image about x = 50
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# What a part is made of: how much of the object's own colour it takes, and the red, green and blue
# (0 to 255) that it adds.
MATERIALS: dict[str, tuple[float, tuple[int, int, int]]] = {
    "main": (1.0, (0, 0, 0)),
    "deep": (0.66, (0, 0, 0)),
    "pale": (0.72, (70, 70, 70)),
    "dark": (0.0, (40, 38, 42)),
    "light": (0.0, (236, 230, 214)),
    "metal": (0.0, (158, 164, 172)),
    "wood": (0.0, (134, 92, 56)),
    "leaf": (0.0, (78, 138, 62)),
    "glass": (0.0, (164, 200, 214)),
    "gold": (0.0, (240, 190, 70)),
}
_CURVE_STEPS = 5
_ELLIPSE_STEPS = 24


@dataclass(frozen=True)
class Part:
    """One part: a filled outline, or a line if `width` > 0; `points` is [n, 2]."""

    material: str
    points: Points
    width: float = 0.0
    closed: bool = True


def parse_drawing(text: str) -> tuple[Part, ...]:
    """Read a drawing; raises ValueError or KeyError on a line that is not in the language."""
    parts: list[Part] = []
    for line in text.strip().splitlines():
        words = line.split()
        mirrored = words[0] == "both"
        part = _parse_part(words[1:] if mirrored else words)
        parts.append(part)
        if mirrored:
            parts.append(replace(part, points=part.points * [-1, 1] + [100, 0]))
    return tuple(parts)


def _parse_part(words: list[str]) -> Part:
    form, (material, _, width) = words[0], words[1].partition("/")
    if material not in MATERIALS:
        raise KeyError(material)
    points = np.array([pair.split(",") for pair in words[2:]], dtype=np.float64)
    match form:
        case "poly":
            return Part(material, points)
        case "blob":
            return Part(material, _smooth(points, closed=True))
        case "oval":
            return Part(material, _ellipse(points[0], points[1]))
        case "slab":
            return Part(material, _rectangle(points[0], points[1], points[2:3].sum()))
        case "line":
            return Part(material, points, float(width), closed=False)
        case "bend":
            return Part(material, _smooth(points, closed=False), float(width), closed=False)
        case "ring":
            return Part(material, _ellipse(points[0], points[1]), float(width))
    raise ValueError(f"no form of drawing is called {form}")


def _smooth(points: Points, closed: bool) -> Points:
    """Return a Catmull-Rom curve through `points`."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    time = np.arange(_CURVE_STEPS)[:, None, None] / _CURVE_STEPS
    curve = 0.5 * (
        2 * start
        + (end - before) * time
        + (2 * before - 5 * start + 4 * end - after) * time**2
        + (3 * start - before - 3 * end + after) * time**3
    )  # [steps, spans, 2]
    flat = curve.transpose(1, 0, 2).reshape(-1, 2)
    return flat if closed else np.concatenate([flat, points[-1:]])


def _ellipse(centre: Points, radii: Points) -> Points:
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_STEPS, endpoint=False)
    return centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii


def _rectangle(start: Points, end: Points, corner: float) -> Points:
    if corner <= 0:
        return np.array([start, (end[0], start[1]), end, (start[0], end[1])])
    corner = min(corner, *((end - start) / 2))
    angles = np.linspace(0, 2 * np.pi, 4, endpoint=False)[:, None] + np.linspace(0, np.pi / 2, 5)
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    centres = (start + end) / 2 + signs * ((end - start) / 2 - corner)  # [4, 2]
    arcs = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * corner  # [4, 5, 2]
    return (centres[:, None] + arcs).reshape(-1, 2)

"""The kinds of objects in the world: their drawings, their names and the other words for them."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from trawl.demo.shapes import Part, parse_drawing
from trawl.demo.shapes_home import HOME
from trawl.demo.shapes_outdoors import OUTDOORS

_DRAWINGS = {**HOME, **OUTDOORS}

KINDS: tuple[str, ...] = tuple(_DRAWINGS)
"""The names of all kinds, in a stable order: a kind's place here is its class id."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "cup": ("mug",),
    "pan": ("frying pan",),
    "television": ("TV", "TV set"),
    "camera": ("photo camera",),
    "umbrella": ("parasol",),
    "broom": ("broomstick",),
    "envelope": ("letter",),
    "hat": ("cap",),
    "boot": ("shoe",),
    "shirt": ("T-shirt",),
    "trousers": ("pants",),
    "glasses": ("spectacles",),
    "car": ("automobile",),
    "bus": ("coach",),
    "bicycle": ("bike",),
    "boat": ("sailboat",),
    "airplane": ("plane", "aircraft"),
    "rocket": ("spaceship",),
    "train": ("locomotive",),
    "balloon": ("hot-air balloon",),
    "helicopter": ("chopper",),
    "flower": ("blossom",),
    "cat": ("kitten",),
    "clock": ("alarm clock",),
    "turtle": ("tortoise",),
    "house": ("cottage",),
    "castle": ("fortress",),
    "lamp": ("table lamp",),
    "mushroom": ("toadstool",),
    "lollipop": ("lolly",),
    "scissors": ("shears",),
}
"""Other words for a kind that the texts may use in its place."""

# The words of which an object is counted in something else, as in "two pairs of glasses".
UNITS: dict[str, str] = {
    "trousers": "pair",
    "glasses": "pair",
    "scissors": "pair",
    "grapes": "bunch",
    "pizza": "slice",
}
_IRREGULAR_PLURALS = {"fish": "fish", "aircraft": "aircraft"}
_NEVER_PLURAL = set(UNITS) | {"pants", "spectacles", "shears"}

# Kinds of which the coloured parts are filled, and yet too narrow to show a pattern.
_THIN = {"fork", "key", "hammer"}


@dataclass(frozen=True)
class Outline:
    """A kind's parts, ready to draw: centred, with a longer side of 1.

    `points` is [n, 2]; part i owns the points from `starts[i]` to `starts[i + 1]`. `scale` is the
    longer side in the units of the drawing, in which the parts' widths are. A `thin` kind has no
    room for a pattern.
    """

    points: np.ndarray
    starts: tuple[int, ...]
    parts: tuple[Part, ...]
    scale: float
    thin: bool


@cache
def outline(kind: str) -> Outline:
    """Return the outline of `kind`; raises KeyError for a kind that the world has not."""
    parts = parse_drawing(_DRAWINGS[kind])
    reach = np.concatenate(
        [part.points + sign * part.width / 2 for part in parts for sign in (-1, 1)]
    )
    low, high = reach.min(axis=0), reach.max(axis=0)
    scale = float((high - low).max())
    points = (np.concatenate([part.points for part in parts]) - (low + high) / 2) / scale
    starts = np.cumsum([0] + [len(part.points) for part in parts])
    main = [part for part in parts if part.material == "main"]
    return Outline(
        points=points,
        starts=tuple(int(start) for start in starts),
        parts=parts,
        scale=scale,
        thin=kind in _THIN or all(part.width > 0 for part in main),
    )


def plural(word: str) -> str:
    """Return the plural of a kind's name or synonym."""
    if word in _NEVER_PLURAL:
        return word
    if word in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("fe"):
        return word[:-2] + "ves"
    return word + "s"


@cache
def words_of(kind: str) -> tuple[str, ...]:
    """Return every word, singular and plural, by which the texts may name `kind`."""
    names = (kind, *SYNONYMS.get(kind, ()))
    return tuple(dict.fromkeys([*names, *(plural(name) for name in names)]))

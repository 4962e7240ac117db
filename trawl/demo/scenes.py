"""Scenes: which objects stand where, and how they relate. A pure function of seed, split and index.

Scenes of different splits differ because the split is part of the key of every random draw.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from trawl.chance import generator
from trawl.demo.kinds import KINDS, outline
from trawl.demo.raster import SOLID, Pose, Raster, rasterise
from trawl.demo.relations import relations_between
from trawl.demo.surfaces import AVOIDED_COLOURS, BACKGROUNDS, COLOURS, LIGHTS, PATTERNS

SIZES: dict[str, tuple[float, float]] = {
    "small": (66.0, 90.0),
    "medium": (102.0, 140.0),
    "large": (158.0, 216.0),
}
"""The range of an object's longer side in pixels, by the name of its size."""

_FRAMES = (
    *((512, 384), (384, 512), (480, 360), (360, 480), (448, 448), (416, 416)),
    *((384, 384), (512, 352), (352, 512), (496, 400)),
)
_COUNT_WEIGHTS = (0.06, 0.12, 0.20, 0.22, 0.18, 0.12, 0.06, 0.04)
_SIZE_WEIGHTS = (0.30, 0.45, 0.25)
_PATTERN_WEIGHTS = (0.55, 0.15, 0.15, 0.15)
_LEAST_VISIBLE = 0.55
_LEAST_INSIDE = 0.8
_TRIES = 24


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    `box` is x1, y1, x2, y2 in pixels: the extent of the object as drawn, hidden parts included,
    clipped to the image. `depth` counts from the viewer: of two objects the one with the lower
    depth is in front. `visible` is the share of its pixels inside the image that nothing hides.
    """

    kind: str
    colour: str
    pattern: str
    size: str
    box: tuple[float, float, float, float]
    depth: int
    visible: float
    pose: Pose


@dataclass(frozen=True)
class Scene:
    """A scene; `relations` holds (subject, relation, object) with indices into `objects`."""

    seed: int
    index: int
    split: str
    width: int
    height: int
    background: str
    light: str
    objects: tuple[SceneObject, ...]
    relations: tuple[tuple[int, str, int], ...]


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Return scene `index` of `split`: between 1 and 8 objects, each at least half visible."""
    chance = generator(seed, "scene", split, index)
    width, height = _FRAMES[chance.integers(len(_FRAMES))]
    background = BACKGROUNDS[chance.integers(len(BACKGROUNDS))]
    light = LIGHTS[chance.integers(len(LIGHTS))]
    count = 1 + int(chance.choice(len(_COUNT_WEIGHTS), p=_COUNT_WEIGHTS))
    wanted = _sample_looks(chance, count, AVOIDED_COLOURS.get(background, ()))
    objects, hidden_by = _place(chance, wanted, width, height)
    return Scene(
        seed=seed,
        index=index,
        split=split,
        width=width,
        height=height,
        background=background,
        light=light,
        objects=tuple(objects),
        relations=relations_between([item.box for item in objects], hidden_by),
    )


@dataclass(frozen=True)
class _Look:
    kind: str
    colour: str
    pattern: str
    size: str


def _sample_looks(chance: np.random.Generator, count: int, avoided: tuple[str, ...]) -> list[_Look]:
    """Choose kinds and attributes; now and then an object repeats the kind of one before it."""
    colours = [colour for colour in COLOURS if colour not in avoided]
    looks: list[_Look] = []
    for _ in range(count):
        twin = looks[chance.integers(len(looks))] if looks and chance.random() < 0.22 else None
        kind = twin.kind if twin else KINDS[chance.integers(len(KINDS))]
        colour = colours[chance.integers(len(colours))]
        if twin and chance.random() < 0.5:
            colour = twin.colour
        pattern = PATTERNS[chance.choice(len(PATTERNS), p=_PATTERN_WEIGHTS)]
        if outline(kind).thin:
            pattern = "plain"
        size = list(SIZES)[chance.choice(len(SIZES), p=_SIZE_WEIGHTS)]
        looks.append(_Look(kind, colour, pattern, size))
    return looks


def _place(
    chance: np.random.Generator, wanted: list[_Look], width: int, height: int
) -> tuple[list[SceneObject], set[tuple[int, int]]]:
    """Place the objects from the nearest to the farthest, so that what is placed stays visible.

    Returns the objects and the pairs (hidden, hiding) of their indices. An object for which no
    place is found is left out; the first one always finds a place.
    """
    owner = np.zeros((height, width), dtype=np.uint8)  # 1 + index of the object seen there
    objects: list[SceneObject] = []
    hidden_by: set[tuple[int, int]] = set()
    for look in wanted:
        pose = _sample_pose(chance, look.size)
        raster = rasterise(look.kind, pose)
        for attempt in range(_TRIES):
            near = objects[chance.integers(len(objects))] if objects else None
            x, y = _sample_place(chance, raster, width, height, near if attempt % 2 else None)
            placed = replace(pose, x=x, y=y)
            found = _settle(look, placed, raster, owner, len(objects))
            if found is not None:
                item, hiding = found
                hidden_by.update((len(objects), index) for index in hiding)
                objects.append(item)
                break
    return objects, hidden_by


def _sample_pose(chance: np.random.Generator, size: str) -> Pose:
    low, high = SIZES[size]
    return Pose(
        x=0,
        y=0,
        length=round(float(chance.uniform(low, high)), 1),
        angle=round(float(chance.normal(0, 6)), 1),
        flip=bool(chance.random() < 0.5),
        stretch=round(float(chance.uniform(0.88, 1.14)), 2),
    )


def _sample_place(
    chance: np.random.Generator, raster: Raster, width: int, height: int, near: SceneObject | None
) -> tuple[int, int]:
    """Draw a place for the patch: anywhere, or touching the object `near`."""
    x, y, columns, rows = raster.extent
    if near is None:
        spill_x, spill_y = columns // 10, rows // 10
        left = int(chance.integers(-spill_x, max(width - columns + spill_x, 1 - spill_x)))
        top = int(chance.integers(-spill_y, max(height - rows + spill_y, 1 - spill_y)))
        return left - x, top - y
    x1, y1, x2, y2 = near.box
    turn = chance.uniform(0, 2 * np.pi)
    reach = chance.uniform(0.65, 1.05)
    centre_x = (x1 + x2) / 2 + np.cos(turn) * reach * (x2 - x1 + columns) / 2
    centre_y = (y1 + y2) / 2 + np.sin(turn) * reach * (y2 - y1 + rows) / 2
    return int(centre_x - columns / 2) - x, int(centre_y - rows / 2) - y


def _settle(
    look: _Look, pose: Pose, raster: Raster, owner: np.ndarray, index: int
) -> tuple[SceneObject, list[int]] | None:
    """Put the object into `owner` if enough of it can be seen there; else return None.

    Returns the object and the indices of the objects that hide a part of it.
    """
    height, width = owner.shape
    x, y, columns, rows = raster.extent
    x1, y1 = max(pose.x + x, 0), max(pose.y + y, 0)
    x2, y2 = min(pose.x + x + columns, width), min(pose.y + y + rows, height)
    if (x2 - x1) * (y2 - y1) < _LEAST_INSIDE * columns * rows:
        return None
    solid = raster.alpha[y1 - pose.y : y2 - pose.y, x1 - pose.x : x2 - pose.x] >= SOLID
    seen = owner[y1:y2, x1:x2]
    total = int(np.count_nonzero(solid))
    counts = np.bincount(seen[solid], minlength=index + 1)
    if counts[0] < _LEAST_VISIBLE * total:
        return None
    seen[solid & (seen == 0)] = index + 1
    bounds = cv2.boundingRect(solid.view(np.uint8))
    box = (
        float(x1 + bounds[0]),
        float(y1 + bounds[1]),
        float(x1 + bounds[0] + bounds[2]),
        float(y1 + bounds[1] + bounds[3]),
    )
    visible = round(float(counts[0] / total), 4)
    item = SceneObject(look.kind, look.colour, look.pattern, look.size, box, index, visible, pose)
    hiding = [other for other in range(index) if counts[other + 1] > 0.02 * total]
    return item, hiding

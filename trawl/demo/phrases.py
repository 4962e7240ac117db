"""How the world's texts name things: objects, groups of objects, places, light and relations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trawl.demo.kinds import KINDS, SYNONYMS, UNITS, plural
from trawl.demo.scenes import Scene, SceneObject

Chance = np.random.Generator

NUMBERS: tuple[str, ...] = (
    *("no", "one", "two", "three", "four"),
    *("five", "six", "seven", "eight", "nine"),
)
"""The words for small counts, by count."""

PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "striped": ("striped",),
    "dotted": ("dotted", "polka-dotted", "spotted"),
    "checked": ("checked", "checkered"),
}
"""The words that the texts use for each pattern; "plain" is never said."""

PLACES: dict[str, tuple[str, ...]] = {
    "grass": ("on the grass", "on a lawn", "in the grass"),
    "sand": ("on the sand", "on sandy ground"),
    "water": ("on the water", "on the surface of a lake"),
    "snow": ("in the snow", "on a field of snow"),
    "wood": ("on a wooden floor", "on wooden boards", "on a table made of wood"),
    "brick": ("in front of a brick wall", "against a wall of bricks"),
    "tiles": ("on a tiled floor", "on kitchen tiles"),
    "cloth": ("on a piece of cloth", "on a woven blanket"),
    "gravel": ("on gravel", "on a layer of pebbles"),
    "leaves": ("on fallen leaves", "on a ground covered with leaves"),
    "marble": ("on a slab of marble", "on a marble floor"),
    "asphalt": ("on the road", "on a road with cracks"),
    "field": ("in a meadow under the sky", "in an open field"),
    "beach": ("on the beach", "at the beach by the sea"),
    "mountains": ("in front of the mountains", "in a mountain valley"),
    "night street": ("on a street at night", "in front of city lights at night"),
}
"""How the texts tell each background."""

LIGHT_PHRASES: dict[str, tuple[str, ...]] = {
    "daylight": ("in plain daylight", "during the day"),
    "sunshine": ("in bright sunshine", "on a sunny day"),
    "evening": ("in warm evening light", "in the evening"),
    "morning": ("in cool morning light", "in the morning"),
    "overcast": ("on an overcast day", "in soft and even light"),
    "dim": ("in dim light", "in the half-dark"),
}
"""How the texts tell each light."""

RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "on the left of", "left of"),
    "right of": ("to the right of", "on the right of", "right of"),
    "above": ("above",),
    "below": ("below", "underneath"),
    "in front of": ("in front of", "partly covering"),
    "behind": ("behind", "partly hidden by"),
    "next to": ("next to", "beside"),
}
"""The words that the texts use for each relation."""


@dataclass(frozen=True)
class Style:
    """How much a text tells: the chance that it names each thing it could name."""

    colour: float
    pattern: float
    size: float
    place: float
    light: float
    synonym: float


CLEAN = Style(colour=0.96, pattern=0.85, size=0.3, place=0.75, light=0.15, synonym=0.2)
WEB = Style(colour=0.75, pattern=0.6, size=0.3, place=0.6, light=0.25, synonym=0.12)


def pick(chance: Chance, choices: Sequence[str]) -> str:
    """Return one of `choices`."""
    return choices[int(chance.integers(len(choices)))]


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def joined(phrases: Sequence[str]) -> str:
    """Return "a, b and c"."""
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def sentence(text: str) -> str:
    """Begin with a capital and end with a full stop."""
    return text[0].upper() + text[1:] + "."


def adjectives(chance: Chance, item: SceneObject, style: Style) -> list[str]:
    """Return the words that go before the noun for one object: size, pattern and colour."""
    words: list[str] = []
    if item.size != "medium" and chance.random() < style.size:
        words.append(item.size)
    looks: list[str] = []
    if chance.random() < style.colour:
        looks.append(item.colour)
    if item.pattern != "plain" and chance.random() < style.pattern:
        looks.append(pick(chance, PATTERN_WORDS[item.pattern]))
    if chance.random() < 0.5:
        looks.reverse()
    return words + looks


def noun(chance: Chance, kind: str, style: Style) -> str:
    """Return the kind's own name, or now and then a synonym."""
    if kind in SYNONYMS and chance.random() < style.synonym:
        return pick(chance, SYNONYMS[kind])
    return kind


def counted(kind: str, name: str, words: Sequence[str], count: int = 1) -> str:
    """Return "a red cup", "two red cups", "a pair of red glasses" or "two slices of pizza"."""
    unit = UNITS.get(kind)
    if unit is None:
        phrase = " ".join([*words, plural(name) if count > 1 else name])
    else:
        phrase = " ".join([plural(unit) if count > 1 else unit, "of", *words, name])
    return with_article(phrase) if count == 1 else f"{NUMBERS[count]} {phrase}"


def bare(kind: str, count: int = 1) -> str:
    """Return a kind's name without article and number: "cup", "cups", "pair of glasses"."""
    name = kind if count == 1 else plural(kind)
    unit = UNITS.get(kind)
    if unit is None:
        return name
    return f"{unit if count == 1 else plural(unit)} of {name}"


def one(chance: Chance, item: SceneObject, style: Style, named: bool = False) -> str:
    """Name one object with an article; with `named` always by the kind's own name."""
    name = item.kind if named else noun(chance, item.kind, style)
    return counted(item.kind, name, adjectives(chance, item, style))


def another(phrase: str) -> str:
    """Turn "a red cup" or "an apple" into one more of them."""
    return "another " + phrase.split(" ", 1)[1]


def group(chance: Chance, items: Sequence[SceneObject], style: Style, named: bool = False) -> str:
    """Name all objects of one kind at once, as in "two cups, one red and one blue"."""
    if len(items) == 1:
        return one(chance, items[0], style, named)
    kind = items[0].kind
    name = kind if named else noun(chance, kind, style)
    colours = [item.colour for item in items]
    if chance.random() >= style.colour:
        return counted(kind, name, [], len(items))
    if len(set(colours)) == 1:
        return counted(kind, name, [colours[0]], len(items))
    if len(items) == 2 and chance.random() < 0.5:
        first, second = (counted(kind, name, [colour]) for colour in colours)
        return f"{first} and {second}"
    return counted(kind, name, [], len(items))


def groups(scene: Scene) -> list[list[int]]:
    """Return the indices of the scene's objects, those of one kind together."""
    kinds = sorted({item.kind for item in scene.objects}, key=KINDS.index)
    return [
        [index for index, item in enumerate(scene.objects) if item.kind == kind] for kind in kinds
    ]


def place(chance: Chance, scene: Scene) -> str:
    """Say where the scene is."""
    return pick(chance, PLACES[scene.background])


def light(chance: Chance, scene: Scene) -> str:
    """Say in what light the scene is; nothing of a scene at night."""
    if scene.background == "night street":
        return ""
    return pick(chance, LIGHT_PHRASES[scene.light])


def setting(chance: Chance, scene: Scene, style: Style, always: bool = False) -> str:
    """Return where and in what light the scene is, as much as `style` tells; may be empty.

    With `always` it says where in any case.
    """
    parts: list[str] = []
    if chance.random() < style.place or always:
        parts.append(place(chance, scene))
    if chance.random() < style.light:
        parts.append(light(chance, scene))
    return " ".join(part for part in parts if part)


def spot(scene: Scene, item: SceneObject) -> str:
    """Say in which part of the picture an object is: one of nine."""
    across = (item.box[0] + item.box[2]) / 2 / scene.width
    down = (item.box[1] + item.box[3]) / 2 / scene.height
    column = "left" if across < 0.36 else "right" if across > 0.64 else ""
    row = "top" if down < 0.36 else "bottom" if down > 0.64 else ""
    if row and column:
        return f"at the {row} {column} of the picture"
    if row:
        return f"at the {row} of the picture"
    if column:
        return f"on the {column} side of the picture"
    return "in the middle of the picture"

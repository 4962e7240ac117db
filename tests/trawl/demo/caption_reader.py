"""Reads captions back: an independent check that what they say is so."""

import re
from dataclasses import dataclass
from itertools import pairwise

from trawl.demo.kinds import KINDS, words_of
from trawl.demo.phrases import LIGHT_PHRASES, NUMBERS, PATTERN_WORDS, PLACES, RELATION_WORDS
from trawl.demo.scenes import Scene, SceneObject
from trawl.demo.surfaces import COLOURS

NAMES = {word.lower(): kind for kind in KINDS for word in words_of(kind)}
PATTERNS = {word: pattern for pattern, words in PATTERN_WORDS.items() for word in words}
SIZES = ("small", "medium", "large")
RELATIONS = {word: name for name, words in RELATION_WORDS.items() for word in words}
LOOKS = {*COLOURS, *PATTERNS, *SIZES}
MENTION = re.compile(
    r"\b(?P<count>an?|another|one|" + "|".join(NUMBERS[2:]) + r") "
    r"(?:(?:pairs?|bunch|bunches|slices?) of )?"
    r"(?P<looks>(?:(?:" + "|".join(sorted(LOOKS, key=len, reverse=True)) + r") )*)"
    r"(?P<name>" + "|".join(sorted(map(re.escape, NAMES), key=len, reverse=True)) + r")\b"
)


@dataclass(frozen=True)
class Mention:
    """One thing or group of things that a text names, and where in the text it does."""

    kind: str
    looks: tuple[str, ...]
    count: int | None
    start: int
    end: int

    def fits(self, item: SceneObject) -> bool:
        """Tell whether the object has all the looks that the text gives it."""
        own = {item.kind, item.colour, item.size, item.pattern}
        return self.kind in own and all(PATTERNS.get(look, look) in own for look in self.looks)


def mentions(text: str) -> list[Mention]:
    """Return all the things that a text names."""
    found = []
    for match in MENTION.finditer(text.lower()):
        count = NUMBERS.index(match["count"]) if match["count"] in NUMBERS[2:] else None
        name, looks = NAMES[match["name"]], tuple(match["looks"].split())
        found.append(Mention(name, looks, count, match.start(), match.end()))
    return found


def faults(text: str, scene: Scene) -> list[str]:
    """Return what a text says that is not so in `scene`."""
    lower = text.lower()
    named = mentions(text)
    wrong = [] if named else ["names nothing"]
    for mention in named:
        fitting = [item for item in scene.objects if mention.fits(item)]
        same_kind = [item for item in scene.objects if item.kind == mention.kind]
        if not fitting:
            wrong.append(f"no {mention.looks} {mention.kind}")
        if mention.count is not None and mention.count not in (len(fitting), len(same_kind)):
            wrong.append(f"not {mention.count} {mention.kind}")
    for first, second in pairwise(named):
        between = re.sub(r"^,? ?(which )?(is )?", "", lower[first.end : second.start].strip())
        name = RELATIONS.get(between)
        if name and not _related(scene, first, name, second):
            wrong.append(f"{first.kind} not {name} {second.kind}")
    return wrong + _wrong_setting(lower, scene)


def _related(scene: Scene, first: Mention, name: str, second: Mention) -> bool:
    return any(
        relation == name
        and first.fits(scene.objects[subject])
        and second.fits(scene.objects[target])
        for subject, relation, target in scene.relations
    )


def _wrong_setting(lower: str, scene: Scene) -> list[str]:
    wrong = []
    for kind, table, own in (
        ("place", PLACES, scene.background),
        ("light", LIGHT_PHRASES, scene.light),
    ):
        # A phrase may begin another one, as "on the road" does: the longest one counts.
        found = [
            (len(phrase), name)
            for name, phrases in table.items()
            for phrase in phrases
            if phrase in lower
        ]
        if found and max(found)[1] != own:
            wrong.append(f"{kind} is {own}, not {max(found)[1]}")
    return wrong

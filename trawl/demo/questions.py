"""Questions about a scene with exact answers, and statements about two scenes, true or false."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trawl.chance import generator
from trawl.demo.kinds import KINDS
from trawl.demo.phrases import NUMBERS, PATTERN_WORDS, Chance, bare, counted
from trawl.demo.relations import OPPOSITES
from trawl.demo.scenes import Scene, SceneObject
from trawl.demo.surfaces import COLOURS

QUESTION_KINDS: tuple[str, ...] = ("exists", "count", "colour", "relation", "compare")
_SIZE_ORDER = {"small": 0, "medium": 1, "large": 2}
_TRIES = 40
_SIDES = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
    "in front of": "in front of",
    "behind": "behind",
}


@dataclass(frozen=True)
class Question:
    """A question about one picture; `answer` is "yes", "no", a number, a colour or a kind."""

    question: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Statement:
    """A statement about a left and a right picture, and whether it is true."""

    text: str
    label: bool


def questions(scene: Scene) -> list[Question]:
    """Return questions of all kinds for which the scene has an answer beyond doubt."""
    chance = generator(scene.seed, "questions", scene.split, scene.index)
    found = [*_exists(chance, scene), *_counts(chance, scene), *_colours(scene)]
    found += [*_relations(chance, scene), *_comparisons(chance, scene)]
    return list(dict.fromkeys(found))


def _tally(scene: Scene) -> Counter[str]:
    return Counter(item.kind for item in scene.objects)


def _single(scene: Scene) -> list[SceneObject]:
    """Return the objects that are the only ones of their kind: "the cup" means one of these."""
    tally = _tally(scene)
    return [item for item in scene.objects if tally[item.kind] == 1]


def _a(item: SceneObject | str, *words: str) -> str:
    kind = item if isinstance(item, str) else item.kind
    return counted(kind, kind, words)


def _the(item: SceneObject) -> str:
    return "the " + bare(item.kind)


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _exists(chance: Chance, scene: Scene) -> Iterator[Question]:
    """Ask for something there, something not there, and something there in another colour."""
    tally = _tally(scene)
    item = scene.objects[int(chance.integers(len(scene.objects)))]
    absent = [kind for kind in KINDS if kind not in tally]
    other = absent[int(chance.integers(len(absent)))]
    yield Question(f"Is there {_a(item)} in the picture?", "yes", "exists")
    yield Question(f"Is there {_a(other)} in the picture?", "no", "exists")
    colour = list(COLOURS)[int(chance.integers(len(COLOURS)))]
    if chance.random() < 0.5:
        colour = item.colour
    true = any(one.kind == item.kind and one.colour == colour for one in scene.objects)
    yield Question(f"Can you see {_a(item, colour)}?", _yes(true), "exists")


def _counts(chance: Chance, scene: Scene) -> Iterator[Question]:
    """Count the most frequent kind, all things, and the things of one colour."""
    tally = _tally(scene)
    kind, count = max(tally.items(), key=lambda entry: (entry[1], entry[0]))
    yield Question(f"How many {bare(kind, 2)} are there?", str(count), "count")
    yield Question("How many objects are in the picture?", str(len(scene.objects)), "count")
    colour = scene.objects[int(chance.integers(len(scene.objects)))].colour
    total = sum(item.colour == colour for item in scene.objects)
    yield Question(f"How many {colour} objects can you see?", str(total), "count")


def _colours(scene: Scene) -> Iterator[Question]:
    for item in _single(scene)[:3]:
        yield Question(f"What color is {_the(item)}?", item.colour, "colour")


def _relations(chance: Chance, scene: Scene) -> Iterator[Question]:
    """Ask whether a relation holds between two things, and what stands in it to one thing."""
    single = {item.kind for item in _single(scene)}
    found = [
        (scene.objects[first], relation, scene.objects[second])
        for first, relation, second in scene.relations
        if relation in _SIDES
        and scene.objects[first].kind in single
        and scene.objects[second].kind in single
    ]
    if not found:
        return
    for _ in range(2):
        first, relation, second = found[int(chance.integers(len(found)))]
        true = bool(chance.random() < 0.5)
        asked = relation if true else OPPOSITES[relation]
        text = f"Is {_the(first)} {_SIDES[asked]} {_the(second)}?"
        yield Question(text, _yes(true), "relation")
    first, relation, second = found[int(chance.integers(len(found)))]
    # Only if one thing alone stands so is the answer beyond doubt.
    standing = [
        subject
        for subject, name, target in scene.relations
        if name == relation and scene.objects[target] == second
    ]
    if len(standing) == 1:
        yield Question(f"What is {_SIDES[relation]} {_the(second)}?", first.kind, "relation")


def _comparisons(chance: Chance, scene: Scene) -> Iterator[Question]:
    """Compare the numbers of two kinds, the sizes and the colours of two things."""
    tally = _tally(scene)
    kinds = list(tally)
    if len(kinds) > 1:
        first, second = (kinds[int(k)] for k in chance.permutation(len(kinds))[:2])
        text = f"Are there more {bare(first, 2)} than {bare(second, 2)}?"
        yield Question(text, _yes(tally[first] > tally[second]), "compare")
    single = _single(scene)
    if len(single) < 2:
        return
    one, two = (single[int(k)] for k in chance.permutation(len(single))[:2])
    text = f"Do {_the(one)} and {_the(two)} have the same color?"
    yield Question(text, _yes(one.colour == two.colour), "compare")
    if one.size != two.size:
        larger = _SIZE_ORDER[one.size] > _SIZE_ORDER[two.size]
        yield Question(f"Is {_the(one)} larger than {_the(two)}?", _yes(larger), "compare")


def pair_statement(scene_a: Scene, scene_b: Scene) -> Statement:
    """Return a statement about `scene_a` on the left and `scene_b` on the right.

    It is true or false with equal chance, as far as the two scenes allow.
    """
    key = (scene_a.seed, "pair", scene_a.split, scene_a.index, scene_b.split, scene_b.index)
    chance = generator(*key)
    wanted = bool(chance.random() < 0.5)
    made = _claim(chance, scene_a, scene_b)
    for _ in range(_TRIES):
        if made.label == wanted:
            break
        made = _claim(chance, scene_a, scene_b)
    return made


Claim = Callable[[Chance, Scene, Scene], Statement]


def _claim(chance: Chance, left: Scene, right: Scene) -> Statement:
    return _CLAIMS[int(chance.integers(len(_CLAIMS)))](chance, left, right)


def _any_object(chance: Chance, *scenes: Scene) -> SceneObject:
    items = [item for scene in scenes for item in scene.objects]
    return items[int(chance.integers(len(items)))]


def _shows(scene: Scene, item: SceneObject) -> bool:
    return any(one.kind == item.kind and one.colour == item.colour for one in scene.objects)


def _more_objects(chance: Chance, left: Scene, right: Scene) -> Statement:
    names = ("left", "right") if chance.random() < 0.5 else ("right", "left")
    difference = len(left.objects) - len(right.objects)
    more = difference > 0 if names[0] == "left" else difference < 0
    return Statement(f"The {names[0]} image shows more objects than the {names[1]} image.", more)


def _total(chance: Chance, left: Scene, right: Scene) -> Statement:
    kind = _any_object(chance, left, right).kind
    total = _tally(left)[kind] + _tally(right)[kind]
    claimed = max(1, min(total + int(chance.integers(-1, 2)), len(NUMBERS) - 1))
    thing = counted(kind, kind, [], claimed)
    if claimed == 1:
        thing = f"one {thing.split(' ', 1)[1]}"
    verb = "is" if claimed == 1 else "are"
    return Statement(f"In total there {verb} exactly {thing} in the images.", claimed == total)


def _in_both(chance: Chance, left: Scene, right: Scene) -> Statement:
    item = _any_object(chance, left, right)
    both = _tally(left)[item.kind] > 0 and _tally(right)[item.kind] > 0
    return Statement(f"Both images show {_a(item)}.", both)


def _in_one(chance: Chance, left: Scene, right: Scene) -> Statement:
    item = _any_object(chance, left, right)
    only = (_tally(left)[item.kind] > 0) != (_tally(right)[item.kind] > 0)
    return Statement(f"Exactly one of the images shows {_a(item)}.", only)


def _one_each(chance: Chance, left: Scene, right: Scene) -> Statement:
    first, second = _any_object(chance, left, right), _any_object(chance, left, right)
    true = _shows(left, first) and _shows(right, second)
    looks = [_a(item, item.colour) for item in (first, second)]
    return Statement(f"The left image shows {looks[0]} and the right image {looks[1]}.", true)


def _patterned(chance: Chance, left: Scene, right: Scene) -> Statement:
    pattern = list(PATTERN_WORDS)[int(chance.integers(len(PATTERN_WORDS)))]
    side, scene = ("left", left) if chance.random() < 0.5 else ("right", right)
    true = any(item.pattern == pattern for item in scene.objects)
    word = PATTERN_WORDS[pattern][0]
    return Statement(f"At least one object in the {side} image is {word}.", true)


_CLAIMS: tuple[Claim, ...] = (_more_objects, _total, _in_both, _in_one, _one_each, _patterned)

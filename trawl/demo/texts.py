"""Sentences about scenes: a grammar that gives many true paraphrases of each scene.

Two dialects: "clean" is like the sentences of COCO, "web" is like what stands beside pictures on
the web: other openings, less detail, and no full stop at the end of most. Neither ever tells
anything that is not so.
"""

from collections.abc import Callable

from trawl.chance import generator
from trawl.demo import phrases
from trawl.demo.phrases import CLEAN, WEB, Chance, Style, joined, pick, sentence
from trawl.demo.scenes import Scene

DIALECTS: dict[str, Style] = {"clean": CLEAN, "web": WEB}
_TRIES = 60
_MENTION_WEIGHTS = (0.3, 0.4, 0.3)  # for two, three and four things


def captions(scene: Scene, count: int, dialect: str = "clean") -> list[str]:
    """Return `count` different captions of `scene`; the first ones do not depend on `count`.

    Raises ValueError for a dialect that there is not, and if the grammar has no more to say.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"no dialect is called {dialect}; there are {', '.join(DIALECTS)}")
    found: dict[str, None] = {}
    for number in range(count):
        for attempt in range(_TRIES):
            key = (scene.seed, "caption", scene.split, scene.index, dialect, number, attempt)
            text = _caption(generator(*key), scene, dialect)
            if text not in found:
                found[text] = None
                break
        else:
            raise ValueError(f"there are not {count} different captions of scene {scene.index}")
    return list(found)


def region_phrases(scene: Scene) -> list[tuple[int, str]]:
    """Return (object index, phrase): for each object its looks, and its relation to another."""
    chance = generator(scene.seed, "region phrases", scene.split, scene.index)
    full = Style(colour=1.0, pattern=1.0, size=0.5, place=0, light=0, synonym=0.1)
    found: list[tuple[int, str]] = []
    for index, item in enumerate(scene.objects):
        found.append((index, phrases.one(chance, item, full)))
        related = [relation for relation in scene.relations if relation[0] == index]
        if related:
            _, relation, other = related[int(chance.integers(len(related)))]
            where = f"{pick(chance, phrases.RELATION_WORDS[relation])} "
            where += phrases.one(chance, scene.objects[other], full)
        else:
            where = phrases.spot(scene, item)
        found.append((index, f"{phrases.one(chance, item, full)} {where}"))
    return found


def _caption(chance: Chance, scene: Scene, dialect: str) -> str:
    style = DIALECTS[dialect]
    alone = len(scene.objects) == 1
    related = scene.relations and chance.random() < 0.55
    if dialect == "clean":
        templates = _CLEAN_ALONE if alone else _CLEAN_RELATED if related else _CLEAN_LISTED
    else:
        templates = _WEB_ALONE if alone else _WEB_RELATED if related else _WEB_LISTED
    text = templates[int(chance.integers(len(templates)))](chance, scene, style)
    text = " ".join(text.split()).replace(" ,", ",")
    if dialect == "web" and chance.random() < 0.6:
        return text[0].upper() + text[1:]
    return sentence(text)


def _mentions(chance: Chance, scene: Scene, style: Style, least: int = 2) -> list[str]:
    """Name between two and four of the scene's kinds, the larger objects more often."""
    found = phrases.groups(scene)
    wanted = least + int(chance.choice(len(_MENTION_WEIGHTS), p=_MENTION_WEIGHTS))
    wanted = min(wanted, len(found))
    weights = [
        sum(scene.objects[i].pose.length * scene.objects[i].visible for i in g) for g in found
    ]
    total = sum(weights)
    order = chance.choice(len(found), wanted, replace=False, p=[w / total for w in weights])
    return [
        phrases.group(chance, [scene.objects[i] for i in found[chosen]], style, named=number == 0)
        for number, chosen in enumerate(order)
    ]


def _relation(chance: Chance, scene: Scene, style: Style) -> tuple[str, str, str, list[str]]:
    """Return subject, relation and object of a relation, and the names of up to two more things."""
    first, relation, second = scene.relations[int(chance.integers(len(scene.relations)))]
    subject = phrases.one(chance, scene.objects[first], style, named=True)
    target = phrases.one(chance, scene.objects[second], style)
    if scene.objects[first].kind == scene.objects[second].kind:
        target = phrases.another(target)
    used = {scene.objects[first].kind, scene.objects[second].kind}
    others = [g for g in phrases.groups(scene) if scene.objects[g[0]].kind not in used]
    count = min(int(chance.integers(0, 3)), len(others))
    chosen = chance.permutation(len(others))[:count]
    more = [phrases.group(chance, [scene.objects[i] for i in others[k]], style) for k in chosen]
    return subject, pick(chance, phrases.RELATION_WORDS[relation]), target, more


def _where(chance: Chance, scene: Scene, style: Style, listed: list[str]) -> str:
    """Say where the scene is, always if one thing alone is named: else the text says too little."""
    return phrases.setting(chance, scene, style, always=len(listed) == 1)


Template = Callable[[Chance, Scene, Style], str]


def _plain_list(chance: Chance, scene: Scene, style: Style) -> str:
    listed = _mentions(chance, scene, style)
    return f"{joined(listed)} {_where(chance, scene, style, listed)}"


def _there_are(chance: Chance, scene: Scene, style: Style) -> str:
    listed = _mentions(chance, scene, style)
    verb = "are" if listed[0].split()[0] in phrases.NUMBERS else "is"
    return f"there {verb} {joined(listed)} {_where(chance, scene, style, listed)}"


def _place_first(chance: Chance, scene: Scene, style: Style) -> str:
    listed = _mentions(chance, scene, style)
    verb = pick(chance, ("lie", "can be seen", "are shown"))
    if (
        len(listed) == 1
        and listed[0].split()[0] not in phrases.NUMBERS
        and " and " not in listed[0]
    ):
        verb = pick(chance, ("lies", "can be seen", "is shown"))
    return f"{phrases.place(chance, scene)}, {joined(listed)} {verb} together"


def _picture_of(chance: Chance, scene: Scene, style: Style) -> str:
    opening = pick(chance, ("a picture of", "a photo of", "an image with", "a scene with"))
    listed = _mentions(chance, scene, style)
    return f"{opening} {joined(listed)} {_where(chance, scene, style, listed)}"


def _with_others(chance: Chance, scene: Scene, style: Style) -> str:
    listed = _mentions(chance, scene, style)
    where = phrases.place(chance, scene)
    if len(listed) == 1:
        return f"{listed[0]} {where}"
    return f"{listed[0]} {where} with {joined(listed[1:])}"


def _is_related(chance: Chance, scene: Scene, style: Style) -> str:
    subject, relation, target, more = _relation(chance, scene, style)
    text = f"{subject} is {relation} {target} {phrases.setting(chance, scene, style)}"
    return f"{text}, and there is also {joined(more)}" if more else text


def _related(chance: Chance, scene: Scene, style: Style) -> str:
    subject, relation, target, more = _relation(chance, scene, style)
    text = f"{subject} {relation} {target} {phrases.setting(chance, scene, style)}"
    return f"{text}, with {joined(more)}" if more else text


def _there_is_related(chance: Chance, scene: Scene, style: Style) -> str:
    subject, relation, target, more = _relation(chance, scene, style)
    text = f"there is {subject} {relation} {target}"
    text = f"{text}, together with {joined(more)}" if more else text
    return f"{text} {phrases.setting(chance, scene, style)}"


def _two_relations(chance: Chance, scene: Scene, style: Style) -> str:
    first = _relation(chance, scene, style)
    second = _relation(chance, scene, style)
    text = f"{first[0]} is {first[1]} {first[2]}"
    if second[0] == first[0] or second[0] == first[2]:
        return f"{text} {phrases.place(chance, scene)}"
    return f"{text} while {second[0]} is {second[1]} {second[2]}"


def _alone(chance: Chance, scene: Scene, style: Style) -> str:
    name = phrases.one(chance, scene.objects[0], style, named=True)
    return f"{name} {phrases.place(chance, scene)} {_maybe_light(chance, scene)}"


def _alone_somewhere(chance: Chance, scene: Scene, style: Style) -> str:
    item = scene.objects[0]
    name = phrases.one(chance, item, style, named=True)
    verb = pick(chance, ("lies", "is", "can be seen", "is shown"))
    return f"{name} {verb} {phrases.place(chance, scene)} {phrases.spot(scene, item)}"


def _only_one(chance: Chance, scene: Scene, style: Style) -> str:
    name = phrases.one(chance, scene.objects[0], style, named=True)
    opening = pick(chance, ("there is only", "a picture of", "a photo of nothing but"))
    return f"{opening} {name} {phrases.place(chance, scene)} {_maybe_light(chance, scene)}"


def _maybe_light(chance: Chance, scene: Scene) -> str:
    return phrases.light(chance, scene) if chance.random() < 0.4 else ""


def _we_saw(chance: Chance, scene: Scene, style: Style) -> str:
    opening = pick(
        chance,
        (
            "we saw",
            "here you can see",
            "this is a photo of",
            "look at",
            "our picture shows",
            "in this picture you see",
            "the photo shows",
        ),
    )
    listed = _mentions(chance, scene, style)
    return f"{opening} {joined(listed)} {_where(chance, scene, style, listed)}"


def _photographed(chance: Chance, scene: Scene, style: Style) -> str:
    verb = pick(chance, ("photographed", "seen", "found", "captured"))
    where = f"{phrases.place(chance, scene)} {_maybe_light(chance, scene)}"
    return f"{joined(_mentions(chance, scene, style))}, {verb} {where}"


def _photo_of(chance: Chance, scene: Scene, style: Style) -> str:
    opening = pick(
        chance,
        ("photo of", "picture of", "a snapshot of", "close-up of", "a view of", "the sight of"),
    )
    listed = _mentions(chance, scene, style)
    return f"{opening} {joined(listed)} {_where(chance, scene, style, listed)}"


def _which_is(chance: Chance, scene: Scene, style: Style) -> str:
    subject, relation, target, more = _relation(chance, scene, style)
    opening = pick(chance, ("here is", "a closer look at", "this is", "we found"))
    text = f"{opening} {subject}, which is {relation} {target}"
    if more:
        return f"{text}, and we also see {joined(more)}"
    return f"{text} {phrases.setting(chance, scene, style)}"


def _notice(chance: Chance, scene: Scene, style: Style) -> str:
    subject, relation, target, _ = _relation(chance, scene, style)
    opening = pick(chance, ("notice how", "you can see that", "in the photo", "as you can see,"))
    return f"{opening} {subject} is {relation} {target} {phrases.setting(chance, scene, style)}"


def _day_out(chance: Chance, scene: Scene, style: Style) -> str:
    opening = pick(
        chance,
        ("the picture that we took of", "one more photo from our album with", "we came across"),
    )
    where = phrases.place(chance, scene)
    return f"{opening} {joined(_mentions(chance, scene, style))} {where}"


def _alone_on_web(chance: Chance, scene: Scene, style: Style) -> str:
    name = phrases.one(chance, scene.objects[0], style, named=True)
    opening = pick(
        chance,
        ("this is a photo of", "here is", "we found", "a closer look at", "our picture shows"),
    )
    return f"{opening} {name} {phrases.place(chance, scene)} {_maybe_light(chance, scene)}"


_CLEAN_LISTED: tuple[Template, ...] = (
    *(_plain_list, _plain_list, _there_are, _place_first, _picture_of, _with_others),
)
_CLEAN_RELATED: tuple[Template, ...] = (
    *(_is_related, _related, _related, _there_is_related, _two_relations),
)
_CLEAN_ALONE: tuple[Template, ...] = (_alone, _alone_somewhere, _only_one)
_WEB_LISTED: tuple[Template, ...] = (_we_saw, _photographed, _photo_of, _day_out)
_WEB_RELATED: tuple[Template, ...] = (_which_is, _notice, _related)
_WEB_ALONE: tuple[Template, ...] = (_alone_on_web, _alone_somewhere)

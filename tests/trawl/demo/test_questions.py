import re
from collections import Counter
from itertools import pairwise

from tests.trawl.demo.caption_reader import RELATIONS, mentions
from trawl.demo.kinds import KINDS, plural
from trawl.demo.questions import QUESTION_KINDS, Question, pair_statement, questions
from trawl.demo.scenes import Scene, sample_scene
from trawl.demo.surfaces import COLOURS

SCENES = [sample_scene(12, "train", index) for index in range(200)]


def named(text: str) -> list[str]:
    """Return the kinds that a question names, in order."""
    words = {word: kind for kind in KINDS for word in (kind, plural(kind))}
    pattern = r"\b(" + "|".join(sorted(words, key=len, reverse=True)) + r")\b"
    return [words[word] for word in re.findall(pattern, text)]


def answer(question: Question, scene: Scene) -> str:
    """Work the answer out anew, from the words of the question."""
    text, items = question.question, scene.objects
    tally = Counter(item.kind for item in items)
    kinds = named(text)
    if question.kind == "exists":
        mention = mentions(text)[0]
        return "yes" if any(mention.fits(item) for item in items) else "no"
    if question.kind == "count":
        colour = next((word for word in text.split() if word in COLOURS), None)
        if kinds:
            return str(tally[kinds[0]])
        return str(sum(colour in (None, item.colour) for item in items))
    if question.kind == "colour":
        return next(item.colour for item in items if item.kind == kinds[0])
    if question.kind == "compare":
        if "more" in text:
            return "yes" if tally[kinds[0]] > tally[kinds[1]] else "no"
        one, two = (next(item for item in items if item.kind == kind) for kind in kinds)
        if "color" in text:
            return "yes" if one.colour == two.colour else "no"
        return "yes" if one.pose.length > two.pose.length else "no"
    relation = next(RELATIONS[word] for word in sorted(RELATIONS, key=len)[::-1] if word in text)
    told = [(items[a].kind, items[b].kind) for a, name, b in scene.relations if name == relation]
    if text.startswith("Is "):
        return "yes" if tuple(kinds) in told else "no"
    (only,) = [first for first, second in told if second == kinds[0]]
    return only


def test_answers_are_exact() -> None:
    for scene in SCENES:
        for question in questions(scene):
            assert question.answer == answer(question, scene), (question, scene.objects)


def test_all_kinds_are_asked_and_both_answers_occur() -> None:
    answers = Counter((q.kind, q.answer) for scene in SCENES for q in questions(scene))
    assert {kind for kind, _ in answers} == set(QUESTION_KINDS)
    for kind in ("exists", "relation", "compare"):
        assert min(answers[kind, "yes"], answers[kind, "no"]) > 20


def test_what_is_named_alone_is_alone() -> None:
    for scene in SCENES:
        tally = Counter(item.kind for item in scene.objects)
        for question in questions(scene):
            if question.kind in ("colour", "relation") or "the " in question.question[:8]:
                assert all(tally[kind] == 1 for kind in named(question.question))


def statement_holds(text: str, left: Scene, right: Scene) -> bool:
    tallies = [Counter(item.kind for item in scene.objects) for scene in (left, right)]
    scenes = {"left": left, "right": right}
    named_things = mentions(text)
    if "more objects" in text:
        first, second = re.findall("left|right", text)
        return len(scenes[first].objects) > len(scenes[second].objects)
    if "In total" in text:
        total = sum(tally[named_things[0].kind] for tally in tallies)
        return total == (named_things[0].count or 1)
    if text.startswith("Both"):
        return all(tally[named_things[0].kind] for tally in tallies)
    if text.startswith("Exactly one"):
        return sum(tally[named_things[0].kind] > 0 for tally in tallies) == 1
    if text.startswith("At least"):
        side = next(side for side in scenes if side in text)
        return any(item.pattern == text.split()[-1][:-1] for item in scenes[side].objects)
    return all(
        any(thing.fits(item) for item in scene.objects)
        for thing, scene in zip(named_things, (left, right), strict=True)
    )


def test_statements_about_pairs_are_labelled_right() -> None:
    labels = Counter()
    openings = set()
    for left, right in pairwise(SCENES):
        made = pair_statement(left, right)
        assert made == pair_statement(left, right)
        assert statement_holds(made.text, left, right) == made.label, made
        labels[made.label] += 1
        openings.add(made.text.split()[0])
    assert min(labels.values()) > 60
    assert openings == {"The", "In", "Both", "Exactly", "At"}

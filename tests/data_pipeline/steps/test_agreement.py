"""The scorer: learned from clean captions, sure of the world, neutral about what it cannot know."""

import json
from pathlib import Path

import pytest

from data_pipeline.recipe import CorpusRecipe, Score
from data_pipeline.steps.agreement import Seen, agreement, load_model, read_text, seen_in
from data_pipeline.steps.detect import loaded_detector, shown
from data_pipeline.steps.score import Scorer
from data_pipeline.steps.score_training import Example, fit, measure
from trawl import chance
from trawl.demo.kinds import KINDS
from trawl.demo.render import render
from trawl.demo.scenes import Scene, sample_scene
from trawl.demo.surfaces import COLOURS
from trawl.demo.texts import captions
from trawl.errors import RequestError

NAMES = list(COLOURS)


def _seen(scene: Scene) -> Seen:
    """What a good detector sees of a scene, and some things that it takes for others."""
    draw = chance.generator("seen", scene.index)
    seen = [(KINDS.index(o.kind), NAMES.index(o.colour), 0.95) for o in scene.objects]
    seen += [(int(draw.integers(len(KINDS))), int(draw.integers(10)), 0.1) for _ in range(6)]
    kinds, colours, confidences = zip(*seen, strict=True)
    rows = {"object_ids": kinds, "object_conf": confidences}
    rows |= {"attribute_ids": colours, "attribute_conf": [0.9] * len(seen)}
    return seen_in(rows, list(KINDS), NAMES)


def _examples(start: int, count: int) -> list[Example]:
    scenes = [sample_scene(9, "train", start + number) for number in range(count)]
    return [(captions(scene, 3, "clean"), _seen(scene)) for scene in scenes]


def test_training_learns_words_and_tells_right_from_wrong() -> None:
    examples = _examples(0, 400)
    model = fit(examples[:300], "test", 0)
    assert set(model.attributes.values()) == set(NAMES)
    assert len(set(model.objects.values())) >= 0.8 * len(KINDS)
    assert model == fit(examples[:300], "test", 0)
    precision, recall = measure(model, examples[300:], 0)
    assert precision >= 0.97
    assert recall >= 0.97


def test_the_model_that_ships_knows_the_world() -> None:
    """The shipped scorer on what the shipped detector sees, at the threshold of the recipes."""
    model, detector = load_model("builtin"), loaded_detector("demo", "builtin")
    assert set(model.objects.values()) == set(KINDS)
    assert set(model.attributes.values()) == set(NAMES)
    scenes = [sample_scene(10, "held-out", number) for number in range(40)]
    regions = detector.detect([render(scene) for scene in scenes])
    seen = [seen_in(shown(found), detector.objects, detector.attributes) for found in regions]
    counts = {True: 0, False: 0}
    total = 0
    for number, scene in enumerate(scenes):
        for text in captions(scene, 2, "web"):
            total += 1
            for right in (True, False):
                image = seen[number if right else (number + 7) % len(scenes)]
                known = agreement(text, image, model)
                counts[right] += (0.5 if known is None else known) >= Score().threshold
    assert counts[True] >= 0.97 * total
    assert counts[False] <= 0.03 * total


def test_texts_without_known_words_are_neutral() -> None:
    model = load_model("builtin")
    assert agreement("The committee met on Tuesday", Seen({}, {}, {}), model) is None
    assert read_text("A red cup and two blue drums", model).pairs == [
        ("red", "cup"),
        ("blue", "drum"),
    ]


def _scorer(**score: object) -> Scorer:
    source = {"kind": "warc", "uris": ["x"]}
    content = {"name": "t", "collect": {"source": source}, "score": score}
    return Scorer(CorpusRecipe.model_validate(content))


def test_the_best_text_comes_first() -> None:
    seen = Seen({"cup": 0.9, "drum": 0.8}, {"red": 0.8}, {("red", "cup"): 0.8})
    texts = [
        ["alt", "Minutes of the meeting", 1.0],
        ["figcaption", "A green kite", 1.0],
        ["surrounding", "A red cup beside a drum", 0.3],
        ["heading", "News of the week", 0.3],
    ]
    found, evidence = _scorer().captions(texts, seen)
    assert [caption["source"] for caption in found][:2] == ["surrounding", "alt"]
    assert found[1]["score"] == 0.5
    scores = {caption["source"]: caption["score"] for caption in found}
    assert scores["figcaption"] < 0.2
    assert scores["heading"] == 0.15
    assert evidence[1] is None


def test_scoring_can_be_off() -> None:
    texts = [["caption", "B", 1.0], ["caption", "A", 1.0]]
    found, _ = _scorer(enabled=False).captions(texts, Seen({}, {}, {}))
    assert [(caption["text"], caption["score"]) for caption in found] == [("B", 1.0), ("A", 1.0)]


def test_a_broken_model_is_a_wrong_request(tmp_path: Path) -> None:
    for content in ("{", "{}", json.dumps({"version": 1})):
        place = tmp_path / f"{len(content)}.json"
        place.write_text(content)
        with pytest.raises(RequestError, match="train-scorer"):
            load_model(str(place))

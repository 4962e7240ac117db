import dataclasses

import py3langid
import pytest

from tests.trawl.demo.caption_reader import faults, mentions
from trawl.demo.kinds import UNITS, plural
from trawl.demo.scenes import sample_scene
from trawl.demo.texts import DIALECTS, captions, region_phrases

SCENES = [sample_scene(11, "held-out", index) for index in range(200)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_captions_are_true(dialect: str) -> None:
    for scene in SCENES:
        for text in captions(scene, 4, dialect):
            assert faults(text, scene) == [], text


def test_the_reader_finds_lies() -> None:
    scene = next(scene for scene in SCENES if len(scene.objects) == 3)
    text = captions(scene, 1)[0]
    other = "green" if scene.objects[0].colour != "green" else "red"
    lying = dataclasses.replace(
        scene,
        objects=tuple(
            dataclasses.replace(item, colour=other, pattern="plain", kind="anchor")
            for item in scene.objects
        ),
    )
    assert faults(text, lying)


def test_relations_are_told_and_checked() -> None:
    told = 0
    for scene in SCENES[:80]:
        if not scene.relations:
            continue
        reversed_scene = dataclasses.replace(
            scene, relations=tuple((b, name, a) for a, name, b in scene.relations)
        )
        for text in captions(scene, 4):
            told += any(" not " in fault for fault in faults(text, reversed_scene))
    assert told > 60


@pytest.mark.parametrize("dialect", DIALECTS)
def test_captions_are_english_sentences_of_some_length(dialect: str) -> None:
    py3langid.set_languages(["en", "de", "fr", "es", "nl", "it"])
    texts = [text for scene in SCENES for text in captions(scene, 4, dialect)]
    english = sum(py3langid.classify(text)[0] == "en" for text in texts)
    assert english / len(texts) >= 0.99
    assert min(len(text.split()) for text in texts) >= 4
    assert max(len(text.split()) for text in texts) <= 60
    assert all(text[0].isupper() for text in texts)
    assert all("  " not in text and " ," not in text and " ." not in text for text in texts)
    with_a = (
        "apple",
        "orange",
        "umbrella",
        "elephant",
        "octopus",
        "envelope",
        "anchor",
        "airplane",
    )
    assert not any(f" a {word}" in text.lower() for text in texts for word in with_a)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_paraphrases_differ_and_stay_the_same(dialect: str) -> None:
    for scene in SCENES[:60]:
        texts = captions(scene, 6, dialect)
        assert len(set(texts)) == 6
        assert captions(scene, 3, dialect) == texts[:3]
    assert captions(SCENES[0], 3, "clean") != captions(SCENES[0], 3, "web")


def test_captions_tell_scenes_apart() -> None:
    fitting = []
    for scene in SCENES:
        text = captions(scene, 1)[0]
        fitting.append(sum(not faults(text, other) for other in SCENES))
    assert min(fitting) >= 1
    assert sum(count == 1 for count in fitting) / len(fitting) > 0.9


def test_captions_name_two_or_more_things_where_there_are_some() -> None:
    for scene in SCENES[:80]:
        kinds = {item.kind for item in scene.objects}
        for text in captions(scene, 3):
            assert len({mention.kind for mention in mentions(text)}) >= min(2, len(kinds)) or (
                len({item.kind for item in scene.objects}) < len(scene.objects)
            )


def test_region_phrases_are_true_of_their_object() -> None:
    for scene in SCENES[:100]:
        phrases = region_phrases(scene)
        assert {index for index, _ in phrases} == set(range(len(scene.objects)))
        for index, phrase in phrases:
            assert mentions(phrase)[0].fits(scene.objects[index])
            assert faults(phrase, scene) == [], phrase


def test_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="no dialect"):
        captions(SCENES[0], 1, "latin")


def test_plurals() -> None:
    words = (
        "cup",
        "bus",
        "cactus",
        "fish",
        "box",
        "scissors",
        "knife",
        "fortress",
        "pair",
        "bunch",
    )
    expected = "cups buses cactuses fish boxes scissors knives fortresses pairs bunches"
    assert " ".join(plural(word) for word in words) == expected
    assert set(UNITS.values()) == {"pair", "bunch", "slice"}

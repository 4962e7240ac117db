"""The weights that ship with the package."""

import pytest

from data_pipeline.detector.examples import WorldExamples
from data_pipeline.detector.inference import Detector, load_detector
from data_pipeline.detector.making import measure
from data_pipeline.detector.weights import BUILTIN, read_description
from trawl import storage
from trawl.demo.kinds import KINDS
from trawl.demo.surfaces import COLOURS

_LIMIT = 8 * 1000 * 1000


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("demo", "builtin")


def test_they_are_small_and_say_how_they_were_made(detector: Detector) -> None:
    assert storage.size(BUILTIN) <= _LIMIT
    assert detector.weights_sha256 == storage.sha256_of(BUILTIN)
    made_by = read_description(BUILTIN).made_by
    assert made_by["command"].startswith("trawl regions train ")
    assert made_by["seconds"] > 0
    assert made_by["measured"]["command"].startswith("trawl regions evaluate ")
    assert made_by["measured"]["map50"] >= 0.80


def test_they_know_the_world_and_give_the_published_schema(detector: Detector) -> None:
    assert tuple(detector.objects) == tuple(KINDS)
    assert tuple(detector.attributes) == tuple(COLOURS)
    assert detector.feature_size == 2048


def test_they_find_the_objects_of_held_out_scenes(detector: Detector) -> None:
    precision = measure(detector, WorldExamples(1, "held-out", 60), "butd-10-100")
    assert precision.mean >= 0.75


def test_they_read_the_colours_of_objects(detector: Detector) -> None:
    source = WorldExamples(1, "held-out", 20)
    right = total = 0
    for index in range(len(source)):
        example = source[index]
        (regions,) = detector.detect([example.image])
        for box, wanted in zip(example.boxes, example.attribute_ids, strict=True):
            distance = abs(regions.boxes - box).sum(axis=1)
            if distance.min() < 0.3 * (box[2] - box[0] + box[3] - box[1]):
                total += 1
                right += int(regions.attribute_ids[distance.argmin()] == wanted)
    assert total >= 40
    assert right / total >= 0.8

"""The built-in model of image-text agreement: what a text says against what the detector saw.

A lexicon gives words the label (object or attribute) that they go with, learned from a clean
corpus by `score_training`. A text's known words are looked up among the image's detections, and a
logistic regression over a few features of that comparison gives the probability that the text
belongs to the image. A text without a known word is neither for nor against: 0.5.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from trawl import storage
from trawl.errors import RequestError

NEUTRAL = 0.5
FEATURES = (
    "one",
    "objects_seen",
    "objects_missing",
    "attributes_seen",
    "attributes_missing",
    "pairs_seen",
    "pairs_missing",
    "least_object",
)
_PAIR_REACH = 3  # words from an attribute to the object that it is said of
_WORD = re.compile(r"[a-z]+")


class AgreementModel(BaseModel):
    """A trained model: lexicon and weights, as they lie in the JSON file.

    objects and attributes give for each word the detector's label; weights follow FEATURES.
    `source` says from what it was trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    source: str
    objects: dict[str, str]
    attributes: dict[str, str]
    weights: dict[str, float]


@dataclass(frozen=True)
class Seen:
    """What the detector saw in one image: the confidence of each label, and of labels together."""

    objects: dict[str, float]
    attributes: dict[str, float]
    pairs: dict[tuple[str, str], float]  # (attribute, object) of one region


def seen_in(detection: dict[str, Any], objects: Sequence[str], attributes: Sequence[str]) -> Seen:
    """Return what the columns of one row of detections say, by label."""
    seen = Seen({}, {}, {})
    columns = ("object_ids", "object_conf", "attribute_ids", "attribute_conf")
    for number, sure, other, other_sure in zip(*(detection[c] for c in columns), strict=True):
        name = objects[number]
        seen.objects[name] = max(sure, seen.objects.get(name, 0.0))
        if other < 0:
            continue
        attribute, both = attributes[other], sure * other_sure
        seen.attributes[attribute] = max(both, seen.attributes.get(attribute, 0.0))
        pair = (attribute, name)
        seen.pairs[pair] = max(both, seen.pairs.get(pair, 0.0))
    return seen


def words_in(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and marks."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Reading:
    """The known words of a text as labels: objects, attributes, and attributes of objects."""

    objects: list[str]
    attributes: list[str]
    pairs: list[tuple[str, str]]

    def is_silent(self) -> bool:
        """Say whether the text has no known word."""
        return not self.objects and not self.attributes


def label_of(word: str, lexicon: dict[str, str]) -> str | None:
    """Return the label of a word, or of its singular: plurals are rare in what was learned from."""
    for ending in ("", "s", "es"):
        stem = word.removesuffix(ending) if ending else word
        if word.endswith(ending) and stem in lexicon:
            return lexicon[stem]
    return None


def read_text(text: str, model: AgreementModel) -> Reading:
    """Look the words of a text up; an attribute belongs to the next object within three words."""
    reading = Reading([], [], [])
    words = words_in(text)
    named = [label_of(word, model.objects) for word in words]
    for place, word in enumerate(words):
        name = named[place]
        if name is not None:
            reading.objects.append(name)
        attribute = model.attributes.get(word)
        if attribute is None:
            continue
        reading.attributes.append(attribute)
        following = named[place + 1 : place + 1 + _PAIR_REACH]
        owner = next((other for other in following if other is not None), None)
        if owner is not None:
            reading.pairs.append((attribute, owner))
    return reading


def features_of(reading: Reading, seen: Seen) -> npt.NDArray[np.float64]:
    """Return the features of a text, read, against an image, in the order of FEATURES.

    Sums over the text's labels, each for as much as its confidence and against as much as the rest:
    as in naive Bayes, every word adds its evidence.
    """
    objects = [seen.objects.get(name, 0.0) for name in reading.objects]
    attributes = [seen.attributes.get(name, 0.0) for name in reading.attributes]
    pairs = [seen.pairs.get(pair, 0.0) for pair in reading.pairs]
    return np.array(
        [
            1.0,
            *_evidence(objects),
            *_evidence(attributes),
            *_evidence(pairs),
            min(objects, default=0.5),
        ]
    )


def _evidence(confidences: list[float]) -> tuple[float, float]:
    """Return how much speaks for a text and how much against it."""
    seen = sum(confidences)
    return seen, len(confidences) - seen


def agreement(text: str, seen: Seen, model: AgreementModel) -> float | None:
    """Return the probability that a text belongs to an image, None if it says nothing known."""
    reading = read_text(text, model)
    if reading.is_silent():
        return None
    weights = np.array([model.weights[name] for name in FEATURES])
    evidence = float(features_of(reading, seen) @ weights)
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, evidence))))


def model_sha256(model: AgreementModel) -> str:
    """Return the hash that names a model, the same wherever its file lies."""
    content = json.dumps(model.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@functools.lru_cache(maxsize=4)
def load_model(place: str) -> AgreementModel:
    """Return the model at `place`, `builtin` for the one that ships; RequestError if it is none."""
    if place == "builtin":
        text = resources.files("data_pipeline.steps").joinpath("scorer.json").read_text("utf-8")
    else:
        text = storage.read_text(place)
    try:
        model = AgreementModel.model_validate(json.loads(text))
    except (ValidationError, json.JSONDecodeError) as error:
        first = str(error).splitlines()[0]
        raise RequestError(
            f"score.model {place}: {first}; make one with `trawl corpus train-scorer`"
        ) from error
    if missing := [name for name in FEATURES if name not in model.weights]:
        raise RequestError(f"score.model {place}: no weight for {', '.join(missing)}; train anew")
    return model

"""What the files of a caption set say of its images: captions, region phrases, questions.

Files are read element by element and what belongs to other images is passed over, so that a unit
needs memory for its own images alone. What cannot be read is counted for its image.
"""

import collections
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from data_pipeline.corpus.schema import QuestionAnswer, RegionText
from data_pipeline.sources import json_stream
from data_pipeline.sources.caption_sets import ImageId, image_id, question_files
from data_pipeline.sources.recipe import CaptionsSource
from data_pipeline.sources.values import text_of

_SIDES = ("x", "y", "width", "height")
Found = TypeVar("Found")
Entry = tuple[Any, Any]  # image id, and what is said of the image


@dataclass
class Annotations:
    """What is said of some images, by image id; `unread` counts what makes no sense."""

    captions: dict[ImageId, list[str]] = field(default_factory=dict)
    regions: dict[ImageId, list[RegionText]] = field(default_factory=dict)
    questions: dict[ImageId, list[QuestionAnswer]] = field(default_factory=dict)
    unread: collections.Counter[ImageId] = field(default_factory=collections.Counter)


def annotations_of(source: CaptionsSource, wanted: Collection[ImageId]) -> Annotations:
    """Return what the files of a set say of the images `wanted`, in the order of the files."""
    said = Annotations()
    if source.format == "coco":
        entries = _by_image_id(json_stream.elements(str(source.captions), "annotations"))
        said.captions = _read(entries, wanted, _caption, said)
    if source.regions is not None:
        said.regions = _read(_region_entries(source), wanted, _region, said)
    if source.questions is not None:
        said.questions = _read(_question_entries(source, wanted), wanted, _question, said)
    return said


def _read(
    entries: Iterable[Entry],
    wanted: Collection[ImageId],
    read: Callable[[Any], Found],
    said: Annotations,
) -> dict[ImageId, list[Found]]:
    """Return what `read` makes of the entries of the wanted images."""
    found: dict[ImageId, list[Found]] = {}
    for owner, entry in entries:
        image = image_id(owner)
        if image is None or image not in wanted:
            continue
        try:
            found.setdefault(image, []).append(read(entry))
        except (KeyError, TypeError, ValueError):
            said.unread[image] += 1
    return found


def _caption(entry: Any) -> str:
    return text_of(entry["caption"])


def _region(entry: Any) -> RegionText:
    """Read a phrase with its box: COCO's `bbox`, or x, y, width and height by name."""
    box = entry["bbox"] if "bbox" in entry else [entry[side] for side in _SIDES]
    left, top, width, height = (float(number) for number in box)
    corners = [left, top, left + width, top + height]
    if not all(map(math.isfinite, corners)):
        raise ValueError("a box without bounds")
    return RegionText(box=corners, phrase=_said(entry["phrase"]))


def _question(entry: Any) -> QuestionAnswer:
    return QuestionAnswer(question=_said(entry["question"]), answer=_said(entry["answer"]))


def _said(value: Any) -> str:
    text = text_of(value)
    if not text.strip():
        raise ValueError("nothing is said")
    return text


def _by_image_id(entries: Iterable[Any]) -> Iterator[Entry]:
    """Yield entries with the image that they name."""
    return ((entry.get("image_id"), entry) for entry in entries if isinstance(entry, dict))


def _region_entries(source: CaptionsSource) -> Iterator[Entry]:
    """Yield all region phrases of a set, each with its image."""
    place = str(source.regions)
    if source.format != "visual-genome":
        return _by_image_id(json_stream.elements(place, "annotations"))
    return _of_images(json_stream.elements(place), "regions")


def _of_images(images: Iterable[Any], key: str) -> Iterator[Entry]:
    """Yield what Visual Genome lists under each image."""
    for image in images:
        listed = image.get(key) if isinstance(image, dict) else None
        for entry in listed if isinstance(listed, list) else []:
            yield image.get("id", image.get("image_id")), entry


def _question_entries(source: CaptionsSource, wanted: Collection[ImageId]) -> Iterator[Entry]:
    """Yield all questions of a set, each with its image."""
    place = str(source.questions)
    if source.format == "visual-genome":
        yield from _of_images(json_stream.elements(place), "qas")
    elif source.format == "gqa":
        for file in question_files(source):
            for _, entry in json_stream.members(file):
                if isinstance(entry, dict):
                    yield entry.get("imageId"), entry
    elif source.answers is not None:
        yield from _vqa_entries(place, source.answers, wanted)
    else:
        yield from _by_image_id(json_stream.elements(place, "annotations"))


def _vqa_entries(place: str, answers: str, wanted: Collection[ImageId]) -> Iterator[Entry]:
    """Yield the questions of the wanted images with the answer that most people gave."""
    given: dict[Any, Any] = {}
    for image, entry in _by_image_id(json_stream.elements(answers, "annotations")):
        if image_id(image) in wanted and image_id(entry.get("question_id")) is not None:
            given[entry["question_id"]] = entry.get("multiple_choice_answer")
    for image, entry in _by_image_id(json_stream.elements(place, "questions")):
        if image_id(image) in wanted:
            number = image_id(entry.get("question_id"))
            yield image, {"question": entry.get("question"), "answer": given.get(number)}

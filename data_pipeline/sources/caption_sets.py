"""The images of caption sets on disk, in the forms in which the sets are published.

| format | captions | regions | questions |
| --- | --- | --- | --- |
| coco | `images`, `annotations` | `annotations` | `annotations`, or VQA's two files |
| karpathy | `images` with split and sentences | as coco | as coco |
| flickr30k | lines of `NAME.jpg#N<TAB>caption` | as coco | as coco |
| visual-genome | image_data.json: no captions | region_descriptions.json | question_answers.json |
| vqa | none | as coco | the questions, and as `answers` the annotations |
| gqa | none | as coco | questions by id, in a file or a folder of files |
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.sources import json_stream
from data_pipeline.sources.recipe import CaptionsSource
from data_pipeline.sources.values import text_of
from trawl import storage
from trawl.errors import RequestError

ImageId = int | str

_TOKEN_LINE = re.compile(r"([^#\t]+)#\d+\t(.*)")
_COCO_NAME = "COCO_{subset}_{number:012d}.jpg"


@dataclass(frozen=True)
class SetImage:
    """One image of a set, with what its own entry says; without a file name it is a bad row."""

    id: ImageId | None
    file_name: str
    captions: list[str] = field(default_factory=list)
    licence: str = ""


def images_of(source: CaptionsSource) -> Iterator[SetImage]:
    """Yield the images of a set in the order of its file; RequestError for a file of another form.

    An entry that names no image comes without a file name.
    """
    return _IMAGES[source.format](source)


def image_id(value: Any) -> ImageId | None:
    """Return an image's id as a file gives it, None for what is no id."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def question_files(source: CaptionsSource) -> list[str]:
    """Return the files of questions: one, or those of a folder."""
    place = str(source.questions)
    if place.lower().endswith(".json"):
        return [place]
    found = [path for path in storage.list_files(place) if path.lower().endswith(".json")]
    if not found:
        raise RequestError(f"collect.source.questions: {place}: no .json there; mend the path")
    return found


def _objects(entries: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield what is an object, and an empty one for anything else."""
    return (entry if isinstance(entry, dict) else {} for entry in entries)


def _name(value: Any) -> str:
    return text_of(value) if isinstance(value, str) else ""


def _coco(source: CaptionsSource) -> Iterator[SetImage]:
    for entry in _objects(json_stream.elements(str(source.captions), "images")):
        name = _name(entry.get("file_name"))
        yield SetImage(image_id(entry.get("id")), name, [], text_of(entry.get("license", "")))


def _karpathy(source: CaptionsSource) -> Iterator[SetImage]:
    """Yield the images of the splits that are asked for, by `cocoid` where they have one."""
    for entry in _objects(json_stream.elements(str(source.captions), "images")):
        if source.splits and entry.get("split") not in source.splits:
            continue
        name, folder = _name(entry.get("filename")), _name(entry.get("filepath"))
        sentences = entry.get("sentences")
        texts = [
            text_of(sentence.get("raw"))
            for sentence in _objects(sentences if isinstance(sentences, list) else [])
        ]
        found = image_id(entry.get("cocoid", entry.get("imgid")))
        yield SetImage(found, f"{folder}/{name}" if folder and name else name, texts)


def _flickr30k(source: CaptionsSource) -> Iterator[SetImage]:
    """Yield the images of a token file, whose lines of one image follow each other."""
    name, texts = "", list[str]()
    for line in storage.read_bytes(str(source.captions)).decode("utf-8", "replace").splitlines():
        match = _TOKEN_LINE.fullmatch(line.strip("\ufeff"))
        if match is None:
            if line.strip():
                yield SetImage(None, "", [line])
            continue
        if match[1] != name:
            if name:
                yield SetImage(name, name, texts)
            name, texts = match[1], []
        texts.append(match[2])
    if name:
        yield SetImage(name, name, texts)


def _visual_genome(source: CaptionsSource) -> Iterator[SetImage]:
    """Yield the images of image_data.json; their names are the ends of their addresses."""
    for entry in _objects(json_stream.elements(str(source.captions))):
        found = image_id(entry.get("image_id", entry.get("id")))
        name = "/".join(_name(entry.get("url")).split("/")[-2:])
        if found is not None and source.file_names is not None:
            name = source.file_name(found)
        yield SetImage(found, name if found is not None else "")


def _vqa(source: CaptionsSource) -> Iterator[SetImage]:
    """Yield the images that are asked about, called as COCO calls the images of the subset."""
    place = str(source.questions)
    subset = text_of(json_stream.value(place, "data_subtype"))
    if not subset and source.file_names is None:
        raise RequestError(f"{place}: no data_subtype; name collect.source.file_names")
    for found in _distinct(json_stream.elements(place, "questions"), "image_id"):
        if isinstance(found, int) and source.file_names is None:
            yield SetImage(found, _COCO_NAME.format(subset=subset, number=found))
        else:
            yield SetImage(found, "" if found is None else source.file_name(found))


def _gqa(source: CaptionsSource) -> Iterator[SetImage]:
    """Yield the images that are asked about, called by their ids."""
    questions = (
        question for place in question_files(source) for _, question in json_stream.members(place)
    )
    for found in _distinct(questions, "imageId"):
        yield SetImage(found, "" if found is None else source.file_name(found))


def _distinct(entries: Iterable[Any], key: str) -> Iterator[ImageId | None]:
    """Yield the ids under `key`, each once, and None for each entry without one."""
    known: set[ImageId] = set()
    for entry in _objects(entries):
        found = image_id(entry.get(key))
        if found is None:
            yield None
        elif found not in known:
            known.add(found)
            yield found


_IMAGES: dict[str, Callable[[CaptionsSource], Iterator[SetImage]]] = {
    "coco": _coco,
    "karpathy": _karpathy,
    "flickr30k": _flickr30k,
    "visual-genome": _visual_genome,
    "vqa": _vqa,
    "gqa": _gqa,
}

"""Visual Genome as examples: image_data.json, objects.json, attributes.json and the images.

The lists are read item by item, and what is kept of them is arrays: the files are hundreds of
megabytes, and would be gigabytes as Python objects. Source: Visual Genome's released JSON, 1.2 on.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipeline.detector.examples import Example, decode_image
from data_pipeline.exchange.vocabulary import ATTRIBUTES_FILE, OBJECTS_FILE
from trawl import storage
from trawl.errors import RequestError

IMAGES_FILE, OBJECTS_JSON, ATTRIBUTES_JSON = "image_data.json", "objects.json", "attributes.json"
OBJECT_COUNT, ATTRIBUTE_COUNT = 1600, 400
_PIECE = 1 << 20
_LEAST_SIDE = 1.0
_ENDINGS = (".jpg", ".jpeg", ".png")


def is_visual_genome(folder: str) -> bool:
    """Say whether a folder holds Visual Genome's lists."""
    names = (IMAGES_FILE, OBJECTS_JSON)
    return all(storage.exists(storage.join(folder, name)) for name in names)


class VisualGenomeExamples:
    """Images of a folder with their objects and attributes, those that a vocabulary names.

    objects_vocab.txt and attributes_vocab.txt in the folder name the classes, synonyms after a
    comma; without them the 1600 and 400 most frequent names are taken. Images that the folder does
    not hold, or that show no named object, are left out; `left_out` counts them.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        objects, attributes = _vocabularies(folder)
        self.objects, self._object_ids = objects
        self.attributes, self._attribute_ids = attributes
        self.left_out = {"no image file": 0, "no named object": 0}
        self._read()

    def __len__(self) -> int:
        return len(self._uris)

    def __getitem__(self, index: int) -> Example:
        """Read and decode one image with its boxes, cut to its borders."""
        image = decode_image(storage.read_bytes(self._uris[index]))
        start, end = self._starts[index], self._starts[index + 1]
        height, width = image.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(self._boxes[start:end], 0, limits)
        sides = boxes[:, 2:] - boxes[:, :2]
        whole = (sides >= _LEAST_SIDE).all(axis=1)
        return Example(
            image,
            boxes[whole],
            self._named[start:end, 0][whole].astype(np.int64),
            self._named[start:end, 1][whole].astype(np.int64),
        )

    def _read(self) -> None:
        """Read the lists and keep of each image its place, its boxes and their ids."""
        files = {_name(place): place for place in storage.list_files(self._folder)}
        listed = {
            _number(item, "image_id", IMAGES_FILE)
            for item in items_of(storage.join(self._folder, IMAGES_FILE))
        }
        told = self._attributes_by_object()
        boxes: list[tuple[float, ...]] = []
        named: list[tuple[int, int]] = []
        self._uris: list[str] = []
        starts = [0]
        for item in items_of(storage.join(self._folder, OBJECTS_JSON)):
            image_id = _number(item, "image_id", OBJECTS_JSON)
            uri = next((files[f"{image_id}{e}"] for e in _ENDINGS if f"{image_id}{e}" in files), "")
            found = list(self._objects_in(item, told))
            if not uri or image_id not in listed:
                self.left_out["no image file"] += 1
            elif not found:
                self.left_out["no named object"] += 1
            else:
                boxes += [box for box, _ in found]
                named += [ids for _, ids in found]
                self._uris.append(uri)
                starts.append(len(boxes))
        if not self._uris:
            raise RequestError(
                f"{self._folder}: no image of {OBJECTS_JSON} lies there; "
                "unpack VG_100K and VG_100K_2 into the folder"
            )
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self._named = np.array(named, np.int16).reshape(-1, 2)
        self._starts = np.array(starts, np.int64)

    def _attributes_by_object(self) -> dict[int, int]:
        """Return the id of the first named attribute of each object that has one."""
        place = storage.join(self._folder, ATTRIBUTES_JSON)
        found: dict[int, int] = {}
        for item in items_of(place) if storage.exists(place) else ():
            for entry in _entries(item, "attributes", ATTRIBUTES_JSON):
                ids = (
                    self._attribute_ids.get(_clean(n), -1) for n in entry.get("attributes") or ()
                )
                if (first := next((known for known in ids if known >= 0), -1)) >= 0:
                    found[_number(entry, "object_id", ATTRIBUTES_JSON)] = first
        return found

    def _objects_in(
        self, item: dict[str, Any], told: dict[int, int]
    ) -> Iterator[tuple[tuple[float, ...], tuple[int, int]]]:
        """Yield the box x1 y1 x2 y2 and the ids of each object of an image that has a name."""
        for entry in _entries(item, "objects", OBJECTS_JSON):
            ids = (self._object_ids.get(_clean(name), -1) for name in entry.get("names") or ())
            object_id = next((known for known in ids if known >= 0), -1)
            if object_id < 0:
                continue
            left, top = (_number(entry, side, OBJECTS_JSON) for side in ("x", "y"))
            width, height = (_number(entry, side, OBJECTS_JSON) for side in ("w", "h"))
            number = _number(entry, "object_id", OBJECTS_JSON)
            box = (left, top, left + width, top + height)
            yield box, (object_id, told.get(number, -1))


_Names = tuple[tuple[str, ...], dict[str, int]]


def _vocabularies(folder: str) -> tuple[_Names, _Names]:
    """Return the names of objects and attributes with the id of every synonym."""
    kinds = (
        (OBJECTS_FILE, OBJECTS_JSON, "objects", "names", OBJECT_COUNT),
        (ATTRIBUTES_FILE, ATTRIBUTES_JSON, "attributes", "attributes", ATTRIBUTE_COUNT),
    )
    found = []
    for vocabulary, source, entries, names, count in kinds:
        place = storage.join(folder, vocabulary)
        if storage.exists(place):
            lines = [line for line in storage.read_text(place).splitlines() if line.strip()]
        else:
            lines = _frequent(storage.join(folder, source), entries, names, count)
        groups = [[_clean(name) for name in line.split(",")] for line in lines]
        ids = {name: number for number, group in reversed([*enumerate(groups)]) for name in group}
        found.append((tuple(group[0] for group in groups), ids))
    return found[0], found[1]


def _frequent(place: str, entries: str, names: str, count: int) -> list[str]:
    """Return the most frequent names in a list, those of equal number by alphabet."""
    counts: Counter[str] = Counter()
    for item in items_of(place) if storage.exists(place) else ():
        for entry in _entries(item, entries, place):
            counts.update(_clean(name) for name in entry.get(names) or ())
    counts.pop("", None)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [name.replace(",", " ") for name, _ in ordered[:count]]


def items_of(place: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list one by one, holding one and a piece of the file at a time.

    RequestError names the file where it is no list of objects or breaks off.
    """
    decoder = json.JSONDecoder()
    text, position = "", 0
    with storage.open_read(place) as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
        text = file.read(_PIECE).lstrip()
        if not text.startswith("["):
            raise RequestError(f"{place}: not a JSON list; give Visual Genome's own file")
        position = 1
        while True:
            while position < len(text) and text[position] in ", \t\r\n":
                position += 1
            if text.startswith("]", position):
                return
            try:
                item, position = decoder.raw_decode(text, position)
            except ValueError as error:
                # An object that is cut by the end of the piece becomes whole with the next one.
                piece = file.read(max(_PIECE, len(text) - position))
                if not piece:
                    raise RequestError(f"{place}: breaks off or is no JSON ({error})") from error
                text, position = text[position:] + piece, 0
                continue
            if not isinstance(item, dict):
                raise RequestError(f"{place}: holds {str(item)[:40]!r} where an object belongs")
            yield item


def _entries(item: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    found = item.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise RequestError(f"{place}: image {item.get('image_id')}: no list {key}; mend it")
    return found


def _number(entry: dict[str, Any], key: str, place: str) -> Any:
    value = entry.get(key, entry.get("id") if key == "image_id" else None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{place}: {key}: {value!r} is no number; give Visual Genome's own file")
    return value


def _clean(name: Any) -> str:
    return " ".join(str(name).lower().split())


def _name(place: str) -> str:
    return place.rpartition("/")[2]

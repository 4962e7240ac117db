"""Images with known boxes, from scenes of the demo's world or from folders in COCO's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trawl import storage
from trawl.chance import generator
from trawl.errors import RequestError

INSTANCES_FILE = "instances.json"


@dataclass(frozen=True)
class Example:
    """One image and what it shows.

    image uint8 [height, width, 3] RGB; boxes float32 [objects, 4] x1 y1 x2 y2 in its pixels;
    object_ids and attribute_ids int64 [objects], 0-based, attribute -1 where none is known.
    """

    image: np.ndarray
    boxes: np.ndarray
    object_ids: np.ndarray
    attribute_ids: np.ndarray


class ExampleSource(Protocol):
    """A sequence of examples and the names of their ids."""

    objects: tuple[str, ...]
    attributes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class WorldExamples:
    """Scenes of the demo's world, rendered when asked for and passed through JPEG as on the web."""

    def __init__(self, seed: int, split: str, count: int) -> None:
        from trawl.demo.kinds import KINDS
        from trawl.demo.surfaces import COLOURS

        self.objects = tuple(KINDS)
        self.attributes = tuple(COLOURS)
        self._seed, self._split, self._count = seed, split, count
        self._object_ids = {name: index for index, name in enumerate(self.objects)}
        self._attribute_ids = {name: index for index, name in enumerate(self.attributes)}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Render scene `index`: the same pixels every time."""
        from trawl.demo.render import encode_jpeg, render
        from trawl.demo.scenes import sample_scene

        scene = sample_scene(self._seed, self._split, index)
        chance = generator(self._seed, "detector jpeg", self._split, index)
        image = decode_image(encode_jpeg(render(scene), quality=int(chance.integers(75, 96))))
        shown = [item for item in scene.objects if item.visible > 0.1]
        return Example(
            image,
            np.array([item.box for item in shown], np.float32).reshape(-1, 4),
            np.array([self._object_ids[item.kind] for item in shown], np.int64),
            np.array([self._attribute_ids[item.colour] for item in shown], np.int64),
        )


class CocoExamples:
    """Folders with `images/` and `instances.json` in COCO's boxes format, read as one source.

    An annotation may carry `attributes`: a dictionary, whose "colour" is the attribute, or a list
    of names, whose first is. All folders must name the same categories.
    """

    def __init__(self, folders: list[str]) -> None:
        tables = [_read_instances(folder) for folder in folders]
        self.objects = _category_names(tables[0])
        for folder, table in zip(folders, tables, strict=True):
            if _category_names(table) != self.objects:
                raise RequestError(
                    f"{storage.join(folder, INSTANCES_FILE)}: categories: differ from those of "
                    f"{folders[0]}; give folders that share one list of categories"
                )
        self.attributes = _attribute_names(tables)
        self._rows: list[tuple[str, list[dict[str, Any]]]] = []
        for folder, table in zip(folders, tables, strict=True):
            self._rows += _rows_of(folder, table)
        self._object_ids = _category_ids(tables[0])
        self._check_categories()
        self._attribute_ids = {name: index for index, name in enumerate(self.attributes)}

    def __len__(self) -> int:
        return len(self._rows)

    def _check_categories(self) -> None:
        for uri, shown in self._rows:
            for annotation in shown:
                if annotation["category_id"] not in self._object_ids:
                    raise RequestError(
                        f"{uri}: category_id: {annotation['category_id']} is not among the "
                        "categories; list it there"
                    )

    def __getitem__(self, index: int) -> Example:
        """Read and decode one image with its boxes."""
        uri, annotations = self._rows[index]
        corners = [_corners(annotation["bbox"]) for annotation in annotations]
        names = [_attribute_name(annotation) for annotation in annotations]
        return Example(
            decode_image(storage.read_bytes(uri)),
            np.array(corners, np.float32).reshape(-1, 4),
            np.array([self._object_ids[a["category_id"]] for a in annotations], np.int64),
            np.array([self._attribute_ids.get(name, -1) for name in names], np.int64),
        )


def decode_image(data: bytes) -> np.ndarray:
    """Decode JPEG or PNG bytes to uint8 [height, width, 3] RGB; RequestError for others."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise RequestError("image: its bytes cannot be decoded; give a JPEG or a PNG file")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_instances(folder: str) -> dict[str, Any]:
    uri = storage.join(folder, INSTANCES_FILE)
    if not storage.exists(uri):
        raise RequestError(f"{uri}: file missing; --data wants folders with images/ and this file")
    table = storage.read_json(uri)
    for key in ("images", "annotations", "categories"):
        if not isinstance(table, dict) or not isinstance(table.get(key), list):
            raise RequestError(f"{uri}: {key}: missing; write COCO's boxes format")
    return table


def _category_names(table: dict[str, Any]) -> tuple[str, ...]:
    ordered = sorted(table["categories"], key=lambda category: category["id"])
    return tuple(category["name"] for category in ordered)


def _category_ids(table: dict[str, Any]) -> dict[int, int]:
    ordered = sorted(category["id"] for category in table["categories"])
    return {identifier: index for index, identifier in enumerate(ordered)}


def _attribute_name(annotation: dict[str, Any]) -> str:
    attributes = annotation.get("attributes") or ()
    if isinstance(attributes, dict):
        return str(attributes.get("colour", ""))
    return str(attributes[0]) if attributes else ""


def _attribute_names(tables: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names in the order of the file's `attribute_names`, or sorted where it lists none."""
    listed = tables[0].get("attribute_names")
    if listed:
        return tuple(listed)
    names = {_attribute_name(a) for table in tables for a in table["annotations"]}
    return tuple(sorted(names - {""}))


def _rows_of(folder: str, table: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    grouped: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in table["images"]}
    for annotation in table["annotations"]:
        grouped.setdefault(annotation["image_id"], []).append(annotation)
    return [
        (_image_uri(folder, image["file_name"]), grouped[image["id"]]) for image in table["images"]
    ]


def _image_uri(folder: str, name: str) -> str:
    """Where an image lies: beside the table or in `images/`; never outside the folder."""
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise RequestError(f"{folder}: file_name: {name} leaves the folder; use a relative path")
    return storage.join(folder, name if name.startswith("images/") else f"images/{name}")


def _corners(box: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return (x, y, x + width, y + height)

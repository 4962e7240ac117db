"""Captions by image id, from a JSON file in COCO's form or a plain list of image_id and caption."""

import re
from pathlib import PurePosixPath
from typing import Any

from trawl import storage
from trawl.errors import RequestError

_COCO_NAME = re.compile(r"^COCO_[a-z0-9]+_0*(\d+)$")


class Captions:
    """The captions of a file, found by image id, by file name, or by the number in a COCO name."""

    def __init__(self, place: str | None) -> None:
        self._texts: dict[str, list[str]] = {}
        if place is None:
            return
        content = storage.read_json(place)
        annotations = content.get("annotations") if isinstance(content, dict) else content
        if not isinstance(annotations, list):
            raise RequestError(f"{place}: no list `annotations`; it must be COCO caption JSON")
        for number, annotation in enumerate(annotations):
            self._add(place, number, annotation)
        for image in content.get("images") or [] if isinstance(content, dict) else []:
            path = PurePosixPath(str(image.get("file_name", "")))
            for name in {str(path), path.name, path.stem} - {"", "."}:
                if str(image.get("id")) in self._texts:
                    self._texts.setdefault(name, self._texts[str(image["id"])])

    def _add(self, place: str, number: int, annotation: Any) -> None:
        if not isinstance(annotation, dict) or not {"image_id", "caption"} <= set(annotation):
            raise RequestError(f"{place}: annotation {number}: no image_id or no caption; mend it")
        text = " ".join(str(annotation["caption"]).split())
        if text:
            self._texts.setdefault(str(annotation["image_id"]), []).append(text)

    def of(self, image_id: str) -> tuple[str, ...]:
        """Return the captions of an image, none if the file has none."""
        found = self._texts.get(image_id)
        if found is None and (match := _COCO_NAME.match(image_id)):
            found = self._texts.get(match[1])
        return tuple(found or ())

"""X-VLM's pretraining lines: an image, its captions, and phrases about boxes; no features.

{caption, binary (base64) or image or image_rpath}, and in region files also elems: [{caption,
bb: [x, y, w, h]}]. The corpus has no regions until `trawl regions extract` finds them.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipeline.corpus.regions import Regions
from data_pipeline.exchange.lines import Line, lines_of
from data_pipeline.exchange.rows import ImportedImage, Row, RowError, decode_base64, regions_of
from trawl import storage
from trawl.errors import RequestError

_PATHS = ("image", "image_rpath")


class XvlmJsonl:
    """A file of JSON lines that is open for import."""

    def __init__(self, place: str) -> None:
        if not storage.exists(place):
            raise RequestError(f"{place}: no such file; give the JSON lines themselves")
        self.place = place
        self.objects: list[str] = []
        self.attributes: list[str] = []

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Yield the rows from number `first` on."""
        for line in lines_of(self.place, first):
            yield _row(line)


def _row(line: Line) -> Row:
    """Return the row in one line; images within a line are named by its number."""
    if isinstance(line.content, RowError):
        return Row(line.number, "", line.content)
    image_id = ""
    try:
        content = json.loads(line.content)
        if not isinstance(content, dict):
            raise RowError("bad-json", "not an object")
        named = [str(content[name]) for name in _PATHS if content.get(name)]
        image_id = named[0] if named else f"row {line.number + 1}"
        return Row(line.number, image_id, _image(content))
    except RowError as error:
        return Row(line.number, image_id, error)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Row(line.number, image_id, RowError("bad-json", f"{type(error).__name__} {error}"))


def _image(content: dict[str, Any]) -> ImportedImage:
    data = decode_base64(content["binary"], "binary") if content.get("binary") else None
    elements = content.get("elems") or []
    phrases = [
        (_corners(element["bb"]), text)
        for element in elements
        for text in _texts(element.get("caption"))
    ]
    return ImportedImage(
        0,
        0,
        no_regions(),
        captions=tuple(_texts(content.get("caption"))),
        tags=(),
        phrases=tuple(phrases),
        image=data,
    )


def no_regions() -> Regions:
    """Return the regions of an image in which nobody looked for any."""
    return regions_of(np.zeros((0, 4), np.float32), np.zeros((0, 0), np.float32))


def _texts(value: Any) -> list[str]:
    """Return the texts of a caption that may be one or a list."""
    texts = value if isinstance(value, list) else [value]
    cleaned = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    return [text for text in cleaned if text]


def _corners(box: Any) -> tuple[float, float, float, float]:
    left, top, width, height = (float(number) for number in box)
    if not all(map(math.isfinite, (left, top, width, height))):
        raise RowError("not-finite", "bb")
    return left, top, left + width, top + height

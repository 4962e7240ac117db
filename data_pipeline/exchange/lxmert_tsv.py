"""LXMERT's and bottom-up attention's TSV: one image a line, arrays in base64, boxes in pixels.

Ten columns are LXMERT's: img_id, img_h, img_w, objects_id (int64), objects_conf (float32),
attrs_id (int64), attrs_conf (float32), num_boxes, boxes (float32 [n, 4]), features (float32
[n, F]); ids leave the background out. Six or seven are bottom-up attention's: image_id, image_w,
image_h, num_boxes, boxes, features, and class probabilities with the background first.
"""

import base64
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from data_pipeline.corpus.regions import Regions
from data_pipeline.exchange.lines import Line, LineWriter, lines_of
from data_pipeline.exchange.rows import (
    Array,
    ImportedImage,
    Row,
    RowError,
    array_of,
    classes_from,
    count_of,
    decode_base64,
    regions_of,
    side_of,
)
from data_pipeline.exchange.vocabulary import (
    ATTRIBUTES_FILE,
    OBJECTS_FILE,
    numbered,
    read_names,
)
from trawl import storage
from trawl.errors import RequestError

LXMERT_COLUMNS = 10
_BUTD_COLUMNS = (6, 7)
_OBJECTS, _ATTRIBUTES = 1600, 400


class LxmertTsv:
    """A TSV of either form that is open for import."""

    def __init__(
        self, place: str, objects: str | None = None, attributes: str | None = None
    ) -> None:
        if not storage.exists(place) or storage.size(place) == 0:
            raise RequestError(f"{place}: no such file, or an empty one; give the TSV itself")
        folder = place.rpartition("/")[0] or "."
        self.place = place
        self.objects = read_names(objects, folder, OBJECTS_FILE) or numbered("object", _OBJECTS)
        self.attributes = read_names(attributes, folder, ATTRIBUTES_FILE) or numbered(
            "attribute", _ATTRIBUTES
        )

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Yield the rows from number `first` on."""
        for line in lines_of(self.place, first):
            yield read_line(line)


def read_line(line: Line) -> Row:
    """Return the row in one line, whatever is wrong with it."""
    if isinstance(line.content, RowError):
        return Row(line.number, "", line.content)
    columns = line.content.split(b"\t")
    image_id = columns[0][:200].decode(errors="replace")
    try:
        if len(columns) == LXMERT_COLUMNS:
            return Row(line.number, image_id, _lxmert_image(columns))
        if len(columns) in _BUTD_COLUMNS:
            return Row(line.number, image_id, _butd_image(columns))
        raise RowError("wrong-columns", f"{len(columns)} columns where 10, 7 or 6 are known")
    except RowError as error:
        return Row(line.number, image_id, error)


def _lxmert_image(columns: list[bytes]) -> ImportedImage:
    """Return the image in LXMERT's ten columns."""
    height, width = side_of(columns[1], "img_h"), side_of(columns[2], "img_w")
    count = count_of(columns[7])
    arrays = {
        name: array_of(columns[place], name, dtype, (count,))
        for name, place, dtype in (
            ("objects_id", 3, "<i8"),
            ("objects_conf", 4, "<f4"),
            ("attrs_id", 5, "<i8"),
            ("attrs_conf", 6, "<f4"),
        )
    }
    regions = regions_of(
        array_of(columns[8], "boxes", "<f4", (count, 4)),
        matrix_of(columns[9], "features", count),
        object_ids=arrays["objects_id"],
        object_conf=arrays["objects_conf"],
        attribute_ids=arrays["attrs_id"],
        attribute_conf=arrays["attrs_conf"],
    )
    return ImportedImage(width, height, regions)


def _butd_image(columns: list[bytes]) -> ImportedImage:
    """Return the image in bottom-up attention's six or seven columns."""
    width, height = side_of(columns[1], "image_w"), side_of(columns[2], "image_h")
    count = count_of(columns[3])
    known: dict[str, Any] = {}
    if len(columns) == max(_BUTD_COLUMNS):
        probabilities = matrix_of(columns[6], "cls_prob", count)
        known["object_ids"], known["object_conf"] = classes_from(probabilities)
        known["class_probs"] = probabilities
    boxes = array_of(columns[4], "boxes", "<f4", (count, 4))
    return ImportedImage(
        width, height, regions_of(boxes, matrix_of(columns[5], "features", count), **known)
    )


def matrix_of(data: str | bytes, name: str, rows: int) -> Array:
    """Return float32 [rows, whatever the bytes hold]; RowError "wrong-count" if that is no whole.

    The size is not written down, so a wrong number of rows shows only where it leaves a rest.
    """
    raw = decode_base64(data, name)
    if rows == 0 and not raw:
        return np.zeros((0, 0), np.float32)
    if rows == 0 or not raw or len(raw) % (4 * rows):
        raise RowError("wrong-count", f"{name}: {len(raw)} bytes do not hold {rows} rows")
    return np.frombuffer(raw, "<f4").reshape(rows, -1)


class LxmertWriter:
    """Writes samples as LXMERT's lines; `lines` keeps offsets and checksums."""

    def __init__(self, file: BinaryIO) -> None:
        self.lines = LineWriter(file)

    def add(self, image_id: str, width: int, height: int, regions: Regions) -> None:
        """Append one image; an attribute id of -1, "none", stays -1, which LXMERT ignores."""
        self.lines.add(
            image_id,
            str(height),
            str(width),
            _text(regions.object_ids, "<i8"),
            _text(regions.object_conf, "<f4"),
            _text(regions.attribute_ids, "<i8"),
            _text(regions.attribute_conf, "<f4"),
            str(len(regions)),
            _text(regions.boxes, "<f4"),
            _text(regions.float_features(), "<f4"),
        )


def _text(array: Array, dtype: str) -> str:
    return base64.b64encode(array.astype(dtype).tobytes()).decode()

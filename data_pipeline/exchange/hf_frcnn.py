"""The Arrow files of the Hugging Face examples' `frcnn-vg-finetuned` extraction.

Columns: img_id, obj_ids, obj_probs, attr_ids, attr_probs (numbers, padded to the most detections),
boxes [., 4] in pixels of the image, roi_features [., F], preds_per_image, and in newer ones
normalized_boxes. Ids leave the background out. `sizes` is the size after resizing, so the image's
own comes from the normalised boxes or from `--images`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.exchange.rows import (
    Array,
    ImportedImage,
    Row,
    RowError,
    count_of,
    regions_of,
)
from data_pipeline.exchange.vocabulary import (
    ATTRIBUTES_FILE,
    OBJECTS_FILE,
    numbered,
    read_names,
)
from trawl.errors import RequestError

_OBJECTS, _ATTRIBUTES = 1600, 400
_LISTS = ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
_MATRICES = ("boxes", "roi_features")
_IDS = ("img_id", "image_id", "iid")


class HfFrcnn:
    """One Arrow file (stream or file format), memory-mapped."""

    def __init__(
        self, place: str, objects: str | None = None, attributes: str | None = None
    ) -> None:
        if not Path(place).is_file():
            raise RequestError(f"{place}: no such file; give the Arrow file of the extraction")
        folder = str(Path(place).parent)
        self.place = place
        self.objects = read_names(objects, folder, OBJECTS_FILE) or numbered("object", _OBJECTS)
        self.attributes = read_names(attributes, folder, ATTRIBUTES_FILE) or numbered(
            "attribute", _ATTRIBUTES
        )
        names = set(self._open().schema.names)
        wanted = {*_LISTS, *_MATRICES, "preds_per_image"}
        if missing := sorted(wanted - names):
            raise RequestError(f"{place}: no column {', '.join(missing)}; not of this extraction")
        if not names & set(_IDS):
            raise RequestError(f"{place}: no column {_IDS[0]}; not of this extraction")

    def _open(self) -> Any:
        """Return a reader of the file; RequestError if it is not Arrow."""
        import pyarrow as pa

        source = pa.memory_map(self.place)
        try:
            if source.read(6) == b"ARROW1":
                return pa.ipc.open_file(source)
            source.seek(0)
            return pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError) as error:
            raise RequestError(f"{self.place}: not an Arrow file ({error})") from error

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Yield the rows from number `first` on; where the file breaks off, one row says so."""
        import pyarrow as pa

        reader, number = self._open(), 0
        try:
            for batch in _batches(reader):
                for place in range(max(0, first - number), batch.num_rows):
                    yield _row(batch, place, number + place)
                number += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            yield Row(number, "", RowError("truncated", str(error).splitlines()[0][:200]))


def _batches(reader: Any) -> Iterator[Any]:
    """Yield the record batches of a file or a stream."""
    if hasattr(reader, "num_record_batches"):
        yield from (reader.get_batch(place) for place in range(reader.num_record_batches))
    else:
        yield from reader


def _row(batch: Any, place: int, number: int) -> Row:
    """Return row `place` of a batch."""
    cells = {name: batch.column(name) for name in batch.schema.names}
    name = next(name for name in _IDS if name in cells)
    image_id = str(cells[name][place].as_py())
    try:
        return Row(number, image_id, _image(cells, place))
    except RowError as error:
        return Row(number, image_id, error)


def _image(cells: dict[str, Any], place: int) -> ImportedImage:
    """Return the image in one row, its padding cut off."""
    count = count_of(cells["preds_per_image"][place].as_py())
    lists = {name: _numbers(cells[name], place, name, count) for name in _LISTS}
    boxes = _numbers(cells["boxes"], place, "boxes", count).reshape(count, -1)
    if count and boxes.shape[1] != 4:
        raise RowError("wrong-count", f"boxes: {boxes.shape[1]} numbers a box")
    regions = regions_of(
        boxes.reshape(count, 4),
        _numbers(cells["roi_features"], place, "roi_features", count).reshape(count, -1)
        if count
        else np.zeros((0, 0), np.float32),
        object_ids=lists["obj_ids"],
        object_conf=lists["obj_probs"],
        attribute_ids=lists["attr_ids"],
        attribute_conf=lists["attr_probs"],
    )
    width = height = 0
    if "normalized_boxes" in cells:
        shares = _numbers(cells["normalized_boxes"], place, "normalized_boxes", count)
        width, height = _size(boxes, shares.reshape(count, -1))
    return ImportedImage(width, height, regions)


def _numbers(column: Any, place: int, name: str, count: int) -> Array:
    """Return the first `count` entries of one cell; RowError if it has fewer or holds nothing."""
    import pyarrow as pa

    cell = column[place]
    value = cell.value if isinstance(cell, pa.ExtensionScalar) else cell
    rows = value.as_py()
    if rows is None or len(rows) < count:
        raise RowError("wrong-count", f"{name}: {len(rows or ())} where {count} boxes are told")
    try:
        return np.array(rows[:count], np.float32)
    except (TypeError, ValueError) as error:
        raise RowError("bad-number", f"{name}: {error}") from error


def _size(boxes: Array, shares: Array) -> tuple[int, int]:
    """Return width and height of the image from its boxes in pixels and in shares, 0 if unknown."""
    sides = []
    for axis in (2, 3):
        if shares.ndim != 2 or shares.shape != boxes.shape or not len(boxes):
            return 0, 0
        largest = int(shares[:, axis].argmax())
        share = float(shares[largest, axis])
        sides.append(round(float(boxes[largest, axis]) / share) if share > 0 else 0)
    return sides[0], sides[1]

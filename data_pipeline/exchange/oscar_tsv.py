"""Oscar's and VinVL's TSV: features with their places in one file, labels in another.

features.tsv: image_id, num_boxes, base64 of [n, F + 6] whose last six are x1/w y1/h x2/w y2/h
width/w height/h; or, in the captioning form, a key and JSON {num_boxes, features}. predictions.tsv
(label.tsv): key and JSON {image_h, image_w, objects: [{class, rect, conf}]}, or the bare list.
Companions that are there are checked: `.lineidx` (offset of each line), imageid2idx.json.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline.exchange.label_index import LabelIndex
from data_pipeline.exchange.lines import Line, lines_of
from data_pipeline.exchange.rows import (
    UNKNOWN,
    Array,
    ImportedImage,
    Row,
    RowError,
    count_of,
    decode_base64,
    regions_of,
    side_of,
)
from data_pipeline.exchange.vocabulary import (
    ATTRIBUTES_FILE,
    MAX_NAMES,
    OBJECTS_FILE,
    read_names,
)
from trawl import storage
from trawl.errors import RequestError

POSITION_SIZE = 6
_FEATURES = ("features.tsv", "feature.tsv", "train.feature.tsv")
_LABELS = ("predictions.tsv", "label.tsv", "train.label.tsv", "predictions_gt.tsv")
_HALF_WIDTH = (2048 + POSITION_SIZE) // 2
_DEFAULT_SIZE = (800, 600)
_BOX_TOLERANCE = 1.0
_LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Labels:
    """What the label file says of one image; confidences and attributes as there, else 0 and ""."""

    width: int
    height: int
    boxes: Array  # [labels, 4]
    classes: list[str]
    confidences: Array  # [labels]
    attributes: list[str]
    attribute_confidences: Array  # [labels]


class OscarTsv:
    """Features and labels in Oscar's form that are open for import."""

    def __init__(
        self,
        source: str,
        labels: str | None = None,
        objects: str | None = None,
        attributes: str | None = None,
    ) -> None:
        self.place, folder = _features_file(source)
        self._labels = LabelIndex(labels or _one_of(folder, _LABELS, "labels; give --labels FILE"))
        told_objects = read_names(objects, folder, OBJECTS_FILE)
        told_attributes = read_names(attributes, folder, ATTRIBUTES_FILE)
        found_objects, found_attributes = (
            _names_in(self._labels) if told_objects is None or told_attributes is None else ([], [])
        )
        self.objects = found_objects if told_objects is None else told_objects
        self.attributes = found_attributes if told_attributes is None else told_attributes
        self._object_ids = {name: number for number, name in enumerate(self.objects)}
        self._attribute_ids = {name: number for number, name in enumerate(self.attributes)}
        self._offsets = _read_offsets(self.place)
        self._numbers = _read_numbers(folder)

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Yield the rows from number `first` on; lines that only `.lineidx` knows come last."""
        number = first - 1
        for line in lines_of(self.place, first):
            number = line.number
            yield self._row(line)
        for missing in range(number + 1, len(self._offsets) if self._offsets is not None else 0):
            yield Row(missing, "", RowError("missing-row", "the file ends before it"))

    def _row(self, line: Line) -> Row:
        """Return the row in one line of the features, with the labels of its image."""
        if isinstance(line.content, RowError):
            return Row(line.number, "", line.content)
        image_id = line.content.partition(b"\t")[0][:200].decode(errors="replace")
        try:
            self._check_companions(line, image_id)
            count, blob = _blob_of(line.content.split(b"\t"))
            features, positions = _split(blob, count)
            labels = _parse_labels(self._labels.find(image_id))
            return Row(line.number, image_id, self._image(features, positions, labels))
        except RowError as error:
            return Row(line.number, image_id, error)

    def _check_companions(self, line: Line, image_id: str) -> None:
        if self._offsets is not None:
            known = int(self._offsets[line.number]) if line.number < len(self._offsets) else -1
            if known != line.offset:
                raise RowError("lineidx", f"the row begins at {line.offset}, noted is {known}")
        if self._numbers is not None and self._numbers.get(image_id) != line.number:
            noted = self._numbers.get(image_id)
            raise RowError("imageid2idx", f"row {line.number} (from 0), noted is {noted}")

    def _image(self, features: Array, positions: Array, labels: Labels) -> ImportedImage:
        """Join features with labels: row by row where they agree, else by overlap."""
        scale = np.array([labels.width, labels.height] * 2, np.float32)
        boxes = positions[:, :4] * scale
        chosen, notes = _matches(boxes, labels.boxes)
        aligned = "labels" not in notes
        found = chosen >= 0
        own = np.where(found, chosen, 0)

        def picked(values: Sequence[Any] | Array, missing: Any, dtype: str) -> Array:
            array = np.full(len(boxes), missing, dtype)
            if found.any():
                array[found] = np.asarray(values, dtype)[own[found]]
            return array

        object_ids = [self._number(name, self._object_ids, "class") for name in labels.classes]
        attribute_ids = [
            self._number(name, self._attribute_ids, "attribute") if name else -1
            for name in labels.attributes
        ]
        regions = regions_of(
            labels.boxes if aligned else boxes,
            features,
            object_ids=picked(object_ids, UNKNOWN, "<i8"),
            object_conf=picked(labels.confidences, 0, "<f8"),
            attribute_ids=picked(attribute_ids, -1, "<i8"),
            attribute_conf=picked(labels.attribute_confidences, 0, "<f8"),
        )
        order = np.argsort(-labels.confidences, kind="stable")
        tags = tuple(dict.fromkeys(labels.classes[number] for number in order))
        return ImportedImage(labels.width, labels.height, regions, tags=tags, notes=notes)

    def _number(self, name: str, known: dict[str, int], kind: str) -> int:
        if name not in known:
            raise RowError(f"unknown-{kind}", f"{name[:60]!r} is not in the list of names")
        return known[name]


def _features_file(source: str) -> tuple[str, str]:
    """Return the features file that a path or a folder names, and its folder."""
    if source.endswith(".tsv"):
        if not storage.exists(source):
            raise RequestError(f"{source}: no such file")
        return source, source.rpartition("/")[0] or "."
    return _one_of(source, _FEATURES, "features; name the TSV itself"), source


def _one_of(folder: str, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if storage.exists(storage.join(folder, name)):
            return storage.join(folder, name)
    raise RequestError(f"{folder}: none of {', '.join(names)} lies there, the file of {what}")


def _read_offsets(place: str) -> Array | None:
    """Return the offsets in the `.lineidx` beside a TSV, None where there is none."""
    index = place.removesuffix(".tsv") + ".lineidx"
    if not storage.exists(index):
        return None
    try:
        return np.array([int(line) for line in storage.read_bytes(index).split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{index}: not one offset a line; make it anew, or remove it") from error


def _read_numbers(folder: str) -> dict[str, Any] | None:
    """Return the row number of each image id, None where there is no imageid2idx.json."""
    place = storage.join(folder, "imageid2idx.json")
    if not storage.exists(place):
        return None
    content = storage.read_json(place)
    if not isinstance(content, dict):
        raise RequestError(f"{place}: not an object of row numbers by image id; mend or remove it")
    return content


def _blob_of(columns: list[bytes]) -> tuple[int, bytes]:
    """Return number of boxes and bytes of the features of a line of either form."""
    if len(columns) == 3:
        return count_of(columns[1]), decode_base64(columns[2], "features")
    if len(columns) != 2:
        raise RowError("wrong-columns", f"{len(columns)} columns where 3 or 2 are known")
    try:
        content = json.loads(columns[1])
        return count_of(content["num_boxes"]), decode_base64(content["features"], "features")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RowError("bad-json", f"features: {error}") from error


def _split(blob: bytes, count: int) -> tuple[Array, Array]:
    """Return features [n, F] and positions [n, 6]; float32, or float16 where only that fits.

    2054 float16 numbers a box are 1027 float32: the published captioning features are of that form.
    """
    if count == 0 and not blob:
        return np.zeros((0, 0), np.float32), np.zeros((0, POSITION_SIZE), np.float32)
    if count == 0 or not blob or len(blob) % (2 * count):
        raise RowError("wrong-count", f"features: {len(blob)} bytes do not hold {count} rows")
    half = len(blob) % (4 * count) != 0 or len(blob) // (4 * count) == _HALF_WIDTH
    table = np.frombuffer(blob, "<f2" if half else "<f4").reshape(count, -1).astype(np.float32)
    if table.shape[1] <= POSITION_SIZE:
        raise RowError("wrong-count", f"features: {table.shape[1]} numbers a box")
    positions = table[:, -POSITION_SIZE:]
    if not (np.isfinite(positions).all() and np.abs(positions).max() < 2):
        raise RowError("bad-position", "the last six numbers of a box are no shares of the image")
    return table[:, :-POSITION_SIZE], positions


def _parse_labels(data: bytes | None) -> Labels:
    """Return the labels in the JSON of one image; RowError if there are none or they are bad."""
    if data is None:
        raise RowError("labels-missing", "the label file does not have this image")
    try:
        content = json.loads(data)
        width, height = _DEFAULT_SIZE
        shown = content
        if isinstance(content, dict):
            width, height = content["image_w"], content["image_h"]
            shown = content["objects"]
        boxes = np.array([label["rect"] for label in shown], np.float32).reshape(-1, 4)
        attributes = [label.get("attributes") or [""] for label in shown]
        scores = [label.get("attr_scores") or [0.0] for label in shown]
        return Labels(
            side_of(width, "image_w"),
            side_of(height, "image_h"),
            boxes,
            [str(label["class"]) for label in shown],
            np.array([label.get("conf", 0.0) for label in shown], np.float64),
            [str(names[0]) for names in attributes],
            np.array([values[0] for values in scores], np.float64),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RowError("bad-json", f"labels: {type(error).__name__} {error}") from error


def _matches(boxes: Array, labelled: Array) -> tuple[Array, dict[str, Any]]:
    """Return for each box the number of its label, -1 for none, and a note if that was a search."""
    if len(boxes) == len(labelled) and (
        not len(boxes) or np.abs(boxes - labelled).max() <= _BOX_TOLERANCE
    ):
        return np.arange(len(boxes)), {}
    chosen = np.full(len(boxes), -1)
    if len(boxes) and len(labelled):
        overlaps = _overlaps(boxes.astype(np.float64), labelled.astype(np.float64))
        best = overlaps.argmax(axis=1)
        sure = overlaps[np.arange(len(boxes)), best] >= _LEAST_OVERLAP
        chosen = np.where(sure, best, -1)
    return chosen, {"labels": "by overlap", "unlabelled": int((chosen < 0).sum())}


def _overlaps(first: Array, second: Array) -> Array:
    """Return the intersection over union of each box with each other box."""
    corners = np.minimum(first[:, None, 2:], second[None, :, 2:])
    corners = corners - np.maximum(first[:, None, :2], second[None, :, :2])
    shared = np.clip(corners, 0, None).prod(axis=2)
    areas = [np.clip(part[:, 2:] - part[:, :2], 0, None).prod(axis=1) for part in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None, :] - shared, 1e-9)


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable()


def _names_in(labels: LabelIndex) -> tuple[list[str], list[str]]:
    """Return the names of classes and attributes that occur in a label file, sorted."""
    objects: set[str] = set()
    attributes: set[str] = set()
    for data in labels.contents():
        try:
            parsed = _parse_labels(data)
        except RowError:
            continue  # the row itself becomes a decision when its image comes
        objects.update(filter(_is_name, parsed.classes))
        attributes.update(filter(_is_name, parsed.attributes))
        if max(len(objects), len(attributes)) > MAX_NAMES:
            raise RequestError(f"{labels.place}: more than {MAX_NAMES} names; give --objects FILE")
    return sorted(objects), sorted(attributes)

"""What every reader of foreign features yields: one row an image, whole or with the reason why not.

A row that cannot be read is a value, not the end of the import: it becomes a decision.
"""

import binascii
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.regions import MAX_REGIONS, Regions

Array = npt.NDArray[Any]
MAX_SIDE = 1 << 20
UNKNOWN = -1
"""Object id of a region whose class the file does not tell; the import gives it a name."""


class RowError(Exception):
    """A row that cannot be taken; `reason` is the code for the decisions, `detail` says more."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class ImportedImage:
    """One image as a foreign file has it.

    regions carry features in float32 and, where the class is not told, object id UNKNOWN; a width
    of 0 stands for "not told"; notes go into the decision.
    """

    width: int
    height: int
    regions: Regions
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    phrases: tuple[tuple[tuple[float, float, float, float], str], ...] = ()
    image: bytes | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Row `number` (from 0) of a source, the image's id there ("" if unreadable), and its content.

    A line of a text file that holds a JSON list or nothing of use has the id "" too.
    """

    number: int
    image_id: str
    content: ImportedImage | RowError


class Source(Protocol):
    """A foreign file or folder of features that is open for reading.

    place is its name for messages; objects and attributes are the names by id.
    """

    place: str
    objects: list[str]
    attributes: list[str]

    def rows(self, first: int) -> Iterator[Row]:
        """Yield the rows from number `first` on."""


def array_of(data: str | bytes, name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return the array of `shape` in base64 text; RowError "bad-base64" or "wrong-count"."""
    raw = decode_base64(data, name)
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(raw) != expected:
        raise RowError("wrong-count", f"{name}: {len(raw)} bytes where {shape} takes {expected}")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def decode_base64(data: str | bytes, name: str) -> bytes:
    """Return the bytes in base64 text; RowError "bad-base64" for anything that is not strict."""
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except (ValueError, TypeError) as error:
        raise RowError("bad-base64", f"{name}: {error}") from error


def whole(value: Any, name: str, least: int, most: int) -> int:
    """Return a whole number from text or a number; RowError "bad-number" outside of the limits."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RowError("bad-number", f"{name}: {str(value)[:40]!r}") from error
    if not least <= number <= most:
        raise RowError("bad-number", f"{name}: {number} is not in {least}..{most}")
    return number


def count_of(value: Any) -> int:
    """Return the number of boxes of a row."""
    return whole(value, "num_boxes", 0, MAX_REGIONS)


def side_of(value: Any, name: str) -> int:
    """Return a side of an image in pixels."""
    return whole(value, name, 1, MAX_SIDE)


def regions_of(
    boxes: Array,
    features: Array,
    *,
    object_ids: Array | None = None,
    object_conf: Array | None = None,
    attribute_ids: Array | None = None,
    attribute_conf: Array | None = None,
    class_probs: Array | None = None,
) -> Regions:
    """Return regions from arrays that agree on their length; what is None is not known.

    Raises RowError "not-finite" for boxes, features or confidences that are no numbers,
    "bad-confidence" for one outside of 0..1, "bad-id" for an id that int16 does not hold.
    """
    count = len(boxes)
    confidences = {
        "object_conf": np.zeros(count) if object_conf is None else object_conf,
        "attribute_conf": np.zeros(count) if attribute_conf is None else attribute_conf,
        "class_probs": np.zeros(0) if class_probs is None else class_probs,
    }
    for name, array in {"boxes": boxes, "features": features, **confidences}.items():
        if not np.isfinite(array).all():
            raise RowError("not-finite", name)
    for name, array in confidences.items():
        if array.size and not (array.min() >= 0 and array.max() <= 1.001):
            raise RowError("bad-confidence", f"{name}: {array.min():g}..{array.max():g}")
    ids = {
        "object_ids": np.full(count, UNKNOWN) if object_ids is None else object_ids,
        "attribute_ids": np.full(count, -1) if attribute_ids is None else attribute_ids,
    }
    for name, array in ids.items():
        if array.size and not (array.min() >= -1 and array.max() < 1 << 15):
            raise RowError("bad-id", f"{name}: {array.min()}..{array.max()}")
    return Regions(
        boxes=np.asarray(boxes, np.float32),
        features=np.asarray(features, np.float32),
        object_ids=ids["object_ids"].astype(np.int16),
        attribute_ids=ids["attribute_ids"].astype(np.int16),
        object_conf=np.minimum(confidences["object_conf"], 1).astype(np.float16),
        attribute_conf=np.minimum(confidences["attribute_conf"], 1).astype(np.float16),
        class_probs=None if class_probs is None else np.minimum(class_probs, 1).astype(np.float16),
    )


def classes_from(probabilities: Array) -> tuple[Array, Array]:
    """Return the ids and confidences of the best class but the background, which comes first."""
    foreground = probabilities[:, 1:]
    if not foreground.size:
        return np.zeros(0, np.int16), np.zeros(0, np.float16)
    ids = foreground.argmax(axis=1)
    return ids, foreground[np.arange(len(ids)), ids]

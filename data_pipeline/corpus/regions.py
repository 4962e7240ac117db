"""The regions of one image as arrays, and their form on disk: one safetensors blob, no pickle.

The blob is written by hand, so that its bytes depend on nothing but the arrays (not on the version
of a library), and `safetensors.numpy.load` reads it. Arrays lie in the order of `FIELDS`, wide
elements first, so that each is aligned to its element size whenever the blob is aligned to 8 bytes.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trawl.errors import WorkError

Array = npt.NDArray[Any]

FIELDS = (
    "boxes",
    "class_probs",
    "scale",
    "object_ids",
    "attribute_ids",
    "object_conf",
    "attribute_conf",
    "features",
)
REQUIRED = tuple(name for name in FIELDS if name not in ("class_probs", "scale"))
MAX_REGIONS = 10_000
MAX_HEADER_BYTES = 64 << 10
_DTYPES: dict[str, npt.DTypeLike] = {"F32": "<f4", "F16": "<f2", "I16": "<i2", "I8": "<i1"}
_CODES = {np.dtype(value): code for code, value in _DTYPES.items()}
_STORED = {
    "boxes": ("F32",),
    "class_probs": ("F16",),
    "scale": ("F16",),
    "object_ids": ("I16",),
    "attribute_ids": ("I16",),
    "object_conf": ("F16",),
    "attribute_conf": ("F16",),
    "features": ("F16", "I8"),
}
_INT8_LIMIT = 127.0
_MADE_BY = "__metadata__"
"""Where safetensors keeps text beside the arrays."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The detected regions of one image, best first; R may be 0.

    boxes float32 [R, 4] in pixels x1 y1 x2 y2; features [R, F] float32 from a detector, float16 or
    int8 on disk; object_ids and attribute_ids int16 [R], indices into the names in the manifest
    (attribute -1: none); object_conf and attribute_conf float16 [R]; scale float16 [R] with int8
    features only (feature = scale * int8); class_probs float16 [R, classes] where kept.
    """

    boxes: Array  # [R, 4]
    features: Array  # [R, F]
    object_ids: Array  # [R]
    attribute_ids: Array  # [R]
    object_conf: Array  # [R]
    attribute_conf: Array  # [R]
    scale: Array | None = None  # [R]
    class_probs: Array | None = None  # [R, classes]

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.boxes)

    def part(self, chosen: slice | npt.NDArray[np.intp]) -> "Regions":
        """Return the `chosen` regions alone: views for a slice, copies for numbers."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        parts: dict[str, Any] = {
            name: None if array is None else array[chosen] for name, array in arrays.items()
        }
        return Regions(**parts)

    def float_features(self) -> npt.NDArray[np.float32]:
        """Return the features as a float32 copy [R, F], scaled where they are stored as int8."""
        features = self.features.astype(np.float32)
        if self.scale is not None:
            features *= self.scale.astype(np.float32)[:, None]
        return features

    def stored_as(self, form: str) -> "Regions":
        """Return these regions with features as "float16" or "int8" and all else as on disk.

        int8 keeps one float16 scale per region, its largest magnitude / 127: the error of an
        element is at most 0.51 scale. float16 is clipped to the finite range.
        """
        features = self.float_features()
        scale = None
        if form == "int8":
            scale = _scales(features)
            divisor = np.where(scale > 0, scale, 1).astype(np.float32)[:, None]
            features = np.clip(np.rint(features / divisor), -_INT8_LIMIT, _INT8_LIMIT)
        elif form != "float16":
            raise ValueError(f"features are stored as float16 or int8, not {form}")
        limit = float(np.finfo(np.float16).max)
        wanted = "<i1" if form == "int8" else "<f2"
        return replace(
            self,
            boxes=np.ascontiguousarray(self.boxes, dtype="<f4"),
            features=np.clip(features, -limit, limit).astype(wanted),
            object_ids=np.asarray(self.object_ids, dtype="<i2"),
            attribute_ids=np.asarray(self.attribute_ids, dtype="<i2"),
            object_conf=np.asarray(self.object_conf, dtype="<f2"),
            attribute_conf=np.asarray(self.attribute_conf, dtype="<f2"),
            scale=scale,
            class_probs=None
            if self.class_probs is None
            else np.asarray(self.class_probs, dtype="<f2"),
        )


def _scales(features: npt.NDArray[np.float32]) -> Array:
    """Return the float16 scale of each row, rounded up so that no element exceeds 127 scales."""
    peak = np.abs(features).max(axis=1, initial=0.0)  # [R]
    scale = (peak / _INT8_LIMIT).astype("<f2")
    too_small = scale.astype(np.float32) * _INT8_LIMIT < peak
    raised = np.nextafter(scale, np.float16(np.inf), dtype=np.float16)
    chosen = np.where(too_small, raised, scale)
    return np.minimum(chosen, np.finfo(np.float16).max).astype("<f2")


def encode(regions: Regions, made_by: Mapping[str, str] | None = None) -> bytes:
    """Return the blob of `regions`; WorkError if an array is not of the form that is stored.

    made_by: detector, selection and weights, kept in the blob, so that they go wherever it goes.
    """
    return assemble({name: getattr(regions, name) for name in FIELDS}, made_by)


def assemble(arrays: Mapping[str, Array | None], made_by: Mapping[str, str] | None = None) -> bytes:
    """Join arrays named as in `FIELDS` into a blob, after the same checks that reading makes."""
    header: dict[str, Any] = {} if not made_by else {_MADE_BY: dict(made_by)}
    pieces: list[bytes] = []
    offset = 0
    for name in FIELDS:
        array = arrays[name]
        if array is None:
            continue
        code = _CODES.get(array.dtype)
        if code not in _STORED[name]:
            raise WorkError(f"regions: {name} is {array.dtype}, stored is {_STORED[name]}")
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        pieces.append(data)
        offset += len(data)
    shapes = {name: tuple(header[name]["shape"]) for name in FIELDS if name in header}
    _check_shapes(shapes, header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(pieces)


@dataclass(frozen=True)
class Placement:
    """Where one array lies in a blob: dtype code, shape, first byte counted from the blob's."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    def view(self, blob: memoryview) -> Array:
        """Return the array as a read-only view of `blob`, without a copy."""
        count = math.prod(self.shape)
        flat = np.frombuffer(blob, dtype=_DTYPES[self.dtype], count=count, offset=self.offset)
        flat.flags.writeable = False
        return flat.reshape(self.shape)


def placements(blob: bytes | memoryview) -> dict[str, Placement]:
    """Read a blob's header and return where each array lies; WorkError on anything unexpected.

    Rejected: a header over 64 KiB, unknown or missing arrays, foreign dtypes, shapes that disagree,
    more than 10,000 regions, holes, overlaps, and data that ends early or late.
    """
    header, length = _header_of(blob)
    header.pop(_MADE_BY, None)
    shapes = {name: _shape_of(name, entry) for name, entry in header.items()}
    _check_shapes(shapes, header)
    _check_extents(shapes, header, len(blob) - 8 - length)
    return {
        name: Placement(header[name]["dtype"], shape, 8 + length + header[name]["data_offsets"][0])
        for name, shape in shapes.items()
    }


def made_by(blob: bytes | memoryview) -> dict[str, str]:
    """Return what the blob says of detector, selection and weights; nothing where it does not."""
    told = _header_of(blob)[0].get(_MADE_BY, {})
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise WorkError(f"regions: {_MADE_BY} is not a table of text")
    return told


def _header_of(blob: bytes | memoryview) -> tuple[dict[str, Any], int]:
    """Return the header and its bytes; WorkError if it is not one."""
    if len(blob) < 8:
        raise WorkError("regions: the blob is shorter than its length field")
    (length,) = struct.unpack("<Q", bytes(blob[:8]))
    if length > MAX_HEADER_BYTES or 8 + length > len(blob):
        raise WorkError(f"regions: a header of {length} bytes in a blob of {len(blob)}")
    try:
        header = json.loads(bytes(blob[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise WorkError(f"regions: the header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise WorkError("regions: the header is not an object")
    return header, length


def _shape_of(name: str, entry: Any) -> tuple[int, ...]:
    """Return the shape in one entry of a header after checking the entry's own form."""
    if name not in _STORED:
        raise WorkError(f"regions: unknown array {name!r}")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WorkError(f"regions: {name}: an entry has dtype, shape and data_offsets")
    if entry["dtype"] not in _STORED[name]:
        raise WorkError(f"regions: {name} is {entry['dtype']}, stored is {_STORED[name]}")
    for numbers in (entry["shape"], entry["data_offsets"]):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise WorkError(f"regions: {name}: shape and offsets are whole numbers")
    if len(entry["data_offsets"]) != 2:
        raise WorkError(f"regions: {name}: data_offsets has a first and a last byte")
    return tuple(entry["shape"])


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], header: Mapping[str, Any]) -> None:
    """Check that all arrays are there and agree on the number of regions."""
    missing = [name for name in REQUIRED if name not in shapes]
    if missing:
        raise WorkError(f"regions: no array {', '.join(missing)}")
    if ("scale" in shapes) != (header["features"]["dtype"] == "I8"):
        raise WorkError("regions: int8 features have a scale, float16 features have none")
    if len(shapes["boxes"]) != 2 or shapes["boxes"][1] != 4:
        raise WorkError(f"regions: boxes are [R, 4], not {shapes['boxes']}")
    count = shapes["boxes"][0]
    if count > MAX_REGIONS:
        raise WorkError(f"regions: {count} regions, the limit is {MAX_REGIONS}")
    for name, shape in shapes.items():
        dimensions = 2 if name in ("boxes", "features", "class_probs") else 1
        if len(shape) != dimensions or shape[0] != count:
            raise WorkError(f"regions: {name} is {shape} beside {count} boxes")


def _check_extents(
    shapes: Mapping[str, tuple[int, ...]], header: Mapping[str, Any], data_bytes: int
) -> None:
    """Check that the arrays fill the data without a hole or an overlap."""
    position = 0
    for name in sorted(shapes, key=lambda name: header[name]["data_offsets"]):
        first, last = header[name]["data_offsets"]
        size = np.dtype(_DTYPES[header[name]["dtype"]]).itemsize
        expected = size
        for dimension in shapes[name]:
            expected *= dimension
        if first != position or last - first != expected:
            raise WorkError(f"regions: {name} lies at {first}..{last}, expected {position}..")
        position = last
    if position != data_bytes:
        raise WorkError(f"regions: {data_bytes} bytes of data, the header speaks of {position}")


def decode(blob: bytes | memoryview) -> Regions:
    """Return the regions in a blob as read-only views of it; WorkError if it is not one of ours.

    Values are checked too: finite boxes, confidences and scales.
    """
    view = memoryview(blob)
    arrays = {name: place.view(view) for name, place in placements(view).items()}
    for name in ("boxes", "object_conf", "attribute_conf", "scale"):
        if name in arrays and not np.isfinite(arrays[name]).all():
            raise WorkError(f"regions: {name} holds a number that is not finite")
    return Regions(**{field.name: arrays.get(field.name) for field in fields(Regions)})  # type: ignore[arg-type]

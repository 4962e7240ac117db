"""The index beside a shard: where each member and each array inside the regions blobs lies.

Form of `NNNNN.index`: 8 bytes `TRAWLIDX`; the length of the header, uint64 little-endian; the
header, JSON padded with blanks so that the rows start at a multiple of 64:
`{"version": 1, "samples": N, "tar_bytes": B, "row": [[name, dtype], ...]}`; then N rows of
fixed size, in the order of the shard, made to be memory-mapped. All offsets count from the first
byte of the tar; an offset of 0 says that there is no such member or array.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.regions import FIELDS, Placement
from data_pipeline.corpus.schema import KEY_LENGTH
from trawl.errors import WorkError

MAGIC = b"TRAWLIDX"
VERSION = 1
_ALIGNMENT = 64
ROW = np.dtype(
    [
        ("key", f"S{KEY_LENGTH}"),
        ("json", "<u8"),
        ("json_size", "<u8"),
        ("image", "<u8"),
        ("image_size", "<u8"),
        ("image_type", "S8"),
        ("regions", "<u8"),
        ("regions_size", "<u8"),
        ("count", "<u4"),
        ("feature_size", "<u4"),
        ("classes", "<u4"),
        ("feature_bits", "<u4"),
        *[(f"{name}_at", "<u8") for name in FIELDS],
    ]
)
_DTYPES = {
    "boxes": "F32",
    "class_probs": "F16",
    "scale": "F16",
    "object_ids": "I16",
    "attribute_ids": "I16",
    "object_conf": "F16",
    "attribute_conf": "F16",
}


def row_of(
    key: str, members: Mapping[str, tuple[int, int]], arrays: Mapping[str, Placement]
) -> npt.NDArray[Any]:
    """Return one row: `members` gives offset and size by extension, `arrays` places in the blob."""
    row = np.zeros((), dtype=ROW)
    row["key"] = key.encode()
    for extension, (offset, size) in members.items():
        name = extension if extension in ("json", "regions") else "image"
        row[name], row[f"{name}_size"] = offset, size
        if name == "image":
            row["image_type"] = extension.encode()
    start = members["regions"][0]
    for name, place in arrays.items():
        row[f"{name}_at"] = start + place.offset
    row["count"], row["feature_size"] = arrays["features"].shape
    row["feature_bits"] = 8 if arrays["features"].dtype == "I8" else 16
    row["classes"] = arrays["class_probs"].shape[1] if "class_probs" in arrays else 0
    return row


def placements_in(row: Any) -> dict[str, Placement]:
    """Return where a row's arrays lie in the tar, without reading the blob's header."""
    count = int(row["count"])
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(FIELDS, (count,))
    shapes["boxes"] = (count, 4)
    shapes["features"] = (count, int(row["feature_size"]))
    shapes["class_probs"] = (count, int(row["classes"]))
    dtypes = {**_DTYPES, "features": "I8" if row["feature_bits"] == 8 else "F16"}
    return {
        name: Placement(dtypes[name], shapes[name], int(row[f"{name}_at"]))
        for name in FIELDS
        if row[f"{name}_at"]
    }


def to_bytes(rows: list[npt.NDArray[Any]], tar_bytes: int) -> bytes:
    """Return the bytes of an index file over `rows`, in the order of the shard."""
    header = {
        "version": VERSION,
        "samples": len(rows),
        "tar_bytes": tar_bytes,
        "row": [[name, str(ROW[name].str)] for name in ROW.names or ()],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 16) % _ALIGNMENT)
    table = np.array(rows, dtype=ROW) if rows else np.zeros(0, dtype=ROW)
    return MAGIC + struct.pack("<Q", len(text)) + text + table.tobytes()


def open_index(path: Path) -> npt.NDArray[Any]:
    """Memory-map the rows of an index file; WorkError if it is not one of this version."""
    with path.open("rb") as file:
        start = file.read(16)
        if start[:8] != MAGIC or len(start) < 16:
            raise WorkError(f"{path}: not an index of a shard")
        (length,) = struct.unpack("<Q", start[8:])
        if length > 1 << 20:
            raise WorkError(f"{path}: a header of {length} bytes")
        header = _header(path, file.read(length))
    samples = header["samples"]
    if path.stat().st_size != 16 + length + samples * ROW.itemsize:
        raise WorkError(f"{path}: {path.stat().st_size} bytes do not hold {samples} samples")
    if samples == 0:
        return np.zeros(0, dtype=ROW)
    return np.memmap(path, dtype=ROW, mode="r", offset=16 + length, shape=(samples,))


def keys_in(data: bytes, name: str) -> list[str]:
    """Return the keys in the bytes of an index file; WorkError if it is not one."""
    if data[:8] != MAGIC or len(data) < 16:
        raise WorkError(f"{name}: not an index of a shard")
    (length,) = struct.unpack("<Q", data[8:16])
    header = _header(Path(name), data[16 : 16 + length])
    if len(data) != 16 + length + header["samples"] * ROW.itemsize:
        raise WorkError(f"{name}: {len(data)} bytes do not hold {header['samples']} samples")
    return [key.decode() for key in np.frombuffer(data, ROW, offset=16 + length)["key"].tolist()]


def _header(path: Path, text: bytes) -> dict[str, Any]:
    """Read and check the JSON header of an index."""
    try:
        header = json.loads(text)
    except ValueError as error:
        raise WorkError(f"{path}: the header is not JSON ({error})") from error
    expected = [[name, str(ROW[name].str)] for name in ROW.names or ()]
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise WorkError(f"{path}: not version {VERSION} of the index")
    if header.get("row") != expected or type(header.get("samples")) is not int:
        raise WorkError(f"{path}: the rows have another form")
    if header["samples"] < 0:
        raise WorkError(f"{path}: a negative number of samples")
    return header

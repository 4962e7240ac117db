"""ViLBERT's LMDBs: features by image id for the tasks, and Conceptual Captions by tensorpack.

Task form: `keys` is a pickled list, each value a pickled row of the bottom-up attention TSV, arrays
in base64 (beta) or as arrays (multi-task). Tensorpack's form: `__keys__`, each value the list
[features, cls_prob, boxes, num_boxes, h, w, image_id, caption], pickled or in msgpack. Pickles are
read by a reader that knows numpy arrays and plain containers and refuses everything else.
"""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.detector.restricted_pickle import load_arrays
from data_pipeline.exchange.lxmert_tsv import matrix_of
from data_pipeline.exchange.rows import (
    Array,
    ImportedImage,
    Row,
    RowError,
    array_of,
    classes_from,
    count_of,
    regions_of,
    side_of,
)
from data_pipeline.exchange.vocabulary import (
    ATTRIBUTES_FILE,
    OBJECTS_FILE,
    numbered,
    read_names,
)
from trawl.errors import RequestError

TASK_KEYS, TENSORPACK_KEYS = b"keys", b"__keys__"
_FIELDS = (
    "features",
    "cls_prob",
    "boxes",
    "num_boxes",
    "image_h",
    "image_w",
    "image_id",
    "caption",
)
_OBJECTS, _ATTRIBUTES = 1600, 400
_NUMBERS = "fiub"
# What a damaged or hostile pickle may raise; none of it may end the import.
_UNPICKLING = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class VilbertLmdb:
    """An LMDB of either form that is open for import."""

    def __init__(
        self, place: str, objects: str | None = None, attributes: str | None = None
    ) -> None:
        path = Path(place)
        if not path.exists():
            raise RequestError(f"{place}: no such LMDB")
        self.place = place
        folder = str(path if path.is_dir() else path.parent)
        self.objects = read_names(objects, folder, OBJECTS_FILE) or numbered("object", _OBJECTS)
        self.attributes = read_names(attributes, folder, ATTRIBUTES_FILE) or numbered(
            "attribute", _ATTRIBUTES
        )
        self._lmdb = import_lmdb(place)
        self._environment = self._open(path)
        self._keys = self._read_keys()

    def _open(self, path: Path) -> Any:
        try:
            return self._lmdb.open(
                str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
            )
        except self._lmdb.Error as error:
            raise RequestError(f"{self.place}: not an LMDB ({error})") from error

    def _read_keys(self) -> list[bytes]:
        """Return the keys of the rows, in the order in which the LMDB lists them."""
        with self._environment.begin() as transaction:
            listed = transaction.get(TENSORPACK_KEYS) or transaction.get(TASK_KEYS)
        if listed is None:
            raise RequestError(f"{self.place}: neither `keys` nor `__keys__` in it")
        try:
            keys = unpack(bytes(listed))
        except RowError as error:
            raise RequestError(f"{self.place}: its list of keys: {error}") from error
        if not isinstance(keys, list) or not all(isinstance(key, bytes | str) for key in keys):
            raise RequestError(f"{self.place}: its list of keys is no list of names")
        return [key.encode() if isinstance(key, str) else key for key in keys]

    def rows(self, first: int = 0) -> Iterator[Row]:
        """Yield the rows from number `first` on."""
        for number in range(first, len(self._keys)):
            key = self._keys[number]
            name = key.decode(errors="replace")
            try:
                with self._environment.begin(buffers=True) as transaction:
                    yield _row(number, name, transaction.get(key))
            except self._lmdb.Error as error:
                yield Row(number, name, RowError("truncated", str(error)[:200]))


def import_lmdb(place: str) -> Any:
    """Return the module `lmdb`; RequestError with the command that installs it."""
    try:
        import lmdb
    except ImportError as error:
        raise RequestError(f"{place}: reading an LMDB needs: pip install lmdb") from error
    return lmdb


def _row(number: int, key: str, data: memoryview | None) -> Row:
    """Return the row under one key."""
    if data is None:
        return Row(number, key, RowError("missing-row", "the list of keys names it"))
    try:
        content = unpack(bytes(data))
        if isinstance(content, list | tuple) and len(content) == len(_FIELDS):
            content = dict(zip(_FIELDS, content, strict=True))
        if not isinstance(content, dict):
            raise RowError("wrong-columns", f"a {type(content).__name__} where a row was expected")
        return Row(number, str(content.get("image_id", key)), _image(content))
    except RowError as error:
        return Row(number, key, error)


def unpack(data: bytes) -> Any:
    """Return what a pickle or a msgpack of arrays holds; RowError "bad-pickle" or "bad-msgpack"."""
    first = data[0] if data else 0
    if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        return _unpack_msgpack(data)
    try:
        return load_arrays(io.BytesIO(data))
    except _UNPICKLING as error:
        raise RowError("bad-pickle", f"{type(error).__name__} {error}"[:200]) from error


def _unpack_msgpack(data: bytes) -> Any:
    """Return a list of tensorpack's older form, in which msgpack-numpy wrote the arrays."""
    try:
        import msgpack
    except ImportError as error:
        raise RequestError("tensorpack's msgpack form needs: pip install msgpack") from error
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, object_hook=_array_in)
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise RowError("bad-msgpack", f"{type(error).__name__} {error}"[:200]) from error


def _array_in(content: dict[Any, Any]) -> Any:
    """Return the array or number that msgpack-numpy wrote as a mapping; other mappings stay."""
    if b"nd" not in content:
        return content
    kind = content[b"type"]
    dtype = np.dtype(kind if isinstance(kind, str) else bytes(kind).decode())
    if dtype.kind not in _NUMBERS or content.get(b"kind"):
        raise ValueError(f"an array of {dtype}")
    flat = np.frombuffer(content[b"data"], dtype)
    return flat.reshape(content[b"shape"]) if content[b"nd"] else flat[0]


def _image(content: dict[str, Any]) -> ImportedImage:
    """Return the image in a row of either form."""
    missing = [name for name in _FIELDS if name not in ("cls_prob", "caption", "image_id")]
    missing = [name for name in missing if name not in content]
    if missing:
        raise RowError("wrong-columns", f"no {', '.join(missing)}")
    count = count_of(content["num_boxes"])
    known: dict[str, Any] = {}
    if content.get("cls_prob") is not None:
        probabilities = _matrix(content["cls_prob"], "cls_prob", count)
        known["object_ids"], known["object_conf"] = classes_from(probabilities)
        known["class_probs"] = probabilities
    boxes = _matrix(content["boxes"], "boxes", count)
    if count and boxes.shape[1] < 4:
        raise RowError("wrong-count", f"boxes: {boxes.shape[1]} numbers a box")
    caption = content.get("caption")
    return ImportedImage(
        side_of(content["image_w"], "image_w"),
        side_of(content["image_h"], "image_h"),
        regions_of(
            boxes[:, :4] if count else np.zeros((0, 4), np.float32),
            _matrix(content["features"], "features", count),
            **known,
        ),
        captions=(" ".join(caption.split()),)
        if isinstance(caption, str) and caption.strip()
        else (),
    )


def _matrix(value: Any, name: str, count: int) -> Array:
    """Return float32 [count, n] from an array, padded rows cut off, or from base64."""
    if isinstance(value, str | bytes):
        if name == "boxes":
            return array_of(value, name, "<f4", (count, 4))
        return matrix_of(value, name, count)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in _NUMBERS:
        raise RowError("wrong-columns", f"{name} is a {type(value).__name__}, not numbers")
    if value.ndim != 2 or len(value) < count:
        raise RowError("wrong-count", f"{name}: {value.shape} where {count} boxes are told")
    return value[:count].astype(np.float32)

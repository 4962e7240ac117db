"""Weights files of others, read without running anything that they say.

A pickle is a program; the published weights are pickles. Here its words are limited to what makes
numpy arrays and plain containers; torch's own files are read by torch's restricted reader with
the same words. Everything else is refused by name.
"""

from __future__ import annotations

import collections
import importlib
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from trawl.errors import RequestError

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_RENAMED = dict([_MULTIARRAY, _NUMERIC])
"""Modules of numpy by their names before version 2."""

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    *((module, name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")),
    *((module, "_frombuffer") for module in _NUMERIC),
}
_NUMBERS = "fiub"

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""The number that files of torch.save begin with where they are not archives."""


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler whose only words are numpy arrays and ordered dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function that a pickle asks for, if it is one of ours."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(_RENAMED.get(module, module), name)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to things outside of the file."""
        raise pickle.UnpicklingError("it refers to storage outside of itself")


def load_arrays(file: BinaryIO) -> Any:
    """Read a pickle of numpy arrays in plain containers; UnpicklingError names what else it is."""
    return _ArrayUnpickler(file, encoding="latin1").load()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pkl, .pth or .bin file by name, those under "model" if there is one.

    RequestError where the file is missing, holds anything but numbers by name, or asks for code.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file; give --weights a file of yours")
    try:
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
            file.seek(0)
            content = None if archive else load_arrays(file)
        if archive or (isinstance(content, int) and content == _TORCH_MAGIC):
            content = _read_torch(path)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, KeyError) as bad:
        raise RequestError(f"{path}: not a file of plain tensors: {_reason(bad)}") from bad
    except (AttributeError, ImportError, IndexError, MemoryError, OSError) as bad:
        raise RequestError(f"{path}: cannot be read: {_reason(bad)}") from bad
    return _named_tensors(path, content)


def _reason(error: Exception) -> str:
    """What is wrong, in a few words; torch's advice to trust the file is left out."""
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked:
        return f"it asks for {asked[1]}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _read_torch(path: Path) -> Any:
    """Read a file of torch.save with torch's restricted reader, numpy arrays allowed."""
    words: list[Any] = [np.ndarray, np.dtype, collections.OrderedDict]
    words += [type(np.dtype(code)) for code in ("f4", "f8", "f2", "i8", "i4", "u1", "?")]
    for module, name in _ALLOWED:
        if module in (*_MULTIARRAY, *_NUMERIC):
            word = getattr(importlib.import_module(_RENAMED.get(module, module)), name)
            words.append((word, f"{module}.{name}"))
    with torch.serialization.safe_globals(words):
        return torch.load(path, map_location="cpu", weights_only=True)


def _named_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """Take the tensors out of what was read; RequestError for anything that is not numbers."""
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise RequestError(f"{path}: holds {type(content).__name__}, not tensors by name")
    tensors: dict[str, Tensor] = {}
    wrong = []
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[name] = value.detach()
        elif isinstance(name, str) and isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            if array.dtype.kind not in _NUMBERS:
                wrong.append(f"{name} is an array of {array.dtype}")
                continue
            tensors[name] = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
        else:
            wrong.append(f"{name} is {type(value).__name__}")
    if wrong:
        raise RequestError(f"{path}: not a file of plain tensors: {'; '.join(sorted(wrong)[:20])}")
    return tensors

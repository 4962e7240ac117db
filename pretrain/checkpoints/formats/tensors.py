"""Reading and writing files of tensors that other programs made: torch's pickles and safetensors.

A pickle can run any code, so torch's files are read with its restricted reader, which knows tensors
and plain values alone. A file of either kind that is cut off, damaged or hostile ends in one line.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trawl import storage
from trawl.errors import RequestError

SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class TensorFile:
    """What a file of tensors holds."""

    tensors: dict[str, Tensor]
    """In the order of the file; tensors that share memory there share it here."""
    rest: dict[str, Any] = field(default_factory=dict)
    """What lies beside the tensors, where the file wraps them."""
    wrapped: bool = False
    """The tensors are one value of the file's mapping."""


def read(path: Path, wrapped_in: str | None = None, unsafe_pickle: bool = False) -> TensorFile:
    """Return the tensors in the file at `path`, all on the processor.

    wrapped_in: key of the file's mapping under which the tensors lie, if it has that key.
    unsafe_pickle: let a pickle build whatever it names, which may run code. Raises RequestError.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    if path.suffix == SAFETENSORS:
        return TensorFile(_read_safetensors(path))
    content = _read_pickle(path, unsafe_pickle)
    if not isinstance(content, Mapping):
        raise RequestError(f"{path}: holds a {type(content).__name__}, not a mapping of tensors")
    rest: dict[str, Any] = {}
    wrapped = wrapped_in is not None and isinstance(content.get(wrapped_in), Mapping)
    if wrapped:
        rest = {str(key): value for key, value in content.items() if key != wrapped_in}
        content = content[wrapped_in]
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise RequestError(f"{path}: {key!r} is a {type(value).__name__}, not a tensor")
        if not _is_plain(value):
            raise RequestError(f"{path}: {key} is not a plain dense tensor")
    return TensorFile({key: value.detach() for key, value in content.items()}, rest, wrapped)


def _is_plain(value: Tensor) -> bool:
    """Say whether `value` is dense and has memory for each element: no small file is a huge one."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RequestError(f"{path}: damaged or no safetensors ({_first_line(error)})") from error


def _read_pickle(path: Path, unsafe: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not unsafe)
    # A damaged pickle can raise anything: each of its bytes is an instruction.
    except Exception as error:
        if foreign := re.search(r"GLOBAL `?([\w.]+)", str(error)):
            raise RequestError(
                f"{path}: wants to build {foreign[1]}, which a file of tensors does not need and "
                "which may run code; if you trust its maker, add --unsafe-pickle"
            ) from error
        raise RequestError(f"{path}: damaged or no torch file ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    """Return the kind of `error` with the first sentence of its message."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text[:160]


def aliases(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for each key whose tensor is an earlier key's memory seen alike, that key."""
    first: dict[tuple[Any, ...], str] = {}
    found = {}
    for key, tensor in tensors.items():
        if tensor.numel() == 0:
            continue
        view = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if view in first:
            found[key] = first[view]
        else:
            first[view] = key
    return found


def write_torch(
    path: Path, tensors: Mapping[str, Tensor], wrapped_in: str | None, rest: Mapping[str, Any]
) -> None:
    """Write `tensors` as the original programs do: a mapping, or one within a mapping.

    Unwrapped files are in torch's format of before 1.6, since Oscar, ViLBERT and LXMERT ask for
    versions of torch that read no other; every later version reads it as well.
    """
    ordered = OrderedDict(tensors)
    with storage.open_atomic(path) as file:
        if wrapped_in is None:
            torch.save(ordered, file, _use_new_zipfile_serialization=False)
        else:
            torch.save({wrapped_in: ordered, **rest}, file)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` to a safetensors file, each memory once, under its first key."""
    from safetensors.torch import save

    double = aliases(tensors)
    whole = {key: value.contiguous() for key, value in tensors.items() if key not in double}
    storage.write_bytes(path, save(whole, metadata={"format": "pt"}))

"""What an imported folder remembers of the original, so that an export gives it back bit for bit.

`origin.json` lists the original's tensors in their order and spelling; `extra.safetensors` holds
those that our model has no use for, and those that float32 cannot hold.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.checkpoints.formats import tensors as files
from trawl import storage
from trawl.errors import RequestError, WorkError

NAME = "origin.json"
EXTRA = "extra.safetensors"
_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One tensor of the original."""

    key: str
    """Its key, as spelled there."""
    dtype: str
    shape: list[int]
    name: str | None = None
    """Our name, if our model has it."""
    alias: str | None = None
    """The earlier key that is the same memory."""
    kept: bool = False
    """Lies in extra.safetensors, under its key."""
    swapped: bool = False
    """The rows of the first two classes change places between there and here."""


@dataclass(frozen=True)
class Origin:
    """An original checkpoint without the values of its tensors."""

    format: str
    file: str
    """Name of its file of tensors."""
    sha256: str
    """Hash of that file."""
    entries: list[Entry]
    config: dict[str, Any]
    rest: dict[str, Any]
    """What lies beside the tensors in their file."""
    wrapped: bool
    """The tensors are one value of the file's mapping."""

    def write(self, folder: Path, kept: Mapping[str, Tensor]) -> None:
        """Write what is remembered, and the tensors `kept` by key, into the imported `folder`."""
        storage.write_json(folder / NAME, {"version": _VERSION, **asdict(self)})
        if kept:
            # A memory of their own each: safetensors stores none twice.
            files.write_safetensors(folder / EXTRA, {key: t.clone() for key, t in kept.items()})


def read(folder: Path) -> tuple[Origin, dict[str, Tensor]] | None:
    """Return what `folder` remembers of an original, with the tensors kept, or None if nothing."""
    path = folder / NAME
    if not path.is_file():
        return None
    content = storage.read_json(path)
    try:
        if content.pop("version") != _VERSION:
            raise RequestError(f"{path}: of another version of Trawl; import the checkpoint again")
        entries = [Entry(**entry) for entry in content.pop("entries")]
        origin = Origin(entries=entries, **content)
    except (AttributeError, KeyError, TypeError) as error:
        raise WorkError(f"{path}: damaged ({error}); import the checkpoint again") from error
    extra = folder / EXTRA
    return origin, files.read(extra).tensors if extra.is_file() else {}


def swap_rows(tensor: Tensor) -> Tensor:
    """Return `tensor` with its first two rows in each other's place; the same again undoes it."""
    swapped = tensor.clone()
    swapped[:2] = tensor[:2].flip(0)
    return swapped


def dtype_name(tensor: Tensor) -> str:
    """Return the name of the number format of `tensor`."""
    return str(tensor.dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """Return the number format called `name`; WorkError if there is none."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise WorkError(f"{NAME}: no number format {name}; import the checkpoint again")
    return found

"""The files of an original checkpoint: found, read, and written."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.checkpoints.formats import tensors as files
from pretrain.checkpoints.formats.format import Format
from trawl import storage
from trawl.errors import RequestError

_TOKENIZERS = ("tokenizer.json", "vocab.txt")


@dataclass(frozen=True)
class Original:
    """A checkpoint as its makers wrote it."""

    path: Path
    """The file of tensors."""
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    """What its configuration file says; empty if there is none."""
    rest: dict[str, Any]
    """What lies beside the tensors in their file."""
    wrapped: bool
    """The tensors are one value of the file's mapping."""
    tokenizer: Path | None
    """The folder of its tokenizer, if it has one."""


def read(source: Path, form: Format, unsafe_pickle: bool = False) -> Original:
    """Read the checkpoint in the file or folder `source`; RequestError if it is not one."""
    path = _find(source, form)
    content = files.read(path, form.wrapped_in, unsafe_pickle)
    folder = path.parent
    beside = path.with_suffix(".json")
    config = beside if beside.is_file() else folder / "config.json"
    said = _read_config(config) if config.is_file() else {}
    if form.wrapped_in and isinstance(content.rest.get("config"), dict):
        said = content.rest["config"]
    tokenized = any((folder / name).is_file() for name in _TOKENIZERS)
    return Original(
        path=path,
        tensors=content.tensors,
        config=said,
        rest=content.rest,
        wrapped=content.wrapped,
        tokenizer=folder if tokenized else None,
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = storage.read_json(path)
    if not isinstance(config, dict):
        raise RequestError(f"{path}: a configuration is a mapping of keys to values")
    return config


def _find(source: Path, form: Format) -> Path:
    """Return the file of tensors at `source`, itself or the one of the format's files in it."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise RequestError(f"{source}: no such file or folder")
    for pattern in form.files:
        found = sorted(path for path in source.glob(pattern) if path.is_file())
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise RequestError(f"{source}: holds {names}; name the one to import")
        if found:
            return found[0]
    raise RequestError(
        f"{source}: no file {' or '.join(form.files)} lies there; name the file of tensors"
    )


def place(target: Path, form: Format, name: str | None = None) -> Path:
    """Return where the file of tensors of a checkpoint exported to `target` goes.

    `target` is a folder, or for a format of one file that file. RequestError if something is there.
    """
    path = target
    if form.whole_folder or not target.suffix:
        path = target / (Path(name).name if name else form.files[0])
        refuse_filled(target)
    if path.exists():
        raise RequestError(f"{path}: exists; name a new file")
    return path


def write(
    path: Path,
    form: Format,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    rest: Mapping[str, Any],
    vocabulary: list[str] | None,
) -> list[Path]:
    """Write an original checkpoint whose file of tensors is `path`; return all that was written."""
    written = [path]
    path.parent.mkdir(parents=True, exist_ok=True)
    if form.whole_folder:
        written.append(path.with_name("config.json"))
        if vocabulary is not None:
            written.append(path.with_name("vocab.txt"))
            storage.write_text(written[-1], "".join(f"{word}\n" for word in vocabulary))
    elif form.wrapped_in is None:
        written.append(path.with_suffix(".json"))
    if len(written) > 1:
        storage.write_text(written[1], json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    if path.suffix == files.SAFETENSORS:
        files.write_safetensors(path, tensors)
    else:
        files.write_torch(path, tensors, form.wrapped_in, rest)
    return written


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Make the folder `target`: whole when the block ends well, not at all if it raises.

    Gives the folder to fill, which lies beside it meanwhile. RequestError if something is there.
    """
    refuse_filled(target)
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if target.exists():
            target.rmdir()
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def refuse_filled(target: Path) -> None:
    """Raise RequestError if something lies at `target`, or in it."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RequestError(f"{target}: is not empty; name a new folder")

"""Manifests: which files belong to a folder, with their checksums, and a checksum of its own.

A manifest is canonical JSON (sorted keys) whose key `sha256` is the hash of the rest, so a flipped
byte anywhere, in the manifest itself too, is found.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from trawl import storage
from trawl.errors import RequestError, WorkError

NAME = "manifest.json"
_MAX_BYTES = 64 << 20

Files = dict[str, dict[str, Any]]
"""For each file, by its path in the folder: `bytes` and `sha256`."""


def text(manifest: dict[str, Any]) -> str:
    """Return the one way in which `manifest` is written."""
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Return `content` with the key `sha256` that names it."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return {**rest, "sha256": hashlib.sha256(text(rest).encode()).hexdigest()}


def describe(folder: Path, names: Iterable[str]) -> Files:
    """Return size and hash of the files `names` in `folder`."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": storage.sha256_of(folder / name)}
        for name in sorted(names)
    }


def read(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of the folder at the URI `folder`.

    Raises RequestError if there is none, WorkError if it is not what was written.
    """
    uri = storage.join(folder, NAME)
    if not storage.exists(uri):
        raise RequestError(f"{uri}: no such file; a checkpoint without a manifest is not complete")
    if storage.size(uri) > _MAX_BYTES:
        raise WorkError(f"{uri}: too large for a manifest")
    raw = storage.read_bytes(uri)
    try:
        content = json.loads(raw)
        whole = isinstance(content, dict) and text(seal(content)).encode() == raw
    except ValueError:
        whole = False
    if not whole:
        raise WorkError(f"{uri}: damaged, its checksum does not fit; fetch the checkpoint again")
    _check_names(uri, content)
    return content


def _check_names(uri: str, content: dict[str, Any]) -> None:
    """Raise WorkError unless `files` holds plain relative paths with sizes and hashes."""
    files = content.get("files")
    if not isinstance(files, dict):
        raise WorkError(f"{uri}: key files is missing")
    for name, entry in files.items():
        path = PurePosixPath(name)
        plain = name == str(path) and not path.is_absolute() and ".." not in path.parts
        known = isinstance(entry, dict) and isinstance(entry.get("bytes"), int)
        if not (plain and known and "\\" not in name and isinstance(entry.get("sha256"), str)):
            raise WorkError(f"{uri}: key files.{name} is not a file of this folder")


def check_file(uri: str, name: str, entry: dict[str, Any]) -> str | None:
    """Return what is wrong with the file at `uri`, called `name`, or None."""
    if not storage.exists(uri):
        return f"{name} is missing"
    size = storage.size(uri)
    if size != entry["bytes"]:
        return f"{name} has {size} bytes, not {entry['bytes']}"
    if storage.sha256_of(uri) != entry["sha256"]:
        return f"{name} is damaged: its SHA-256 is not the manifest's"
    return None


def check(folder: str | Path, manifest: dict[str, Any], also: tuple[str, ...] = ()) -> str | None:
    """Return the first thing that is wrong with the folder at the URI `folder`, or None.

    Missing, damaged and unknown files are wrong; `also` names files that may lie there besides.
    """
    files: Files = manifest["files"]
    prefix = storage.join(folder, "")
    present = {uri.removeprefix(prefix) for uri in storage.list_files(folder)}
    unknown = sorted(present - set(files) - {NAME, *also})
    if unknown:
        return f"{unknown[0]} is no file of this checkpoint"
    for name in sorted(files):
        if problem := check_file(storage.join(folder, name), name, files[name]):
            return problem
    return None

"""Publishing: a finished stage becomes an immutable release, its manifest written last."""

import os
import shutil
from pathlib import Path
from typing import Any

from pretrain.checkpoints import manifest
from trawl import storage
from trawl.errors import RequestError, WorkError

FORMAT = "trawl-release"


def seal_release(folder: Path, lineage: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest over all files in `folder`, once they are on the disk, and return it."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in names:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    content = {"format": FORMAT, "version": 1, **lineage, "files": manifest.describe(folder, names)}
    sealed = manifest.seal(content)
    storage.write_text(folder / manifest.NAME, manifest.text(sealed))
    return sealed


def publish(source: str | Path, target: str) -> dict[str, Any]:
    """Copy the release at the URI `source` to the URI `target` and return its manifest.

    The manifest goes last, so a release is whole once it has one. The same release again is no
    change. Raises RequestError if another lies there, WorkError if a file of the source is damaged.
    """
    content = manifest.read(source)
    if content["format"] != FORMAT:
        raise RequestError(f"{source}: a {content['format']}, not a release; name RUN/stages/STAGE")
    if storage.exists(storage.join(target, manifest.NAME)):
        there = manifest.read(target)
        if there["sha256"] != content["sha256"]:
            raise RequestError(
                f"{target}: holds another release ({there['sha256'][:12]}), and releases do not "
                "change; publish to another place"
            )
        return content
    if problem := manifest.check(source, content):
        raise WorkError(f"{source}: {problem}")
    for name, entry in content["files"].items():
        copy_file(storage.join(source, name), storage.join(target, name), name, entry)
    text = manifest.text(content).encode()
    uri = storage.join(target, manifest.NAME)
    if not storage.create_exclusive(uri, text) and storage.read_bytes(uri) != text:
        raise RequestError(f"{target}: another release was published there at the same time")
    return content


def copy_file(source: str, target: str, name: str, entry: dict[str, Any]) -> None:
    """Copy one file of a release unless it is there already; WorkError if it arrives damaged."""
    if storage.exists(target) and manifest.check_file(target, name, entry) is None:
        return
    with storage.open_read(source) as reading, storage.open_atomic(target) as writing:
        shutil.copyfileobj(reading, writing, 8 << 20)
    if problem := manifest.check_file(target, name, entry):
        storage.remove(target)
        raise WorkError(f"{source}: {problem}")

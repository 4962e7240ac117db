"""Pulling and verifying a release: every file against its checksum, or not at all."""

import shutil
from pathlib import Path
from typing import Any

from pretrain.checkpoints import manifest
from pretrain.checkpoints.fetch import fetch
from pretrain.checkpoints.shelf import resolve
from trawl import progress, storage
from trawl.errors import RequestError, WorkError


def verify(uri: str) -> dict[str, Any]:
    """Check every file of the release or checkpoint at `uri` and return its manifest.

    `uri` may be a shelf of releases: see shelf.resolve. Raises WorkError that names the first file
    that is damaged, missing or unknown.
    """
    uri = resolve(uri)
    content = manifest.read(uri)
    also = ("COMPLETE",) if content["format"] == "trawl-checkpoint" else ()
    if problem := manifest.check(uri, content, also):
        raise WorkError(f"{uri}: {problem}; fetch it again from where it was published")
    return content


def pull(source: str, target: Path) -> dict[str, Any]:
    """Copy the release at the URI `source` to the local folder `target` and return its manifest.

    The files gather in a folder beside it, which is renamed when all are verified; the pieces that
    an earlier pull has fetched are kept. Raises WorkError that names a damaged, missing or unknown
    file, RequestError if something else lies at `target`.
    """
    source = resolve(source)
    content = manifest.read(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        return _already(target, content, source)
    _refuse_unknown(source, content)
    aside = target.with_name(f".{target.name}.pull-{content['sha256'][:16]}")
    aside.mkdir(parents=True, exist_ok=True)
    files: manifest.Files = content["files"]
    with progress.leg(f"pull {target.name}", len(files)) as leg:
        fetch(source, aside, files, leg.advance)
    storage.write_text(aside / manifest.NAME, manifest.text(content))
    if problem := manifest.check(aside, content):
        shutil.rmtree(aside)
        raise WorkError(f"{source}: {problem}")
    if target.exists():
        target.rmdir()
    aside.replace(target)
    return content


def _already(target: Path, content: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the manifest if `target` holds exactly this release; RequestError if it does not."""
    if (target / manifest.NAME).exists():
        there = manifest.read(target)
        if there["sha256"] == content["sha256"]:
            return verify(str(target))
    raise RequestError(f"{target}: something else than {source} lies there; pull to another folder")


def _refuse_unknown(source: str, content: dict[str, Any]) -> None:
    """Raise WorkError for a file at `source` that the manifest does not know."""
    prefix = storage.join(source, "")
    present = {uri.removeprefix(prefix) for uri in storage.list_files(source)}
    if unknown := sorted(present - set(content["files"]) - {manifest.NAME}):
        raise WorkError(f"{source}: {unknown[0]} is no file of this release")

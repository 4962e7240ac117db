"""Listing and showing the releases and checkpoints below a place."""

from dataclasses import dataclass, replace
from typing import Any

from pretrain.checkpoints import manifest
from pretrain.checkpoints.shelf import pointers, resolve
from trawl import storage
from trawl.errors import TrawlError


@dataclass(frozen=True)
class Entry:
    """One release or checkpoint, or what is wrong with it."""

    uri: str
    kind: str
    stage: str
    step: int
    bytes: int
    sha256: str
    number: str = ""
    """Its number on its shelf, with a star if it is the newest there."""


def entries(uri: str) -> list[Entry]:
    """Return the releases and checkpoints at and below `uri`, by place."""
    found = []
    numbers: dict[str, dict[str, str]] = {}
    for path in storage.list_files(uri):
        folder, _, name = path.rpartition("/")
        if name != manifest.NAME:
            continue
        try:
            content = manifest.read(folder)
        except TrawlError as error:
            found.append(Entry(folder, f"damaged ({error})", "", 0, 0, ""))
            continue
        if content.get("format") in ("trawl-release", "trawl-checkpoint"):
            entry = _entry(folder, content)
            shelf = folder.rpartition("/")[0]
            if shelf not in numbers:
                numbers[shelf] = _numbers(shelf)
            found.append(replace(entry, number=numbers[shelf].get(entry.sha256, "")))
    return found


def _numbers(shelf: str) -> dict[str, str]:
    """Return how the releases of a shelf are numbered, by their hashes."""
    there = pointers(shelf)
    return {
        pointer.sha256: f"{pointer.number}{'*' if pointer is there[-1] else ''}"
        for pointer in there
    }


def _entry(folder: str, content: dict[str, Any]) -> Entry:
    return Entry(
        uri=folder,
        kind=str(content["format"]).removeprefix("trawl-"),
        stage=str(content["stage"]),
        step=int(content["step"]),
        bytes=sum(file["bytes"] for file in content["files"].values()),
        sha256=str(content["sha256"]),
    )


def description(uri: str) -> str:
    """Return what the manifest of the release or checkpoint at `uri` says, in lines."""
    uri = resolve(uri)
    content = manifest.read(uri)
    entry = _entry(uri, content)
    lines = [
        f"{entry.kind}   {content.get('name', '')} stage {entry.stage}, step {entry.step}",
        f"manifest  {entry.sha256}",
        f"recipe    {content['recipe_sha256']}",
    ]
    if parent := content.get("parent"):
        lines.append(f"parent    {parent['name']}  {parent['manifest_sha256']}")
    for corpus in content["corpora"]:
        share = f"weight {corpus['weight']:g}"
        lines.append(f"corpus    {corpus['uri']}  {share}  {corpus['manifest_sha256']}")
    if "code" in content:
        lines.append(f"code      {content['code']}")
    for name, file in sorted(content["files"].items()):
        lines.append(f"file      {name}  {file['bytes']:,} bytes  {file['sha256'][:12]}")
    return "\n".join(lines)

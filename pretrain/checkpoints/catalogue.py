"""Listing and showing the releases and checkpoints below a place."""

from dataclasses import dataclass
from typing import Any

from pretrain.checkpoints import manifest
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


def entries(uri: str) -> list[Entry]:
    """Return the releases and checkpoints at and below `uri`, by place."""
    found = []
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
            found.append(_entry(folder, content))
    return found


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

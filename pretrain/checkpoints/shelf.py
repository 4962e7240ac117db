"""A shelf of releases: each lies under the hash of its manifest, and pointers number them.

    SHELF/HASH/...               a release, which never changes
    SHELF/latest/00000001.json   the first that was published here, and so on

A pointer is created on the condition that there is none of its number, which every S3 server
keeps, and never rewritten: `latest` is the highest number, so it moves forward only, and two
publishers at a time take two numbers.
"""

import json
from dataclasses import dataclass
from typing import Any

from pretrain.checkpoints import manifest
from pretrain.checkpoints.publish import publish
from trawl import storage
from trawl.errors import RequestError, WorkError

POINTERS = "latest"


@dataclass(frozen=True)
class Pointer:
    """The release that was published as the `number`-th of a shelf."""

    number: int
    sha256: str


def address(sha256: str) -> str:
    """Return the name of the folder of the release whose manifest has this hash."""
    return sha256[:32]


def put(source: str, shelf: str) -> tuple[dict[str, Any], Pointer]:
    """Publish the release at the URI `source` on `shelf`; return its manifest and its pointer.

    A release that lies there already keeps its number, and `latest` stays where it is.
    """
    if storage.exists(storage.join(shelf, manifest.NAME)):
        raise RequestError(f"{shelf}: is itself a release; publish to a folder for releases")
    content = manifest.read(source)
    publish(source, storage.join(shelf, address(content["sha256"])))
    return content, _point(shelf, content["sha256"])


def _point(shelf: str, sha256: str) -> Pointer:
    while True:
        there = pointers(shelf)
        for pointer in there:
            if pointer.sha256 == sha256:
                return pointer
        number = there[-1].number + 1 if there else 1
        text = json.dumps({"number": number, "manifest_sha256": sha256}) + "\n"
        if storage.create_exclusive(_place(shelf, number), text.encode()):
            return Pointer(number, sha256)


def _place(shelf: str, number: int) -> str:
    return storage.join(shelf, POINTERS, f"{number:08d}.json")


def pointers(shelf: str) -> list[Pointer]:
    """Return the pointers of `shelf` by number, none if it is no shelf.

    Raises WorkError for one that is damaged.
    """
    found = []
    for uri in storage.list_files(storage.join(shelf, POINTERS)):
        content = storage.read_json(uri)
        try:
            pointer = Pointer(int(content["number"]), str(content["manifest_sha256"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WorkError(f"{uri}: not the pointer of a release") from error
        if uri != _place(shelf, pointer.number):
            raise WorkError(f"{uri}: says that its number is {pointer.number}")
        found.append(pointer)
    return sorted(found, key=lambda pointer: pointer.number)


def resolve(uri: str) -> str:
    """Return the URI of the release that `uri` means.

    That is `uri` itself where a release or a checkpoint lies, the newest release of a shelf, or
    with `SHELF@3` its third. Raises RequestError if the shelf has no such number.
    """
    shelf, at, number = uri.rpartition("@")
    if at and number.isdigit():
        wanted = [pointer for pointer in pointers(shelf) if pointer.number == int(number)]
        if not wanted:
            raise RequestError(f"{shelf}: no release has number {number} there; list it")
        return storage.join(shelf, address(wanted[0].sha256))
    if storage.exists(storage.join(uri, manifest.NAME)):
        return uri
    there = pointers(uri)
    return storage.join(uri, address(there[-1].sha256)) if there else uri

"""The way back of a release: its parents and corpora, looked up and compared with their hashes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data_pipeline.corpus.manifest import manifest_sha256
from pretrain.checkpoints import manifest
from pretrain.checkpoints.pull import verify
from pretrain.checkpoints.shelf import address
from trawl import storage
from trawl.errors import TrawlError

_MOST_GENERATIONS = 100


@dataclass(frozen=True)
class Link:
    """One ancestor of a release."""

    kind: str
    """parent or corpus."""
    name: str
    sha256: str
    """The hash of its manifest, as the release names it."""
    uri: str | None
    """Where it lies; None: it is not at hand."""
    problem: str | None = None
    """What is wrong with it there."""


def walk(uri: str) -> Iterator[Link]:
    """Yield all ancestors of the release at `uri`, verified, parents before what they came from.

    A parent is looked for beside the release and where its recipe took it from, a corpus where the
    recipe named it. One that lies elsewhere by now is yielded without a place.
    """
    content = manifest.read(uri)
    for _ in range(_MOST_GENERATIONS):
        for corpus in content["corpora"]:
            yield _corpus(corpus)
        parent = content.get("parent")
        if parent is None:
            return
        link = _parent(uri, content, parent)
        yield link
        if link.uri is None or link.problem is not None:
            return
        uri, content = link.uri, manifest.read(link.uri)


def _corpus(corpus: dict[str, Any]) -> Link:
    uri, wanted = corpus["uri"], corpus["manifest_sha256"]
    try:
        found = manifest_sha256(uri)
    except (TrawlError, OSError):
        return Link("corpus", uri, wanted, None)
    problem = None if found == wanted else f"its manifest is {found[:12]}, not {wanted[:12]}"
    return Link("corpus", uri, wanted, uri, problem)


def _parent(uri: str, content: dict[str, Any], parent: dict[str, Any]) -> Link:
    name, wanted = parent["name"], parent["manifest_sha256"]
    for place in _places(uri, content, wanted):
        try:
            if manifest.read(place)["sha256"] != wanted:
                continue
        except (TrawlError, OSError):
            continue
        try:
            verify(place)
        except TrawlError as error:
            return Link("parent", name, wanted, place, str(error))
        return Link("parent", name, wanted, place)
    return Link("parent", name, wanted, None)


def _places(uri: str, content: dict[str, Any], sha256: str) -> Iterator[str]:
    """Yield where a parent may lie: another stage of the run, the next shelf, the recipe's word."""
    recipe = content.get("recipe", {})
    above = uri.rstrip("/").rpartition("/")[0] or "."
    if stage := recipe.get("parent_stage"):
        yield storage.join(above, stage)
        yield storage.join(above.rpartition("/")[0] or ".", stage, address(sha256))
    init = (recipe.get("stage") or {}).get("init") or recipe.get("model", {}).get("init") or {}
    if place := init.get("published"):
        yield place
        yield storage.join(place, address(sha256))
    # A release that was pulled lies alone; what it came from may have been pulled beside it.
    yield storage.join(above, address(sha256))

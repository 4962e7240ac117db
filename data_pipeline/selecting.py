"""Makes a new corpus from what another has fetched, by a recipe with other thresholds.

What the changed keys do not touch is taken over: the ledger of the new corpus names it, and its
files stay where they are. The rest is done as ever, so the result is that of a build by the new
recipe, but nothing is fetched.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipeline import build as building
from data_pipeline.corpus.manifest import manifest_sha256, read_manifest
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.retry_state import enter, retries
from data_pipeline.retrying import kept_recipe, need_work
from data_pipeline.steps.tables import iterate_rows
from data_pipeline.takedowns import copy_takedowns
from data_pipeline.units import WORK, Ledger, folder_of
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError
from trawl.events import EventLog

_LATE = ("route", "select", "detect", "score")
# The kept phases that a key below each of these has a say in; what comes later is always redone.
_TOUCHED: dict[str, tuple[str, ...]] = {
    "image_filter": ("image_filter", *_LATE),
    "text_filter": ("sentences", *_LATE),
    "regions": ("detect", "score"),
    "score": ("score",),
    "score.model": ("sentences", *_LATE),  # `text` judges texts where they are cleaned
    "aggregate": (),
    "aggregate.decontaminate": ("score",),
    "shards": (),
    "name": (),
    "out": (),
    "compute": (),
    "compute.bucket_pairs": _LATE,
}


def select(uri: str, out: str, changes: Sequence[str]) -> None:
    """Build the corpus at `out` by the recipe of the one at `uri` with `changes`, fetching nothing.

    RequestError: a change needs what was not fetched or not kept, or another corpus lies at `out`.
    """
    known = kept_recipe(uri)
    asked = recipes.load(storage.join(uri, building.RECIPE), CorpusRecipe, changes)
    recipe = asked.model_copy(update={"out": out})
    if uri.rstrip("/") == out.rstrip("/"):
        raise RequestError(f"{out}: is the corpus itself; choose another place")
    read_manifest(uri)
    touched = _touched(known, recipe)
    kept = [
        phase
        for phase in building.KEPT_PHASES
        if phase not in touched and storage.exists(storage.join(uri, WORK, phase, "done.json"))
    ]
    need_work(uri, "gather", "download")
    if recipe.image_filter.min_side != known.image_filter.min_side:
        _refuse_alternatives(uri)
    building.claim(recipe, out)
    with EventLog(storage.join(out, building.EVENTS)) as log:
        log.write("select", parent=manifest_sha256(uri), changes=list(changes), kept=kept)
    copy_takedowns(uri, out)
    _take_over(uri, out, kept)
    building.build(recipe, out)


def _touched(known: CorpusRecipe, asked: CorpusRecipe) -> set[str]:
    """Return the kept phases that the changed keys touch; RequestError if they need a fetch."""
    touched: set[str] = set()
    before, after = _flat(known.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
    for key in sorted(key for key in before | after if before.get(key) != after.get(key)):
        first = key.partition(".")[0]
        if key not in _TOUCHED and first not in _TOUCHED:
            raise RequestError(
                f"--set {key}: says what is collected or fetched, and what it left out was never "
                "fetched; build anew with it"
            )
        touched.update(_TOUCHED.get(key, _TOUCHED.get(first, ())))
        if key == "aggregate.near_duplicate_bits" and asked.aggregate.decontaminate:
            touched.add("score")  # where images near to those of evaluation sets are dropped
    return touched


def _flat(content: Any, above: str = "") -> dict[str, Any]:
    """Return nested mappings as one, by dotted keys."""
    if not isinstance(content, dict) or not content:
        return {above: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(value, f"{above}.{key}" if above else key)
    return found


def _refuse_alternatives(uri: str) -> None:
    """Stop if the least side decided which address of a picture was fetched."""
    several = sum(
        len(json.loads(row["places"])) > 1
        for entry in Ledger(uri).done("gather").values()
        for row in iterate_rows(storage.join(folder_of(uri, entry), "urls.parquet"), ["places"])
    )
    if several:
        raise RequestError(
            f"--set image_filter.min_side: {several} pictures have several addresses, of which the "
            "first that was large enough was fetched; with another least side they must be fetched "
            "anew: build"
        )


def _take_over(uri: str, out: str, phases: list[str]) -> None:
    """Enter what the other corpus has done into the ledger of the new one."""
    home = uri if storage.is_remote(uri) else str(Path(uri).absolute())
    source, target = Ledger(uri), Ledger(out)
    for phase in phases:
        for entry in source.done(phase).values():
            target.adopt(entry, home)
    for number, state in retries(uri).items():
        if state == "done":
            enter(out, number, state)

"""Corpora made shard by shard from what lies on disk: imported features, or a detector run anew.

One unit is one shard with the decisions about its candidates, entered in the ledger when both lie
there. Killed anywhere, the same command goes on with the units that the ledger does not have and
ends with the same bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.corpus.decisions import KEPT, write_decisions
from data_pipeline.corpus.manifest import (
    NAME,
    DecisionsRecord,
    DetectorRecord,
    Manifest,
    ShardRecord,
    write_manifest,
)
from data_pipeline.corpus.writer import PackedSample, write_shard
from data_pipeline.units import Entry, Ledger, Unit, check_inputs, new_attempt
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError
from trawl.recipe import Recipe

RECIPE = "recipe.yaml"
EVENTS = "events.jsonl"


def claim(out: str, recipe: Recipe, places: Sequence[str]) -> str:
    """Write `recipe` into `out` and return its hash without the keys `places`.

    RequestError if a corpus of another recipe lies there.
    """
    place = storage.join(out, RECIPE)
    digest = recipes.digest(recipe, places)
    if storage.exists(place):
        known = recipes.load(place, type(recipe))
        if recipes.digest(known, places) != digest:
            raise RequestError(
                f"{place}: a corpus of another recipe lies here; choose another OUT, or remove it"
            )
    else:
        storage.write_text(place, recipes.dump(recipe))
    return digest


class ShardUnits:
    """The shards of one corpus in the making, by number, with what the ledger keeps of each."""

    def __init__(self, out: str, phase: str) -> None:
        self.out, self.phase = out, phase
        self._ledger = Ledger(out)
        self.done: dict[int, Entry] = {
            int(name): entry for name, entry in self._ledger.done(phase).items()
        }

    def unit(self, number: int, inputs: Mapping[str, Any]) -> Unit:
        """Return unit `number`; RequestError if it is done already from other inputs."""
        unit = Unit(self.phase, f"{number:05d}", inputs)
        if number in self.done:
            check_inputs(unit, self.done[number])
        return unit

    def commit(
        self,
        unit: Unit,
        samples: Iterable[PackedSample],
        decisions: Sequence[dict[str, Any]] | Any,
        result: Mapping[str, Any] | Any,
    ) -> Entry:
        """Write one unit's shard, then its decisions, then its ledger entry.

        samples come sorted by key and may be made on the way; decisions and result are values, or
        functions without arguments that are called when the last sample is written.
        """
        number = int(unit.name)
        shard = write_shard(self.out, number, samples)
        rows = decisions() if callable(decisions) else decisions
        record = write_decisions(self.out, number, rows)
        funnel = Counter(f"{row['step']}/{row['reason']}" for row in rows)
        told = result() if callable(result) else result
        entry = self._ledger.commit(
            unit,
            new_attempt(),
            {
                "shard": shard.model_dump(),
                "decisions": record.model_dump(),
                "funnel": dict(funnel),
                **told,
            },
        )
        self.done[number] = entry
        return entry

    def finish(
        self,
        name: str,
        recipe_sha256: str,
        detector: DetectorRecord,
        parents: Sequence[str] = (),
        scorer_sha256: str = "",
    ) -> Manifest:
        """Write the manifest over all units, which makes the corpus whole, and return it."""
        entries = [self.done[number].result for number in sorted(self.done)]
        shards = [ShardRecord(**entry["shard"]) for entry in entries]
        funnel: Counter[str] = Counter()
        for entry in entries:
            funnel.update(entry["funnel"])
        manifest = Manifest(
            name=name,
            samples=sum(shard.samples for shard in shards),
            captions=sum(shard.captions for shard in shards),
            regions=sum(shard.regions for shard in shards),
            bytes=sum(shard.bytes for shard in shards),
            recipe_sha256=recipe_sha256,
            scorer_sha256=scorer_sha256,
            parents=list(parents),
            detector=detector,
            funnel=dict(funnel),
            shards=shards,
            decisions=[DecisionsRecord(**entry["decisions"]) for entry in entries],
        )
        write_manifest(self.out, manifest)
        _clear(self.out)
        return manifest


def is_complete(out: str) -> bool:
    """Say whether the corpus at `out` has its manifest."""
    return storage.exists(storage.join(out, NAME))


def _clear(out: str) -> None:
    """Remove the files that a kill left half written."""
    if not storage.is_remote(out):
        for leftover in Path(out).rglob(".*.part"):
            leftover.unlink(missing_ok=True)


def decision(url: str, page: str, position: int, **fields: Any) -> dict[str, Any]:
    """Return a row of decisions; what `fields` do not say is empty, and the row is then kept."""
    row: dict[str, Any] = {
        "url": url,
        "page": page,
        "position": position,
        "key": "",
        "step": "write",
        "reason": KEPT,
        "text": "",
        "source": "",
        "score": 0.0,
        "scores": "{}",
        "width": 0,
        "height": 0,
        "sha256": "",
        "phash": "",
        **fields,
    }
    row["kept"] = row["reason"] == KEPT
    return row


def drops(manifest: Manifest) -> str:
    """Return how many candidates were dropped, by reason, as one line; "" if none was."""
    lost = {name: count for name, count in manifest.funnel.items() if not name.endswith(KEPT)}
    named = ", ".join(
        f"{name.partition('/')[2]} {count:,}"
        for name, count in sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"{sum(lost.values()):,} dropped: {named}" if lost else ""


def content_hash(*parts: bytes) -> str:
    """Return the SHA-256 over `parts`, each preceded by its length, in hex."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()

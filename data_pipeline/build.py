"""Drives a build: the phases in order, each a list of units that follows from those before.

A build is a function of its recipe and its sources. Killed anywhere, the same command goes on with
the units that the ledger does not have, and ends with the same bytes.
"""

import sys
import time
from collections import Counter
from pathlib import Path

from data_pipeline.aggregation import (
    Slices,
    aggregate,
    bucket_count,
    bucket_units,
    groups_by_bucket,
    slices,
)
from data_pipeline.cluster import cluster
from data_pipeline.collecting import collect, told
from data_pipeline.corpus.manifest import (
    NAME,
    DecisionsRecord,
    DetectorRecord,
    Manifest,
    ShardRecord,
    write_manifest,
)
from data_pipeline.corpus.verify import stray_files
from data_pipeline.detector.arithmetic import slow_number
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.retry_state import finished_retries
from data_pipeline.scheduling import PHASES, Scheduler
from data_pipeline.steps.gather import URLS_PER_UNIT
from data_pipeline.steps.image_classifiers import missing
from data_pipeline.steps.score import scorer_sha256
from data_pipeline.units import WORK, Entry, Ledger, Unit
from trawl import fence as fences
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError, TrawlError
from trawl.events import EventLog
from trawl.fence import Attempt

EVENTS = "events.jsonl"
RECIPE = "recipe.yaml"
# What a retry or a selection goes on from; what comes later is made anew, from these tables.
KEPT_PHASES = ("gather", "download", "image_filter", "sentences") + (
    "route",
    "select",
    "detect",
    "score",
)


def build(recipe: CorpusRecipe, out: str, attempt: Attempt | None = None) -> None:
    """Build the corpus of `recipe` at `out`, or finish the build that was begun there.

    RequestError: a source is missing, or another corpus lies at `out`. WorkError: a unit of work
    failed for good; the same command tries it again. StaleError: a newer attempt has begun there,
    of the same job as `attempt` if that has a launcher.
    """
    fences.takes_over(out, attempt)
    claim(recipe, out)
    fence = fences.claim(out, attempt)
    if storage.exists(storage.join(out, NAME)):
        clear(recipe, out)
        return
    with EventLog(storage.join(out, EVENTS), fence) as log:
        started = time.monotonic()
        log.write("build", name=recipe.name, recipe_sha256=recipe.digest())
        warn(recipe, log)
        with cluster(recipe.compute, fence) as cpus:
            try:
                run_phases(Scheduler(out, recipe, cpus, log, fence))
            except TrawlError:
                fence.check()  # what failed may have failed for a newer attempt's work
                raise
        log.write("build-done", seconds=round(time.monotonic() - started, 1))
    fence.check()
    clear(recipe, out)


def warn(recipe: CorpusRecipe, log: EventLog) -> None:
    """Say once a build, in its events and on stderr, what is left undone and what is slow."""
    texts = [
        f"image_filter.{kind}.model is null: {kind} images are NOT looked for and stay in"
        for kind in missing(recipe.image_filter)
    ]
    texts += slow_number(
        recipe.regions.number, "cuda" if recipe.compute.gpus else "cpu", "regions.number"
    )
    for text in texts:
        log.write("warning", text=text)
        print(f"WARNING: {text}", file=sys.stderr, flush=True)


def outlook(recipe: CorpusRecipe, out: str) -> list[str]:
    """Return what a build would do, as lines, after checking that its sources are there."""
    state = "complete" if storage.exists(storage.join(out, NAME)) else "to be built"
    return [
        f"source: {told(recipe.collect.source)}",
        f"out: {out} ({state})",
        "",
        recipes.dump(recipe).rstrip(),
    ]


def claim(recipe: CorpusRecipe, out: str) -> None:
    """Write the resolved recipe into `out`; RequestError if that of another corpus lies there."""
    place = storage.join(out, RECIPE)
    if storage.exists(place):
        known = recipes.load(place, CorpusRecipe)
        if known.digest() != recipe.digest():
            raise RequestError(
                f"{place}: a corpus of another recipe lies here; choose another --out, or remove it"
            )
        return
    storage.write_text(place, recipes.dump(recipe))


def clear(recipe: CorpusRecipe, out: str) -> None:
    """Remove what only the work needed, what no ledger entry names, and files half written."""
    work = storage.join(out, WORK)
    if not recipe.compute.keep_work:
        storage.remove(work)
    else:
        for phase in set(PHASES) - set(KEPT_PHASES):
            storage.remove(storage.join(work, phase))
        for phase in KEPT_PHASES:
            _clear_attempts(out, phase)
    if not storage.is_remote(out):
        for leftover in Path(out).rglob(".*.part"):
            leftover.unlink(missing_ok=True)


def _clear_attempts(out: str, phase: str) -> None:
    """Remove the files of attempts that do not count."""
    folder = storage.join(out, WORK, phase)
    known = {(entry.name, entry.attempt) for entry in Ledger(out).done(phase).values()}
    for place in storage.list_files(folder):
        unit, _, rest = place.rpartition(f"/{WORK}/{phase}/")[2].partition("/")
        if rest and (unit, rest.partition("/")[0]) not in known:
            storage.remove(place)


def run_phases(scheduler: Scheduler) -> None:
    """Run all phases; the manifest comes last and makes the corpus whole."""
    recipe = scheduler.recipe
    partitions = [str(number) for number in range(recipe.collect.partitions)]
    if not set(partitions) <= set(scheduler.ledger.done("gather")):
        collect(scheduler)
    gathered = scheduler.run("gather", [_of("gather", name) for name in partitions])
    fetches = download_units(recipe, gathered) + retried_units(scheduler)
    downloads = scheduler.run("download", fetches)
    scheduler.run("image_filter", [Unit("image_filter", name) for name in downloads])
    texts = scheduler.run("sentences", [_of("sentences", name) for name in partitions])
    described = sum(entry.result["counts"].get("passed", 0) for entry in texts.values())
    buckets = bucket_count(described, recipe.compute.bucket_pairs)
    inputs = {"buckets": buckets}
    scheduler.run("route", [_of("route", name, **inputs) for name in partitions])
    selected = scheduler.run("select", bucket_units("select", buckets))
    images = [entry.result["counts"]["images"] for entry in selected.values()]
    # A corpus without a single image still says which detector it is for: at least one unit.
    groups = slices(images, recipe.regions.unit, least=1)
    detected = scheduler.run("detect", _grouped("detect", groups))
    within = groups_by_bucket(groups, buckets)
    scores = [
        Unit("score", unit.name, {**unit.inputs, "groups": within[bucket]})
        for bucket, unit in enumerate(bucket_units("score", buckets))
    ]
    scored = scheduler.run("score", scores)
    passed = sum(entry.result["counts"].get("passed", 0) for entry in scored.values())
    kept = aggregate(scheduler, passed, within)
    counts = [entry.result["counts"]["kept"] for entry in kept.values()]
    packs = slices(counts, recipe.shards.samples)
    shards = scheduler.run("shards", _grouped("shards", packs))
    decided = scheduler.run("decisions", [_of("decisions", name) for name in partitions])
    scheduler.run("gallery", [Unit("gallery", "all")])
    detector = DetectorRecord(**detected["00000"].result["detector"])
    manifest = manifest_of(recipe, detector, shards, decided)
    scheduler.check_fence()
    for name in stray_files(scheduler.out, manifest):  # of a build before a retry
        storage.remove(storage.join(scheduler.out, name))
    write_manifest(scheduler.out, manifest)


def _of(phase: str, partition: str, **inputs: object) -> Unit:
    return Unit(phase, partition, {"partition": int(partition), **inputs})


def _grouped(phase: str, groups: Slices) -> list[Unit]:
    return [
        Unit(phase, f"{number:05d}", {"group": number, "slices": group})
        for number, group in enumerate(groups)
    ]


def download_units(recipe: CorpusRecipe, gathered: dict[str, Entry]) -> list[Unit]:
    """Return a unit for each slice of each partition's addresses.

    Addresses of one host are in one partition when they come from the web, and the slices of a
    partition share a lane: so one process at a time talks to a host, and its limits hold.
    """
    units = []
    for partition, entry in gathered.items():
        for group in range(-(-entry.result["counts"]["urls"] // URLS_PER_UNIT)):
            inputs = {"partition": int(partition), "group": group}
            lane = partition if recipe.download.source == "web" else ""
            units.append(Unit("download", f"{partition}-{group:05d}", inputs, lane))
    return units


def retried_units(scheduler: Scheduler) -> list[Unit]:
    """Return the units of downloads that `retry` has finished with."""
    finished = finished_retries(scheduler.out)
    return [
        Unit(entry.phase, entry.name, entry.inputs)
        for entry in scheduler.ledger.done("download").values()
        if entry.inputs.get("retry", 0) in finished
    ]


def manifest_of(
    recipe: CorpusRecipe,
    detector: DetectorRecord,
    shards: dict[str, Entry],
    decided: dict[str, Entry],
) -> Manifest:
    """Return the manifest, from the results of the units that wrote shards and decisions."""
    records = [ShardRecord(**entry.result["shard"]) for entry in shards.values()]
    funnel: Counter[str] = Counter()
    for entry in decided.values():
        funnel.update(entry.result["funnel"])
    return Manifest(
        name=recipe.name,
        samples=sum(record.samples for record in records),
        captions=sum(record.captions for record in records),
        regions=sum(record.regions for record in records),
        bytes=sum(record.bytes for record in records),
        recipe_sha256=recipe.digest(),
        scorer_sha256=scorer_sha256(recipe),
        detector=detector,
        funnel=dict(funnel),
        shards=records,
        decisions=[DecisionsRecord(**entry.result["file"]) for entry in decided.values()],
    )

"""Fetches again what failed for a reason that may have passed, and builds the corpus anew from it.

The images that came are kept in units of their own, behind those of the build; what they change is
found by doing all later steps again, from tables and images that lie in `work/`. So the result is
that of a build in which those fetches had worked at once. Killed anywhere, the same command, or
`build`, goes on; until everything is fetched, the corpus stays whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from data_pipeline import build as building
from data_pipeline.cluster import cluster
from data_pipeline.corpus.manifest import NAME
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.retry_state import enter, finished_retries, retries
from data_pipeline.scheduling import PHASES, Scheduler
from data_pipeline.steps.gather import URLS_PER_UNIT
from data_pipeline.units import LEDGER, WORK, Ledger, Unit, finish_phase
from trawl import fence as fences
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError
from trawl.events import EventLog

# What a fetched image does not change.
_LASTING = {"collect", "crawl", "frontier", "locate", "lend", "gather", "download"}
_LASTING |= {"retry", "image_filter", "sentences"}


@dataclass(frozen=True)
class Retried:
    """What a retry did: addresses fetched again, and those with another outcome than before."""

    fetched: int
    changed: int


def retry(uri: str, changes: Sequence[str] = ()) -> Retried:
    """Fetch again and rebuild the corpus at `uri`; `changes` may say where things lie now.

    RequestError: no corpus lies there, its work was not kept, or a change is of more than places.
    """
    recipe = kept_recipe(uri, changes)
    number, state = max(retries(uri).items(), default=(1, "fetching"))
    if state == "done":
        number, state = number + 1, "fetching"
    if state == "fetching" and not storage.exists(storage.join(uri, NAME)):
        raise RequestError(f"{uri}: the build is not done; finish it with trawl corpus build")
    need_work(uri, "gather", "download", "image_filter", "sentences")
    told = Retried(0, 0)
    fence = fences.claim(uri)
    _list_anew(uri)
    with (
        EventLog(storage.join(uri, building.EVENTS), fence) as log,
        cluster(recipe.compute, fence) as cpus,
    ):
        log.write("retry", number=number, state=state)
        scheduler = Scheduler(uri, recipe, cpus, log, fence)
        if state == "fetching":
            told = _fetch(scheduler, number)
            if not told.changed:
                if told.fetched:
                    enter(uri, number, "done")
                return told
            enter(uri, number, "opening")
            state = "opening"
        if state == "opening":
            _open(uri)
            enter(uri, number, "rebuilding")
        if not storage.exists(storage.join(uri, NAME)):
            building.run_phases(scheduler)
        told = _counted(scheduler, number)
        enter(uri, number, "done")
        log.write("retry-done", number=number, fetched=told.fetched, changed=told.changed)
    building.clear(recipe, uri)
    return told


def kept_recipe(uri: str, changes: Sequence[str] = ()) -> CorpusRecipe:
    """Return the recipe that lies in a corpus, with changes of places and machines only."""
    place = storage.join(uri, building.RECIPE)
    if not storage.exists(place):
        raise RequestError(f"{uri}: no {building.RECIPE}; is this a corpus of trawl corpus build?")
    known = recipes.load(place, CorpusRecipe)
    recipe = recipes.load(place, CorpusRecipe, changes)
    if recipe.digest() != known.digest():
        raise RequestError(
            f"--set {' '.join(changes)}: changes what the corpus is; only where things lie and "
            "which machines work may change here"
        )
    return recipe


def need_work(uri: str, *phases: str) -> None:
    """Stop if what the phases made was not kept."""
    for phase in phases:
        if not storage.exists(storage.join(uri, WORK, phase, "done.json")):
            raise RequestError(
                f"{uri}: {WORK}/{phase} was not kept; build with compute.keep_work true, into "
                "another --out"
            )


def _list_anew(uri: str) -> None:
    """Let the units find what was kept, wherever the corpus lay when it was built."""
    ledger, finished = Ledger(uri), finished_retries(uri)
    for phase in building.KEPT_PHASES:
        entries = ledger.done(phase).items()
        finish_phase(
            uri, phase, {n: e for n, e in entries if e.inputs.get("retry", 0) in {0, *finished}}
        )


def _fetch(scheduler: Scheduler, number: int) -> Retried:
    """Fetch what failed in passing, into units of the download that no build knows yet."""
    recipe = scheduler.recipe
    listed = scheduler.run(
        "retry",
        [
            Unit("retry", f"{number:04d}-{partition}", {"partition": partition, "retry": number})
            for partition in range(recipe.collect.partitions)
        ],
    )
    counts = {
        int(entry.inputs["partition"]): entry.result["counts"]["urls"] for entry in listed.values()
    }
    if not any(counts.values()):
        for name in listed:  # nothing was to be done, so nothing was done
            storage.remove(storage.join(scheduler.out, LEDGER, "retry", f"{name}.json"))
        return Retried(0, 0)
    enter(scheduler.out, number, "fetching")
    known = [
        Unit(entry.phase, entry.name, entry.inputs, str(entry.inputs["partition"]))
        for entry in scheduler.ledger.done("download").values()
        if entry.inputs.get("retry", 0) < number
    ]
    fetches = [
        Unit(
            "download",
            f"{partition}-retry-{number:04d}-{group:05d}",
            {"partition": partition, "group": group, "retry": number},
            str(partition),
        )
        for partition, count in counts.items()
        for group in range(-(-count // URLS_PER_UNIT))
    ]
    scheduler.run("download", known + fetches)
    return _counted(scheduler, number)


def _counted(scheduler: Scheduler, number: int) -> Retried:
    """Return what retry `number` fetched and changed, from the ledger."""
    units = [
        entry
        for entry in scheduler.ledger.done("download").values()
        if entry.inputs.get("retry", 0) == number
    ]
    listed = scheduler.ledger.done("retry").values()
    return Retried(
        sum(e.result["counts"]["urls"] for e in listed if e.inputs["retry"] == number),
        sum(entry.result["changed"] for entry in units),
    )


def _open(uri: str) -> None:
    """Take the corpus for not done, from the first step on that new images may change."""
    storage.remove(storage.join(uri, NAME))
    ledger = Ledger(uri)
    for phase in set(PHASES) - _LASTING:
        ledger.forget_phase(phase)

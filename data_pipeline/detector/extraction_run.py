"""Drives an extraction: opens source and detector, does the units here or on Ray, sums up.

On Ray, each actor holds a detector (and a GPU, where one is asked for) and does a shard at a time:
it reads, decodes, detects and writes by itself, so that only numbers go through Ray's store.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.cluster import cluster
from data_pipeline.corpus.manifest import Manifest, read_manifest
from data_pipeline.derived import EVENTS, ShardUnits, claim, is_complete
from data_pipeline.detector import kernels
from data_pipeline.detector.arithmetic import slow_number
from data_pipeline.detector.buckets import share_of_padding
from data_pipeline.detector.extraction import PHASE, Extraction
from data_pipeline.detector.extraction_recipe import PLACES, ExtractRecipe
from data_pipeline.detector.extraction_source import open_images
from data_pipeline.detector.protocol import RegionDetector
from data_pipeline.detector.storage_report import PLACE, StorageReport
from data_pipeline.recipe import Compute
from data_pipeline.units import Entry
from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog
from trawl.progress import leg

_ATTEMPTS = 3


def extract(recipe: ExtractRecipe, out: str) -> Manifest:
    """Write a corpus with the regions of all images of the source, or finish one that was begun.

    RequestError: source, weights or rule are wrong, or another corpus lies at `out`. WorkError: a
    shard failed for good, or the detector failed on every image.
    """
    if recipe.source.rstrip("/") == out.rstrip("/"):
        raise RequestError(f"--out {out}: is the source itself; choose another place")
    recipe.rule()
    digest = claim(out, recipe, PLACES)
    if is_complete(out):
        return read_manifest(out)
    for text in slow_number(recipe.number, recipe.device, "number"):
        print(f"WARNING: {text}", file=sys.stderr, flush=True)
    detector = open_detector(recipe)
    extraction = Extraction(open_images(recipe.source, recipe.samples), detector, recipe)
    units = ShardUnits(out, PHASE)
    _run(extraction, units, out)
    _stop_if_all_failed(units)
    storage.write_json(storage.join(out, *PLACE), storage_of(out).to_json())
    parent = extraction.source.parent
    return units.finish(
        recipe.name,
        digest,
        extraction.record(),
        parents=extraction.source.parents,
        scorer_sha256="" if parent is None else parent.scorer_sha256,
    )


def open_detector(recipe: ExtractRecipe) -> RegionDetector:
    """Load the detector of a recipe; published families with the recipe's way of computing."""
    from data_pipeline.detector.backends import BACKENDS, load_detector
    from data_pipeline.detector.random_weights import FAMILIES, random_weights

    if recipe.detector not in BACKENDS:
        raise RequestError(
            f"--detector {recipe.detector} is not known; choose one of {', '.join(BACKENDS)}"
        )
    kernels.override(recipe.kernels, recipe.device)
    if recipe.detector not in FAMILIES:
        if recipe.random_weights is not None or recipe.device != "cpu":
            raise RequestError(
                f"--detector {recipe.detector}: --random-weights and --device are for "
                f"{', '.join(FAMILIES)}; leave them out"
            )
        return load_detector(recipe.detector, recipe.weights)
    from data_pipeline.detector.c4_inference import C4Detector, Computing
    from data_pipeline.detector.c4_storage import load_c4

    computing = Computing(
        device=recipe.device,
        number=recipe.number,
        compiled=recipe.compiled,
        chunks=recipe.chunks,
        images=recipe.batch,
    )
    if recipe.random_weights is not None:
        weights = random_weights(recipe.detector, recipe.random_weights)
    elif recipe.weights == "builtin":
        raise RequestError(f"--weights: {recipe.detector} has none built in; give its file")
    else:
        weights = load_c4(Path(recipe.weights), recipe.detector)
    return C4Detector(recipe.detector, weights, computing)


def _run(extraction: Extraction, units: ShardUnits, out: str) -> None:
    """Do the units that are not done."""
    source, recipe = extraction.source, extraction.recipe
    for number in units.done:
        units.unit(number, extraction.inputs(number))
    left = [number for number in range(source.units) if number not in units.done]
    with EventLog(storage.join(out, EVENTS)) as log, leg("regions", source.images) as progress:
        log.write("phase", phase=PHASE, units=source.units, done=len(units.done))
        progress.advance(sum(_images(entry) for entry in units.done.values()))
        started = time.monotonic()
        done = _here(extraction, units, left) if not recipe.workers else _on_ray(recipe, out, left)
        for entry in done:
            seconds = time.monotonic() - started
            told = {"seconds": round(seconds, 3), "counts": {"images": _images(entry)}}
            log.write("unit", phase=PHASE, unit=entry.name, peak_mib=0, **told)
            units.done[int(entry.name)] = entry
            progress.advance(_images(entry))


def _images(entry: Entry) -> int:
    """Return the images of a unit, dropped ones among them."""
    return int(sum(entry.result["funnel"].values()))


def _here(extraction: Extraction, units: ShardUnits, numbers: list[int]) -> Iterator[Entry]:
    for number in numbers:
        yield extraction.do(number, units)


class Extractor:
    """One Ray actor: it opens source and detector once and does units when told."""

    def __init__(self, recipe: ExtractRecipe, out: str) -> None:
        import torch

        torch.set_num_threads(1)  # actors compute side by side
        source = open_images(recipe.source, recipe.samples)
        self._extraction = Extraction(source, open_detector(recipe), recipe)
        self._units = ShardUnits(out, PHASE)

    def do(self, number: int) -> dict[str, Any]:
        """Do one unit; an error comes back as text with its nature, as no exception travels."""
        try:
            return {"entry": self._extraction.do(number, self._units)}
        except RequestError as error:
            return {"error": str(error), "nature": "request"}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "nature": "work"}


def _on_ray(recipe: ExtractRecipe, out: str, numbers: list[int]) -> Iterator[Entry]:
    """Yield the entries of units done by Ray actors, each with one unit at a time."""
    gpus = recipe.workers if recipe.device.startswith("cuda") else 0
    with cluster(Compute(ray_address=recipe.ray_address, cpus=recipe.workers, gpus=gpus)):
        import ray

        remote: Any = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Extractor)
        waiting = deque(numbers)
        failures: dict[int, int] = {}
        running: dict[Any, tuple[Any, int]] = {}
        for _ in range(min(recipe.workers, len(numbers))):
            actor, number = remote.remote(recipe, out), waiting.popleft()
            running[actor.do.remote(number)] = (actor, number)
        while running:
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            actor, number = running.pop(ready)
            try:
                outcome = ray.get(ready)
            except ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                outcome = {"error": f"the actor died: {lines[0]}", "nature": "work"}
                actor = remote.remote(recipe, out)
            if "entry" in outcome:
                yield outcome["entry"]
            else:
                failures[number] = failures.get(number, 0) + 1
                _stop_if_hopeless(number, outcome, failures[number])
                waiting.append(number)
            if waiting:
                following = waiting.popleft()
                running[actor.do.remote(following)] = (actor, following)


def _stop_if_hopeless(number: int, outcome: dict[str, Any], failures: int) -> None:
    """Raise if a unit must not be tried again."""
    if outcome["nature"] == "request":
        raise RequestError(outcome["error"])
    if failures >= _ATTEMPTS:
        raise WorkError(f"shard {number:05d} failed {failures} times: {outcome['error']}")


def _stop_if_all_failed(units: ShardUnits) -> None:
    """Raise WorkError if no image got through and the detector itself was at fault."""
    results = [entry.result for entry in units.done.values()]
    first = next((result["failed"] for result in results if result["failed"]), "")
    if first and not any(result["shard"]["samples"] for result in results):
        raise WorkError(f"{units.out}: the detector failed on every image; the first: {first}")


def storage_of(out: str) -> StorageReport:
    """Return what storing the features of an extraction costs and keeps, over all its units."""
    report = StorageReport()
    for entry in ShardUnits(out, PHASE).done.values():
        report.merge(entry.result["storage"])
    return report


def padding_of(out: str) -> float | None:
    """Return the share of padding in the computed pixels; None where the detector pads nothing."""
    counts = [entry.result.get("padding", [0, 0]) for entry in ShardUnits(out, PHASE).done.values()]
    own, computed = (sum(values) for values in zip(*counts, strict=True)) if counts else (0, 0)
    return share_of_padding(own, computed) if computed else None


def differences_of(out: str) -> list[tuple[str, float, int]]:
    """Return each image's mean |difference| to the features of the TSV, and its regions."""
    entries = ShardUnits(out, PHASE).done
    return [
        (str(name), float(difference), int(count))
        for number in sorted(entries)
        for name, difference, count in entries[number].result["differences"]
    ]

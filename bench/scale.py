"""Synthetic metadata through all steps that see the whole corpus: memory a worker, CPU, completion.

    python bench/scale.py [--candidates N ...] [--bucket-pairs N] [--workers N] [--ray]

For each count: candidates are drawn by partition (images under several addresses, texts that stand
with many images, looks in families a few bits apart), then the steps of a build run as they are,
from the routing by image to the pairs of the shards; only detection and agreement, which need
pixels, are drawn too. Units run in a pool of fresh processes, with --ray on Ray. Prints, for each
step, units, CPU seconds and the peak memory of a worker so far, and what memory is at the largest
count against the smallest. All chance is a function of the candidate.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.aggregation import aggregate, bucket_count, bucket_units
from data_pipeline.cluster import cluster
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import PHASES, Driver, Scheduler, attempt
from data_pipeline.steps.buckets import bucket_of_image
from data_pipeline.steps.route import ROUTED
from data_pipeline.steps.tables import (
    DETECTIONS,
    SCORED,
    iterate_partition,
    iterate_rows,
    partitioned,
    write_rows,
)
from data_pipeline.units import Entry, Result, Unit, Work
from trawl import chance, storage
from trawl.errors import WorkError
from trawl.events import EventLog, read_events

ADDRESSES = 1.6  # candidates an image
FAMILY = 50  # of as many images, one in ten looks like another of them
WORDS = ("red", "old", "small", "boat", "tower", "horse", "market", "bridge", "garden", "street")
COMMON = 0.02  # share of candidates whose text stands everywhere


def draw(work: Work) -> Result:
    """Draw the routed candidates of one partition."""
    inputs = work.unit.inputs
    partition, rows, images = (int(inputs[name]) for name in ("partition", "rows", "images"))
    generator = chance.generator("scale", partition)
    with partitioned(work.place("routed.parquet"), ROUTED) as table:
        for row, image in enumerate(generator.integers(0, images, rows).tolist()):
            pair = _pair(partition, row, image, generator.random(3).tolist())
            table.add(bucket_of_image(pair["sha256"], int(inputs["buckets"])), pair)
    return {"counts": {"pairs": rows}}


def _pair(partition: int, row: int, image: int, chances: list[float]) -> dict[str, Any]:
    """Return one routed candidate; what belongs to the image follows from its number."""
    digest = hashlib.sha256(str(image).encode()).hexdigest()
    look = chance.seed_of("look", image)
    if chance.seed_of("twin", image) % 10 == 0:
        look = chance.seed_of("look", image // FAMILY * FAMILY) ^ (0b11 << image % 60)
    if chances[0] < COMMON:
        text = f"Welcome to shop {int(chances[1] * 50)}"
    else:
        words = [WORDS[int(c * 1e6) % len(WORDS)] for c in chances]
        text = f"A {' '.join(words)} near number {int(chances[1] * 1e9)}"
    return {
        "sha256": digest,
        "partition": partition,
        "row": row,
        "url": f"http://host{image % 9973}.example/pictures/{image}/{partition}-{row}.jpg",
        "page": f"http://host{image % 9973}.example/pages/{row % 97}.html",
        "position": row % 40,
        "texts": json.dumps([["alt", text, 1.0], ["title", f"{text} at dusk", 0.8]]),
        "robots": "[]",
        "licence": "",
        "extra": "",
        "width": 800,
        "height": 600,
        "phash": f"{look:016x}",
        "unit": f"{partition}-00000",
        "offset": 0,
        "size": 1,
        "kind": "jpeg",
    }


def score(work: Work) -> Result:
    """Draw the scores of one bucket, in the place of detector and agreement."""
    counts: Counter[str] = Counter()
    bucket = int(work.unit.inputs["bucket"])
    with partitioned(work.place("scored.parquet"), SCORED) as table:
        for place in work.earlier("route", "routed.parquet").values():
            for part in iterate_partition(place, bucket):
                for row in part.to_pylist():
                    scored = _scored(row)
                    counts[scored["reason"] or "passed"] += 1
                    table.add(row["partition"], scored)
    return {"counts": dict(counts)}


def _scored(row: dict[str, Any]) -> dict[str, Any]:
    texts = json.loads(row["texts"])
    value = round(int(row["sha256"][:6], 16) / 2**24, 4)
    captions = [
        {"text": text, "source": source, "score": round(value * trust, 4)}
        for source, text, trust in texts
    ]
    known = {name: row[name] for name in SCORED.names if name in row}
    reason = "" if value >= 0.2 else "low-score"
    return {**known, "reason": reason, "captions": json.dumps(captions), "evidence": "[]"}


def detect(work: Work) -> Result:
    """Write detections without regions for the images of one bucket."""
    plan = work.earlier("select", "plan.parquet")[str(work.unit.name)]
    labels: dict[str, list[int]] = {
        name: [] for name in ("object_ids", "object_conf", "attribute_ids", "attribute_conf")
    }
    rows = (
        {"sha256": row["sha256"], "offset": 0, "size": 1, **labels}
        for row in iterate_rows(plan, ["sha256"])
    )
    count = write_rows(work.place("detections.parquet"), rows, DETECTIONS)
    storage.write_json(work.place("detector.json"), {"objects": [], "attributes": []})
    return {"counts": {"images": count}}


class PoolScheduler(Scheduler):
    """Does the units in the processes of a pool, without Ray."""

    pool: concurrent.futures.ProcessPoolExecutor

    def _do(self, units: list[Unit]) -> Iterable[Entry]:
        driver = Driver.of_this_process()
        tasks = [
            self.pool.submit(attempt, self.out, self.recipe, unit, PHASES[unit.phase], driver)
            for unit in units
        ]
        by_name = {unit.name: unit for unit in units}
        for task in concurrent.futures.as_completed(tasks):
            outcome = task.result()
            if "entry" not in outcome:
                raise WorkError(outcome["error"])
            self._tell(by_name[outcome["entry"].name], outcome)
            yield outcome["entry"]


def simulate(
    candidates: int, bucket_pairs: int, per_partition: int, workers: int, out: str
) -> dict[str, Any]:
    """Run the steps over `candidates`; return counts, CPU seconds and memory by phase."""
    partitions = max(1, -(-candidates // per_partition))
    recipe = CorpusRecipe.model_validate(
        {
            "name": "scale",
            "collect": {"source": {"kind": "warc", "uris": ["x"]}, "partitions": partitions},
            "compute": {"bucket_pairs": bucket_pairs},
        }
    )
    buckets = bucket_count(candidates, bucket_pairs)
    inputs = {"images": max(1, int(candidates / ADDRESSES)), "buckets": buckets}
    ends = np.linspace(0, candidates, partitions + 1).astype(int).tolist()
    PHASES.update({name: f"scale:{function}" for name, function in _DRAWN.items()})
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(EventLog(storage.join(out, "events.jsonl")))
        if not workers:
            scheduler = Scheduler(out, recipe, stack.enter_context(cluster(recipe.compute)), log)
        else:
            spawn = multiprocessing.get_context("spawn")
            pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn)
            scheduler = PoolScheduler(out, recipe, workers, log)
            scheduler.pool = stack.enter_context(pool)
        routes = [
            Unit("route", str(p), {"partition": p, "rows": ends[p + 1] - ends[p], **inputs})
            for p in range(partitions)
        ]
        scheduler.run("route", routes)
        scheduler.run("select", bucket_units("select", buckets))
        scheduler.run("detect", bucket_units("detect", buckets))
        scored = scheduler.run("score", bucket_units("score", buckets))
        passed = sum(entry.result["counts"].get("passed", 0) for entry in scored.values())
        groups = [[unit.name] for unit in bucket_units("detect", buckets)]
        kept = aggregate(scheduler, passed, groups)
    return {
        "candidates": candidates,
        "buckets": buckets,
        "passed": passed,
        "kept": sum(entry.result["counts"]["kept"] for entry in kept.values()),
        "phases": dict(_phases(out)),
    }


_DRAWN = {"route": "draw", "score": "score", "detect": "detect"}


def _phases(out: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield units, CPU seconds and peak memory of each phase, from the event log."""
    found: dict[str, dict[str, float]] = {}
    for event in read_events(Path(out) / "events.jsonl"):
        if event["kind"] == "unit":
            phase = found.setdefault(event["phase"], {"units": 0, "cpu": 0.0, "peak_mib": 0})
            phase["units"] += 1
            phase["cpu"] += event["cpu_seconds"]
            phase["peak_mib"] = max(phase["peak_mib"], event["peak_mib"])
    yield from found.items()


def show(result: dict[str, Any]) -> None:
    """Print one simulation."""
    print(
        f"\n{result['candidates']:,} candidates in {result['buckets']:,} buckets: "
        f"{result['passed']:,} passed, {result['kept']:,} kept, {result['seconds']:.0f} s"
    )
    print(f"  {'step':14} {'units':>6} {'CPU s':>9} {'us each':>8} {'MiB':>6}")
    for name, phase in result["phases"].items():
        each = phase["cpu"] / result["candidates"] * 1e6
        cells = f"{phase['units']:6} {phase['cpu']:9.1f} {each:8.1f} {phase['peak_mib']:6}"
        print(f"  {name + (' (drawn)' if name in _DRAWN else ''):14} {cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--bucket-pairs", type=int, default=20_000)
    parser.add_argument("--partition", type=int, default=20_000, help="candidates in a partition")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    results = []
    for candidates in options.candidates:
        with tempfile.TemporaryDirectory() as out:
            started = time.monotonic()
            workers = 0 if options.ray else options.workers
            result = simulate(candidates, options.bucket_pairs, options.partition, workers, out)
            result["seconds"] = time.monotonic() - started
        show(result)
        results.append(result)
    peaks = [max(p["peak_mib"] for p in result["phases"].values()) for result in results]
    first, last = results[0]["candidates"], results[-1]["candidates"]
    print(f"\npeak memory of a worker, MiB: {', '.join(map(str, peaks))}")
    print(f"{last:,} candidates against {first:,}: {peaks[-1] / peaks[0]:.2f} times")


if __name__ == "__main__":
    main()

"""Synthetic metadata through all steps that see the whole corpus: memory a worker, CPU, completion.

    python bench/scale.py [--candidates N ...] [--bucket-pairs N] [--workers N] [--ray]

For each count: candidates are drawn by partition (images under several addresses, texts that stand
with many images, looks in families a few bits apart), then the steps of a build run as they are,
from the routing by image to the pairs of the shards; only detection and agreement, which need
pixels, are drawn too. Units run in a pool of fresh processes, with --ray on Ray. Prints, for each
step, units, CPU seconds and the peak memory of a worker in one of its units, and what memory is at
the largest count against the smallest. A bucket's size is the same for all counts, and no more than
the smallest, so that all are full. All chance is a function of the candidate.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_pipeline.aggregation import aggregate, bucket_count, bucket_units
from data_pipeline.cluster import cluster
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import PHASES, Driver, Scheduler, attempt
from data_pipeline.steps.buckets import bucket_of_image, digest_of_text
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

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Scores = npt.NDArray[np.float64]
PIECE = 10_000  # candidates drawn at a time
ADDRESSES = 1.6  # candidates an image
FAMILY = 50  # of as many images, one in ten looks like another of them
WORDS = ("red", "old", "small", "boat", "tower", "horse", "market", "bridge", "garden", "street")
COMMON = 0.02  # share of candidates whose text stands everywhere


def draw(work: Work) -> Result:
    """Draw the routed candidates of one partition."""
    inputs = work.unit.inputs
    partition, rows, images = (int(inputs[name]) for name in ("partition", "rows", "images"))
    with partitioned(work.place("routed.parquet"), ROUTED) as table:
        for first in range(0, rows, PIECE):
            numbers = np.arange(first, min(rows, first + PIECE))
            generator = chance.generator("scale", partition, first)
            image = generator.integers(0, images, len(numbers), dtype=np.uint64)
            drawn = _pairs(partition, numbers, image, generator.random((len(numbers), 3)))
            buckets = [bucket_of_image(one, int(inputs["buckets"])) for one in drawn["sha256"]]
            table.add_table(np.array(buckets), pa.table(drawn, schema=ROUTED))
    return {"counts": {"pairs": rows}}


def _pairs(partition: int, rows: Numbers, images: Hashes, chances: Scores) -> dict[str, Any]:
    """Return routed candidates by column; what belongs to an image follows from its number."""
    count = len(rows)
    looks = _mixed(images, 1)
    family = _mixed(images // FAMILY * FAMILY, 1) ^ (np.uint64(0b11) << images % np.uint64(60))
    looks = np.where(_mixed(images, 2) % np.uint64(10) == 0, family, looks)
    host, number = (images % 9973).tolist(), images.tolist()
    same: dict[str, Any] = {
        "partition": partition,
        "robots": "[]",
        "licence": "",
        "extra": "",
        "width": 800,
        "height": 600,
        "unit": f"{partition}-00000",
        "offset": 0,
        "size": 1,
        "kind": "jpeg",
    }
    return {
        **{name: [value] * count for name, value in same.items()},
        "sha256": _hexed(np.stack([_mixed(images, salt) for salt in range(3, 7)], axis=1)),
        "row": rows,
        "url": [
            f"http://host{h}.example/pictures/{n}/{partition}-{row}.jpg"
            for h, n, row in zip(host, number, rows.tolist(), strict=True)
        ],
        "page": [
            f"http://host{h}.example/pages/{row % 97}.html"
            for h, row in zip(host, rows.tolist(), strict=True)
        ],
        "position": rows % 40,
        "texts": [
            f'[["alt", "{text}", 1.0], ["title", "{text} at dusk", 0.8]]'
            for text in map(_text, chances.tolist())
        ],
        "phash": _hexed(looks[:, None]),
    }


def _text(chances: list[float]) -> str:
    if chances[0] < COMMON:
        return f"Welcome to shop {int(chances[1] * 50)}"
    words = [WORDS[int(c * 1e6) % len(WORDS)] for c in chances]
    return f"A {' '.join(words)} near number {int(chances[1] * 1e9)}"


def _mixed(values: Hashes, salt: int) -> Hashes:
    """Return 64 bits that look drawn for each value (splitmix64)."""
    mixed = values + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _hexed(values: Hashes) -> list[str]:
    """Return each row of `values` [rows, words] in hexadecimal digits."""
    digits, width = values.astype(">u8").tobytes().hex(), values.shape[1] * 16
    return [digits[place : place + width] for place in range(0, len(digits), width)]


def score(work: Work) -> Result:
    """Draw the scores of one bucket, in the place of detector and agreement."""
    counts: Counter[str] = Counter()
    bucket = int(work.unit.inputs["bucket"])
    with partitioned(work.place("scored.parquet"), SCORED) as table:
        for place in work.earlier("route", "routed.parquet").values():
            for part in iterate_partition(place, bucket):
                drawn = _scored(part)
                counts.update(reason or "passed" for reason in drawn["reason"])
                where = part.column("partition").to_numpy().astype(np.int64)
                table.add_table(where, pa.table(drawn, schema=SCORED))
    return {"counts": dict(counts)}


def _scored(part: pa.Table) -> dict[str, Any]:
    """Return scored pairs by column: the first text scores what its image's hash begins with."""
    values = [int(one[:6], 16) / 2**24 for one in part.column("sha256").to_pylist()]
    scores = [(round(value, 4), round(value * 0.8, 4)) for value in values]
    texts = [said[10 : said.index('"', 10)] for said in part.column("texts").to_pylist()]
    known = {name: part.column(name) for name in SCORED.names if name in part.column_names}
    return {
        **known,
        "reason": ["" if first >= 0.2 else "low-score" for first, _ in scores],
        "captions": [
            f'[{{"text": "{text}", "source": "alt", "score": {first}}}, '
            f'{{"text": "{text} at dusk", "source": "title", "score": {second}}}]'
            for text, (first, second) in zip(texts, scores, strict=True)
        ],
        "evidence": ["[]"] * len(texts),
        "text_digests": [
            [digest_of_text(text), digest_of_text(f"{text} at dusk")] for text in texts
        ],
        "text_scores": scores,
    }


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
    parser.add_argument("--bucket-pairs", type=int, default=10_000)
    parser.add_argument("--partition", type=int, default=10_000, help="candidates in a partition")
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

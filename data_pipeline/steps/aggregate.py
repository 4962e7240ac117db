"""Step 5, aggregate: one pair for each image, and no text that stands with too many.

The steps before this one have worked over the whole corpus by bucket: what texts are too common
(`common_texts`), the best pair of each image (`choose`), which images look alike (`near_pairs`,
`components`), and which of these is best (`leaders`). Here one bucket of images is decided, and
what is kept is written with all that its shard needs. Whatever the order in which rows arrive, and
whatever the number of buckets, the outcome is that of `aggregate_plainly`.
"""

import json
from typing import Any

import pyarrow as pa

from data_pipeline.steps.detect import tags_of
from data_pipeline.steps.pair import SAME_LOOK
from data_pipeline.steps.route import ROUTED
from data_pipeline.steps.score import detector_of
from data_pipeline.steps.tables import (
    OUTCOMES,
    Row,
    iterate_partition,
    iterate_rows,
    partitioned,
    read_partition,
    write_rows,
)
from data_pipeline.units import Result, Work

PAIRS = pa.schema(
    [
        *ROUTED,
        ("captions", pa.string()),
        ("tags", pa.string()),  # JSON list of object names by confidence
        ("regions_unit", pa.string()),  # the unit of detection whose regions.bin has the regions
        ("regions_offset", pa.int64()),
        ("regions_size", pa.int64()),
    ]
)


def run(work: Work) -> Result:
    """Decide about the chosen pairs of one bucket; write outcomes, and the pairs to pack by key."""
    kept, lost = _decided(work)
    found: dict[str, Row] = {}
    bucket = int(work.unit.inputs["bucket"])
    for place in work.earlier("route", "routed.parquet").values() if kept else ():
        for part in iterate_partition(place, bucket):
            for row in part.to_pylist():
                pair = kept.get(row["sha256"])
                if pair is not None and (pair["partition"], pair["row"]) == (
                    row["partition"],
                    row["row"],
                ):
                    found[row["sha256"]] = {**row, "captions": pair["captions"]}
    for row in _detected(work, found):
        found[row["sha256"]].update(row)
    write_rows(work.place("pairs.parquet"), (found[digest] for digest in sorted(found)), PAIRS)
    return {"counts": {"kept": len(found), SAME_LOOK: lost}}


def _decided(work: Work) -> tuple[dict[str, Row], int]:
    """Write the outcomes of the chosen pairs; return the kept by hash, and the number of others."""
    same_as: dict[str, str] = {}
    if work.recipe.aggregate.enabled:
        bucket = int(work.unit.inputs["bucket"])
        for place in work.earlier("follow", "same.parquet").values():
            same_as |= {row["sha256"]: row["same_as"] for row in read_partition(place, bucket)}
    single = work.recipe.collect.source.kind != "captions"
    kept: dict[str, Row] = {}
    lost = 0
    with partitioned(work.place("outcomes.parquet"), OUTCOMES) as table:
        for pair in iterate_rows(work.earlier("choose", "chosen.parquet")[work.unit.name]):
            other = same_as.get(pair["sha256"], "")
            captions = _first(pair["captions"]) if single else pair["captions"]
            outcome = {"row": pair["row"], "captions": captions, "same_as": other}
            table.add(pair["partition"], {**outcome, "reason": SAME_LOOK if other else ""})
            lost += bool(other)
            if not other:
                kept[pair["sha256"]] = {**pair, "captions": captions}
    return kept, lost


def _first(captions: str) -> str:
    """Return the best of the captions in a JSON list, as a list."""
    return json.dumps(json.loads(captions)[:1], ensure_ascii=False)


def _detected(work: Work, wanted: dict[str, Any]) -> Any:
    """Yield tags and place of the regions of the wanted images of this bucket."""
    objects = detector_of(work)["objects"] if wanted else []
    places = work.earlier("detect", "detections.parquet")
    for group in work.unit.inputs["groups"] if wanted else ():
        for row in iterate_rows(places[group]):
            if row["sha256"] in wanted:
                yield {
                    "sha256": row["sha256"],
                    "tags": json.dumps(tags_of(row, objects), ensure_ascii=False),
                    "regions_unit": group,
                    "regions_offset": row["offset"],
                    "regions_size": row["size"],
                }

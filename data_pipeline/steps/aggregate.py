"""Step 5, aggregate: one pair for each image, and no text that stands with too many.

The steps before this one have worked over the whole corpus by bucket: what texts are too common
(`common_texts`), the best pair of each image (`choose`), which images look alike (`near_pairs`,
`components`), and which of these is best (`leaders`). Here one bucket of images is decided, and
what is kept is written with all that its shard needs. Whatever the order in which rows arrive, and
whatever the number of buckets, the outcome is that of `aggregate_plainly`.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.steps.choose import CHOSEN
from data_pipeline.steps.detect import tags_of
from data_pipeline.steps.leaders import SAME
from data_pipeline.steps.pair import SAME_LOOK
from data_pipeline.steps.route import ROUTED
from data_pipeline.steps.score import detector_of
from data_pipeline.steps.tables import (
    OUTCOMES,
    Row,
    iterate_partition,
    iterate_rows,
    partitioned,
    write_table,
)
from data_pipeline.units import Result, Work
from trawl import storage

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
_DECODER = json.JSONDecoder()


def run(work: Work) -> Result:
    """Decide about the chosen pairs of one bucket; write outcomes, and the pairs to pack by key."""
    kept, lost = _decided(work)
    routed = _routed(work, kept)
    columns = {name: routed.column(name) for name in ROUTED.names}
    columns["captions"] = kept.column("captions")
    images = kept.column("sha256").to_pylist()
    detected = _detected(work, set(images))
    for name in PAIRS.names[len(columns) :]:
        columns[name] = [detected[image][name] for image in images]
    write_table(work.place("pairs.parquet"), pa.table(columns, schema=PAIRS))
    return {"counts": {"kept": len(kept), SAME_LOOK: lost}}


def _decided(work: Work) -> tuple[pa.Table, int]:
    """Write the outcomes of the chosen pairs; return the kept by hash, and the number of others."""
    with storage.open_read(work.earlier("choose", "chosen.parquet")[work.unit.name]) as file:
        chosen = pq.ParquetFile(file).read().combine_chunks()
    others = pa.nulls(len(chosen), pa.string())
    if work.recipe.aggregate.enabled:
        bucket = int(work.unit.inputs["bucket"])
        parts = [
            part
            for place in work.earlier("follow", "same.parquet").values()
            for part in iterate_partition(place, bucket)
        ]
        same = pa.concat_tables([SAME.empty_table(), *parts]).combine_chunks()
        found = pc.index_in(chosen.column("sha256"), value_set=same.column("sha256"))
        others = same.column("same_as").take(found)
    if work.recipe.collect.source.kind != "captions":
        captions = pa.array(map(_first, chosen.column("captions").to_pylist()), pa.string())
        chosen = chosen.set_column(chosen.num_columns - 1, CHOSEN.field("captions"), captions)
    stays = pc.is_null(others)
    columns = {
        "row": chosen.column("row"),
        "reason": pc.if_else(stays, "", SAME_LOOK),
        "captions": chosen.column("captions"),
        "same_as": pc.fill_null(others, ""),
    }
    with partitioned(work.place("outcomes.parquet"), OUTCOMES) as table:
        partitions = chosen.column("partition").to_numpy().astype(np.int64)
        table.add_table(partitions, pa.table(columns, schema=OUTCOMES))
    kept = chosen.filter(stays).combine_chunks()
    return kept, len(chosen) - len(kept)


def _routed(work: Work, kept: pa.Table) -> pa.Table:
    """Return what the routes of this bucket say of the `kept` pairs, in their order."""
    bucket = int(work.unit.inputs["bucket"])
    partitions, rows = (kept.column(name).to_numpy() for name in ("partition", "row"))
    parts = [
        part.filter(np.isin(part.column("row").to_numpy(), rows[partitions == int(name)]))
        for name, place in (work.earlier("route", "routed.parquet").items() if len(kept) else ())
        for part in iterate_partition(place, bucket)
    ]
    return pa.concat_tables([ROUTED.empty_table(), *parts]).sort_by("sha256")


def _first(captions: str) -> str:
    """Return the best of the captions in a JSON list, as a list: the others are not parsed."""
    if captions == "[]":
        return captions
    _, end = _DECODER.raw_decode(captions, 1)
    return f"{captions[:end]}]"


def _detected(work: Work, wanted: set[str]) -> dict[str, Row]:
    """Return tags and place of the regions of the wanted images of this bucket."""
    objects = detector_of(work)["objects"] if wanted else []
    places = work.earlier("detect", "detections.parquet")
    return {
        row["sha256"]: {
            "tags": json.dumps(tags_of(row, objects), ensure_ascii=False),
            "regions_unit": group,
            "regions_offset": row["offset"],
            "regions_size": row["size"],
        }
        for group in (work.unit.inputs["groups"] if wanted else ())
        for row in iterate_rows(places[group])
        if row["sha256"] in wanted
    }

"""Finds the texts that stand with too many images, over the whole corpus.

An image lies in one bucket, so the images of a text are the sum of its images in the buckets: each
bucket counts its own, the buckets of texts add up, and send what is too common back to the buckets
of images that have it.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.steps.buckets import buckets_of_digests
from data_pipeline.steps.scored_pairs import ScoredPairs
from data_pipeline.steps.tables import iterate_partition, partitioned
from data_pipeline.units import Result, Work

COUNTS = pa.schema([("digest", pa.binary(16)), ("images", pa.int64()), ("bucket", pa.int32())])
COMMON = pa.schema([("digest", pa.binary(16))])
_PIECE = 1 << 16  # counts that wait to be added up


def count(work: Work) -> Result:
    """Count the images of each text in one bucket of images."""
    bucket, buckets = int(work.unit.inputs["bucket"]), int(work.unit.inputs["buckets"])
    place = work.earlier("score", "scored.parquet")[work.unit.name]
    pairs = ScoredPairs.read(place, ["sha256"], work.recipe.score.threshold)
    images = pairs.table.column("sha256").combine_chunks().dictionary_encode().indices
    texts = pa.table(
        {
            "digest": pairs.digests.filter(pa.array(pairs.agrees)),
            "image": images.take(pa.array(pairs.owner[pairs.agrees])),
        }
    )
    # One thread, so that the groups come in the order of their first rows.
    distinct = texts.group_by(["digest", "image"], use_threads=False).aggregate([])
    counted = distinct.group_by("digest", use_threads=False).aggregate([("image", "count")])
    digests = counted.column("digest").combine_chunks()
    columns = {
        "digest": digests,
        "images": counted.column("image_count"),
        "bucket": pa.array(np.full(len(digests), bucket, dtype=np.int32)),
    }
    with partitioned(work.place("counts.parquet"), COUNTS) as table:
        table.add_table(buckets_of_digests(digests, buckets), pa.table(columns, schema=COUNTS))
    return {"counts": {"texts": len(digests)}}


def find(work: Work) -> Result:
    """Add up the images of the texts of one bucket of texts; send back those with too many."""
    bucket, most = int(work.unit.inputs["bucket"]), work.recipe.aggregate.max_images_per_text
    places = list(work.earlier("count_texts", "counts.parquet").values())
    images = _added([COUNTS.empty_table().select(["digest", "images"])])
    waiting, rows = [], 0
    for place in places:
        for part in iterate_partition(place, bucket, ["digest", "images"]):
            waiting.append(part)
            rows += part.num_rows
            if rows > max(_PIECE, images.num_rows):
                images, waiting, rows = _added([images, *waiting]), [], 0
    images = _added([images, *waiting])
    common = images.filter(pc.greater(images.column("images"), most)).column("digest")
    common = common.combine_chunks()
    with partitioned(work.place("common.parquet"), COMMON) as table:
        for place in places if len(common) else ():
            for part in iterate_partition(place, bucket, ["digest", "bucket"]):
                found = part.filter(pc.is_in(part.column("digest"), value_set=common))
                asked = found.column("bucket").to_numpy().astype(np.int64)
                table.add_table(asked, found.select(COMMON.names))
    return {"counts": {"texts": images.num_rows, "common": len(common)}}


def _added(tables: list[pa.Table]) -> pa.Table:
    """Return counts with those of the same text added up."""
    grouped = pa.concat_tables(tables).group_by("digest", use_threads=False)
    return grouped.aggregate([("images", "sum")]).rename_columns(["digest", "images"])

"""Finds the texts that stand with too many images, over the whole corpus.

An image lies in one bucket, so the images of a text are the sum of its images in the buckets: each
bucket counts its own, the buckets of texts add up, and send what is too common back to the buckets
of images that have it.
"""

import collections

import pyarrow as pa

from data_pipeline.steps.buckets import bucket_of_digest, digest_of_text
from data_pipeline.steps.pair import COLUMNS, pair_of, text_key
from data_pipeline.steps.tables import iterate_partition, iterate_rows, partitioned
from data_pipeline.units import Result, Work

COUNTS = pa.schema([("digest", pa.binary(16)), ("images", pa.int64()), ("bucket", pa.int32())])
COMMON = pa.schema([("digest", pa.binary(16))])


def count(work: Work) -> Result:
    """Count the images of each text in one bucket of images."""
    bucket, buckets = int(work.unit.inputs["bucket"]), int(work.unit.inputs["buckets"])
    threshold = work.recipe.score.threshold
    seen: set[tuple[bytes, bytes]] = set()
    images: collections.Counter[bytes] = collections.Counter()
    for row in iterate_rows(work.earlier("score", "scored.parquet")[work.unit.name], COLUMNS):
        if row["reason"]:
            continue
        image = bytes.fromhex(row["sha256"])
        for text, _, _ in pair_of(row, threshold).captions:
            digest = digest_of_text(text_key(text))
            if (digest, image) not in seen:
                seen.add((digest, image))
                images[digest] += 1
    with partitioned(work.place("counts.parquet"), COUNTS) as table:
        for digest, number in images.items():
            row = {"digest": digest, "images": number, "bucket": bucket}
            table.add(bucket_of_digest(digest, buckets), row)
    return {"counts": {"texts": len(images)}}


def find(work: Work) -> Result:
    """Add up the images of the texts of one bucket of texts; send back those with too many."""
    bucket, most = int(work.unit.inputs["bucket"]), work.recipe.aggregate.max_images_per_text
    places = list(work.earlier("count_texts", "counts.parquet").values())
    images: collections.Counter[bytes] = collections.Counter()
    for place in places:
        for part in iterate_partition(place, bucket, ["digest", "images"]):
            for row in part.to_pylist():
                images[row["digest"]] += row["images"]
    common = {digest for digest, number in images.items() if number > most}
    with partitioned(work.place("common.parquet"), COMMON) as table:
        for place in places if common else ():
            for part in iterate_partition(place, bucket, ["digest", "bucket"]):
                for row in part.to_pylist():
                    if row["digest"] in common:
                        table.add(row["bucket"], {"digest": row["digest"]})
    return {"counts": {"texts": len(images), "common": len(common)}}

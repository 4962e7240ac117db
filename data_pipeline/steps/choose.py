"""Chooses the best pair of each image of a bucket, after the texts that are too common have gone.

What is chosen still has to stand beside the images that look alike: its perceptual hash goes on to
the search for those, by every choice of blocks of bits.
"""

import collections
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_pipeline.steps.buckets import buckets_of_values, digest_of_text
from data_pipeline.steps.near_duplicates import Hashes, masks
from data_pipeline.steps.pair import (
    COLUMNS,
    SAME_BYTES,
    TOO_COMMON,
    Captions,
    Outcome,
    Pair,
    captions_to_json,
    pair_of,
    text_key,
)
from data_pipeline.steps.tables import (
    OUTCOMES,
    iterate_rows,
    partitioned,
    read_partition,
    write_rows,
)
from data_pipeline.units import Result, Work

CHOSEN = pa.schema(
    [
        ("sha256", pa.string()),
        ("partition", pa.int32()),
        ("row", pa.int32()),
        ("phash", pa.string()),
        ("captions", pa.string()),
    ]
)
LOOKS = pa.schema(
    [
        ("phash", pa.uint64()),
        ("score", pa.float64()),
        ("sha256", pa.string()),
        ("bucket", pa.int32()),  # of the image
    ]
)
HASHES = pa.schema([("phash", pa.uint64())])


def run(work: Work) -> Result:
    """Choose in one bucket of images."""
    best = _best(work)
    others: dict[str, list[Pair]] = {}
    single = work.recipe.collect.source.kind != "captions"
    counts: collections.Counter[str] = collections.Counter()
    with partitioned(work.place("outcomes.parquet"), OUTCOMES) as table:
        for pair, rest in _pairs(work):
            identity = (pair.partition, pair.row)
            if pair.captions and not rest:
                counts[TOO_COMMON] += 1
                table.add(pair.partition, Outcome(pair, TOO_COMMON).to_row())
            elif (best[pair.sha256].partition, best[pair.sha256].row) != identity:
                counts[SAME_BYTES] += 1
                left = Outcome(pair.with_captions(rest), SAME_BYTES, pair.sha256)
                table.add(pair.partition, left.to_row())
                if not single:
                    others.setdefault(pair.sha256, []).append(left.pair)
    chosen = [best[digest] for digest in sorted(best)]
    if not single:
        chosen = [_with_all(pair, others.get(pair.sha256, [])) for pair in chosen]
    write_rows(work.place("chosen.parquet"), map(_row, chosen), CHOSEN)
    if work.recipe.aggregate.enabled:
        _send_hashes(work, chosen)
    return {"counts": {**counts, "images": len(chosen)}}


def _pairs(work: Work) -> Iterator[tuple[Pair, Captions]]:
    """Yield the pairs of the bucket, each with the captions that are not too common."""
    threshold, bucket = work.recipe.score.threshold, int(work.unit.inputs["bucket"])
    common: set[bytes] = set()
    if work.recipe.aggregate.enabled:
        for place in work.earlier("common_texts", "common.parquet").values():
            common.update(row["digest"] for row in read_partition(place, bucket))
    for row in iterate_rows(work.earlier("score", "scored.parquet")[work.unit.name], COLUMNS):
        if not row["reason"]:
            pair = pair_of(row, threshold)
            yield (
                pair,
                pair.captions
                if not common
                else tuple(
                    c for c in pair.captions if digest_of_text(text_key(c[0])) not in common
                ),
            )


def _best(work: Work) -> dict[str, Pair]:
    """Return the best pair of each image."""
    best: dict[str, Pair] = {}
    for pair, rest in _pairs(work):
        if rest or not pair.captions:
            pair = pair.with_captions(rest)
            known = best.get(pair.sha256)
            if known is None or pair.rank() < known.rank():
                best[pair.sha256] = pair
    return best


def _with_all(pair: Pair, others: list[Pair]) -> Pair:
    """Return a pair with the captions of the others of its image, the better ones first."""
    return pair.joined(other.captions for other in sorted(others, key=Pair.rank))


def _row(pair: Pair) -> dict[str, object]:
    known = {name: getattr(pair, name) for name in CHOSEN.names if name != "captions"}
    return {**known, "captions": captions_to_json(pair.captions)}


def _send_hashes(work: Work, chosen: list[Pair]) -> None:
    """Write the perceptual hashes, with what ranks them, and by what must be equal in them."""
    inputs = work.unit.inputs
    buckets, ranges = int(inputs["buckets"]), int(inputs["ranges"])
    values = np.array([int(pair.phash or "0", 16) for pair in chosen], dtype=np.uint64)
    table = pa.table(
        {
            "phash": values,
            "score": np.array([pair.score for pair in chosen], dtype=np.float64),
            "sha256": pa.array([pair.sha256 for pair in chosen], pa.string()),
            "bucket": np.full(len(chosen), int(inputs["bucket"]), dtype=np.int32),
        },
        schema=LOOKS,
    )
    with partitioned(work.place("looks.parquet"), LOOKS) as looks:
        looks.add_table(buckets_of_values(values, buckets), table)
    bits = work.recipe.aggregate.near_duplicate_bits
    distinct: Hashes = np.unique(values)
    with partitioned(work.place("hashes.parquet"), HASHES) as hashes:
        for number, mask in enumerate(masks(bits, int(inputs["untouched"]))):
            place = buckets_of_values(distinct & np.uint64(mask), ranges)
            hashes.add_table(number * ranges + place, pa.table({"phash": distinct}, HASHES))

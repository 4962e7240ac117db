"""Chooses the best pair of each image of a bucket, after the texts that are too common have gone.

What is chosen still has to stand beside the images that look alike: its perceptual hash goes on to
the search for those, by every choice of blocks of bits.
"""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.steps.buckets import buckets_of_values
from data_pipeline.steps.near_duplicates import Hashes, masks
from data_pipeline.steps.pair import SAME_BYTES, TOO_COMMON
from data_pipeline.steps.scored_pairs import Flags, Numbers, ScoredPairs, Scores
from data_pipeline.steps.tables import OUTCOMES, Row, iterate_partition, partitioned, write_table
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
_COLUMNS = ("partition", "row", "url", "page", "position", "sha256", "phash", "captions")
# What puts the best pair of an image first, and of equal ones the one that came first.
_RANK = [
    ("sha256", "ascending"),
    ("score", "descending"),
    ("url", "ascending"),
    ("page", "ascending"),
    ("position", "ascending"),
    ("number", "ascending"),
]


def run(work: Work) -> Result:
    """Choose in one bucket of images."""
    place = work.earlier("score", "scored.parquet")[work.unit.name]
    pairs = ScoredPairs.read(place, _COLUMNS, work.recipe.score.threshold)
    texts = _left(work, pairs)
    nothing_left = pairs.having(pairs.agrees) & ~pairs.having(texts)
    scores = pairs.best_scores(texts)
    ranked, first = _ranked(pairs, scores, ~nothing_left)
    best = ranked[first]
    dropped = np.sort(np.concatenate([ranked[~first], np.flatnonzero(nothing_left)]))
    # What was said of an image whose texts are all too common stays in its outcome.
    said = texts | (pairs.agrees & nothing_left[pairs.owner])
    _drop(work, pairs, dropped, nothing_left[dropped], pairs.captions(dropped, said))
    captions = pairs.captions(best, texts)
    if work.recipe.collect.source.kind == "captions":
        captions = _joined(pairs.captions(ranked, texts), first)
    chosen = pairs.table.select(CHOSEN.names[:-1]).take(pa.array(best))
    chosen = chosen.append_column("captions", captions).cast(CHOSEN)
    write_table(work.place("chosen.parquet"), chosen)
    if work.recipe.aggregate.enabled:
        _send_hashes(work, chosen, scores[best])
    counts = {TOO_COMMON: int(nothing_left.sum()), SAME_BYTES: int((~first).sum())}
    found = {reason: count for reason, count in counts.items() if count}
    return {"counts": {**found, "images": len(best)}}


def _left(work: Work, pairs: ScoredPairs) -> Flags:
    """Return which texts agree with their image and are not too common: bool [texts]."""
    if not work.recipe.aggregate.enabled:
        return pairs.agrees
    bucket = int(work.unit.inputs["bucket"])
    common = pa.chunked_array(
        [
            chunk
            for place in work.earlier("common_texts", "common.parquet").values()
            for part in iterate_partition(place, bucket)
            for chunk in part.column("digest").chunks
        ],
        pa.binary(16),
    )
    known = pc.is_in(pairs.digests, value_set=common.combine_chunks())
    return pairs.agrees & ~known.to_numpy(zero_copy_only=False)


def _ranked(pairs: ScoredPairs, scores: Scores, taken: Flags) -> tuple[Numbers, Flags]:
    """Return the pairs that are `taken`, by image and rank, and which of them are the best."""
    numbers = np.flatnonzero(taken)
    table = pairs.table.select(["sha256", "url", "page", "position"]).take(pa.array(numbers))
    table = table.append_column("score", pa.array(scores[numbers]))
    table = table.append_column("number", pa.array(numbers)).sort_by(_RANK)
    images = table.column("sha256").combine_chunks()
    first = np.ones(len(images), dtype=bool)
    if len(images) > 1:
        differs = pc.not_equal(images.slice(1), images.slice(0, len(images) - 1))
        first[1:] = differs.to_numpy(zero_copy_only=False)
    return table.column("number").to_numpy(), first


def _drop(work: Work, pairs: ScoredPairs, numbers: Numbers, common: Flags, said: pa.Array) -> None:
    """Write the outcomes of the pairs `numbers`, which are not chosen, with what was said of them.

    common bool [numbers]: whether it was for their texts, and not for a better pair of the image.
    """
    known = pairs.table.select(["partition", "row", "sha256"]).take(pa.array(numbers))
    marks = pa.array(common)
    columns = {
        "row": known.column("row"),
        "reason": pc.if_else(marks, TOO_COMMON, SAME_BYTES),
        "captions": said,
        "same_as": pc.if_else(marks, "", known.column("sha256")),
    }
    with partitioned(work.place("outcomes.parquet"), OUTCOMES) as table:
        partitions = known.column("partition").to_numpy().astype(np.int64)
        table.add_table(partitions, pa.table(columns, schema=OUTCOMES))


def _joined(captions: pa.Array, first: Flags) -> pa.Array:
    """Return for each image the captions of all of its pairs, each once, those of the best first.

    captions [ranked]: by image and rank; first: which of them are an image's first.
    """
    said = captions.to_pylist()
    starts = [*np.flatnonzero(first).tolist(), len(said)]
    joined = []
    for start, end in itertools.pairwise(starts):
        own = said[start]
        if end - start > 1:
            own = _with_others([json.loads(captions) for captions in said[start:end]])
        joined.append(own)
    return pa.array(joined, pa.string())


def _with_others(lists: list[list[Row]]) -> str:
    """Return as JSON the first list of captions, and behind it those of others that are new."""
    captions, known = list(lists[0]), {caption["text"] for caption in lists[0]}
    for other in lists[1:]:
        captions += [caption for caption in other if caption["text"] not in known]
        known.update(caption["text"] for caption in other)
    return json.dumps(captions, ensure_ascii=False)


def _send_hashes(work: Work, chosen: pa.Table, scores: Scores) -> None:
    """Write the perceptual hashes, with what ranks them, and by what must be equal in them."""
    inputs = work.unit.inputs
    buckets, ranges = int(inputs["buckets"]), int(inputs["ranges"])
    looks = chosen.column("phash").to_pylist()
    values = np.array([int(look or "0", 16) for look in looks], dtype=np.uint64)
    table = pa.table(
        {
            "phash": values,
            "score": scores,
            "sha256": chosen.column("sha256"),
            "bucket": np.full(len(values), int(inputs["bucket"]), dtype=np.int32),
        },
        schema=LOOKS,
    )
    with partitioned(work.place("looks.parquet"), LOOKS) as rows:
        rows.add_table(buckets_of_values(values, buckets), table)
    bits = work.recipe.aggregate.near_duplicate_bits
    distinct: Hashes = np.unique(values)
    with partitioned(work.place("hashes.parquet"), HASHES) as hashes:
        for number, mask in enumerate(masks(bits, int(inputs["untouched"]))):
            place = buckets_of_values(distinct & np.uint64(mask), ranges)
            hashes.add_table(number * ranges + place, pa.table({"phash": distinct}, HASHES))

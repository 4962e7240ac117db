"""Chooses who stands for each group of images that look alike: the pair with the best rank.

Three steps: the buckets of hashes name the best of each group that they see, the buckets of groups
choose among these, and the buckets of hashes tell the images that did not win.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_pipeline.steps.buckets import buckets_of_values
from data_pipeline.steps.near_duplicates import Hashes
from data_pipeline.steps.tables import iterate_partition, partitioned
from data_pipeline.units import Result, Work

BEST = pa.schema(
    [
        ("group", pa.uint64()),  # the smallest hash of the group
        ("score", pa.float64()),
        ("sha256", pa.string()),
        ("bucket", pa.int32()),  # of hashes, that asks
    ]
)
SAME = pa.schema([("sha256", pa.string()), ("same_as", pa.string())])
_PIECE = 1 << 15  # rows that wait to be reduced
_RANK = [("group", "ascending"), ("score", "descending"), ("sha256", "ascending")]


def name(work: Work) -> Result:
    """Name the best image of each group in one bucket of hashes."""
    bucket, buckets = int(work.unit.inputs["bucket"]), int(work.unit.inputs["buckets"])
    best, waiting, rows = BEST.empty_table(), [], 0
    for part in _grouped(work, bucket):
        waiting.append(part.select(BEST.names))
        rows += part.num_rows
        if rows > max(_PIECE, best.num_rows):
            best, waiting, rows = _best_of([best, *waiting]), [], 0
    best = _best_of([best, *waiting])
    with partitioned(work.place("best.parquet"), BEST) as table:
        groups = best.column("group").to_numpy()
        asked = pa.array(np.full(len(groups), bucket, dtype=np.int32))
        table.add_table(
            buckets_of_values(groups, buckets), best.set_column(3, BEST.field(3), asked)
        )
    return {"counts": {"groups": best.num_rows}}


def choose(work: Work) -> Result:
    """Choose the best image of each group of one bucket of groups; tell the buckets that asked."""
    bucket = int(work.unit.inputs["bucket"])
    parts = [
        part
        for place in work.earlier("name_best", "best.parquet").values()
        for part in iterate_partition(place, bucket)
    ]
    named = pa.concat_tables([BEST.empty_table(), *parts]).sort_by(_RANK)
    groups = named.column("group").to_numpy()
    first = _firsts(groups)
    leaders = np.flatnonzero(first)[np.cumsum(first) - 1] if len(groups) else np.zeros(0, np.int64)
    told = named.set_column(2, BEST.field(2), named.column("sha256").take(pa.array(leaders)))
    with partitioned(work.place("leaders.parquet"), BEST) as table:
        table.add_table(named.column("bucket").to_numpy().astype(np.int64), told)
    return {"counts": {"groups": int(first.sum())}}


def follow(work: Work) -> Result:
    """Tell each image of one bucket of hashes that is not the best of its group which one is."""
    bucket = int(work.unit.inputs["bucket"])
    parts = [
        part
        for place in work.earlier("leaders", "leaders.parquet").values()
        for part in iterate_partition(place, bucket, ["group", "sha256"])
    ]
    known = pa.concat_tables([BEST.empty_table().select(["group", "sha256"]), *parts])
    known = known.sort_by("group")
    groups, leaders = known.column("group").to_numpy(), known.column("sha256").combine_chunks()
    count = 0
    with partitioned(work.place("same.parquet"), SAME) as table:
        for part in _grouped(work, bucket):
            place = np.searchsorted(groups, part.column("group").to_numpy())
            same_as = pa.chunked_array([leaders.take(pa.array(place))])
            found = pa.table([part.column("sha256"), same_as], schema=SAME)
            lost = pa.compute.not_equal(found.column("sha256"), same_as)
            count += pa.compute.sum(lost).as_py() or 0
            buckets = part.column("bucket").to_numpy()[lost.to_numpy()].astype(np.int64)
            table.add_table(buckets, found.filter(lost))
    return {"counts": {"near-duplicate": count}}


def _grouped(work: Work, bucket: int) -> Iterator[pa.Table]:
    """Yield the images of one bucket of hashes with their groups, piece by piece.

    A hash without a link is a group of its own.
    """
    hashes, groups = _groups(work, bucket)
    for place in work.earlier("choose", "looks.parquet").values():
        for part in iterate_partition(place, bucket):
            values = part.column("phash").to_numpy()
            spot = np.minimum(np.searchsorted(hashes, values), max(0, len(hashes) - 1))
            linked = hashes[spot] == values if len(hashes) else np.zeros(len(values), dtype=bool)
            group = values.copy()
            group[linked] = groups[spot[linked]]
            yield part.append_column(BEST.field(0), pa.array(group))


def _groups(work: Work, bucket: int) -> tuple[Hashes, Hashes]:
    """Return the hashes of a bucket that are linked, sorted, and the smallest hash of each's group.

    Links are stars by now: a hash is linked to the smallest of its group, or is it.
    """
    one, other = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.uint64)]
    for place in work.earlier("components", "links.parquet").values():
        for part in iterate_partition(place, bucket):
            hashes, others = part.column("hash").to_numpy(), part.column("other").to_numpy()
            one.append(hashes[others < hashes])
            other.append(others[others < hashes])
    hashes, first = np.unique(np.concatenate(one), return_index=True)
    return hashes, np.concatenate(other)[first]


def _best_of(tables: list[pa.Table]) -> pa.Table:
    """Return the best row of each group."""
    table = pa.concat_tables(tables).sort_by(_RANK)
    return table.filter(pa.array(_firsts(table.column("group").to_numpy())))


def _firsts(groups: Hashes) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Say of sorted groups which entry is the first of its kind."""
    first = np.ones(len(groups), dtype=bool)
    first[1:] = groups[1:] != groups[:-1]
    return first

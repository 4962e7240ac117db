"""Turns links into stars: every hash of a connected group linked to the smallest of its group.

A few links are joined in one unit. Many go through rounds of two operations by bucket, after which
every link leads to the smallest hash of its group (Kiveris et al., "Connected components in
MapReduce and beyond", 2014): the large star links the larger neighbours of each hash to its
smallest neighbour, the small star the smaller ones. A hash's links are read in pieces, so memory
follows the number of hashes in a bucket, not that of links.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_pipeline.steps.buckets import bucket_name, buckets_of_values
from data_pipeline.steps.near_duplicates import Hashes, Joined
from data_pipeline.steps.near_pairs import LINKS, add_links
from data_pipeline.steps.tables import iterate_partition, partitioned
from data_pipeline.units import Result, Work

_PIECE = 1 << 18  # links that wait to be reduced


def join(work: Work) -> Result:
    """Join all links in one unit."""
    buckets = int(work.unit.inputs["buckets"])
    found = [links for bucket in range(buckets) for links in _links(work, "near", bucket)]
    one = np.concatenate([np.zeros(0, dtype=np.uint64), *(links[0] for links in found)])
    other = np.concatenate([np.zeros(0, dtype=np.uint64), *(links[1] for links in found)])
    values, numbers = np.unique(np.concatenate([one, other]), return_inverse=True)
    joined = Joined(len(values))
    joined.add(numbers[: len(one)], numbers[len(one) :])
    joined.settle()
    apart = joined.labels != np.arange(len(values))
    with partitioned(work.place("links.parquet"), LINKS) as table:
        add_links(table, values[apart], values[joined.labels[apart]], buckets)
    return {"counts": {"hashes": len(values)}, "changed": 0}


def large_star(work: Work) -> Result:
    """Link the larger neighbours of each hash of a bucket to its smallest neighbour or itself."""
    inputs = work.unit.inputs
    bucket, buckets, round_ = (int(inputs[name]) for name in ("bucket", "buckets", "round"))
    before = "near" if round_ == 0 else "small_star"
    least = _least(_links(work, before, bucket))
    changed = 0
    with partitioned(work.place("links.parquet"), LINKS) as table:
        for one, other in _links(work, before, bucket):
            larger = other > one
            centre = np.minimum(least.of(one[larger]), one[larger])
            changed += int((centre != one[larger]).sum())
            links = np.unique(np.stack([other[larger], centre]), axis=1)
            columns = pa.table({"hash": links[0], "other": links[1]}, schema=LINKS)
            table.add_table(buckets_of_values(links[0], buckets), columns)
    return {"counts": {"hashes": len(least.hashes)}, "changed": changed}


def small_star(work: Work) -> Result:
    """Link each hash of a bucket and its smaller neighbours to the smallest of these."""
    bucket, buckets = int(work.unit.inputs["bucket"]), int(work.unit.inputs["buckets"])
    least = _least(_links(work, "large_star", bucket))
    changed = 0
    with partitioned(work.place("links.parquet"), LINKS) as table:
        add_links(table, least.hashes, least.others, buckets)
        for one, other in _links(work, "large_star", bucket):
            centre = least.of(one)
            apart = other != centre
            changed += int(apart.sum())
            links = np.unique(np.stack([other[apart], centre[apart]]), axis=1)
            add_links(table, links[0], links[1], buckets)
    return {"counts": {"hashes": len(least.hashes)}, "changed": changed}


def _links(work: Work, phase: str, bucket: int) -> Iterator[tuple[Hashes, Hashes]]:
    """Yield the links of a bucket, hash and other, piece by piece."""
    for place in work.earlier(phase, "links.parquet").values():
        for part in iterate_partition(place, bucket):
            yield part.column("hash").to_numpy(), part.column("other").to_numpy()


class _Least:
    """The smallest `others` of each of `hashes` (sorted)."""

    def __init__(self, hashes: Hashes, others: Hashes) -> None:
        order = np.lexsort((others, hashes))
        hashes, others = hashes[order], others[order]
        first = np.ones(len(hashes), dtype=bool)
        first[1:] = hashes[1:] != hashes[:-1]
        self.hashes, self.others = hashes[first], others[first]

    def of(self, hashes: Hashes) -> Hashes:
        """Return the smallest other of each hash."""
        return self.others[np.searchsorted(self.hashes, hashes)]


def _least(links: Iterator[tuple[Hashes, Hashes]]) -> _Least:
    """Return the smallest neighbour of every hash."""
    empty = np.zeros(0, dtype=np.uint64)
    least = _Least(empty, empty)
    waiting = [(least.hashes, least.others)]
    rows = 0
    for one, other in links:
        waiting.append((one, other))
        rows += len(one)
        if rows > max(_PIECE, len(least.hashes)):
            least, rows = _merged(waiting), 0
            waiting = [(least.hashes, least.others)]
    return _merged(waiting)


def _merged(pieces: list[tuple[Hashes, Hashes]]) -> _Least:
    return _Least(
        np.concatenate([hashes for hashes, _ in pieces]),
        np.concatenate([others for _, others in pieces]),
    )


def round_name(number: int, bucket: int) -> str:
    """Return the name of the unit that does a bucket in one round."""
    return f"{number:03d}-{bucket_name(bucket)}"

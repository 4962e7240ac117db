"""Links perceptual hashes that are near each other, a bounded number of hashes at a time.

A unit holds the hashes that may be equal in one choice of blocks of bits; for each group that it
finds, it writes a link from every hash to the smallest. Links of all units together join exactly
what comparing every two would.
"""

import numpy as np
import pyarrow as pa

from data_pipeline.steps.buckets import buckets_of_values
from data_pipeline.steps.near_duplicates import Hashes, linked, masks
from data_pipeline.steps.tables import PartitionedRows, iterate_partition, partitioned
from data_pipeline.units import Result, Work

# Each link from both of its ends, by the bucket of `hash`.
LINKS = pa.schema([("hash", pa.uint64()), ("other", pa.uint64())])


def run(work: Work) -> Result:
    """Find the links among the hashes of one unit."""
    inputs = work.unit.inputs
    number, ranges = int(inputs["number"]), int(inputs["ranges"])
    bits = work.recipe.aggregate.near_duplicate_bits
    mask = masks(bits, int(inputs["untouched"]))[number // ranges]
    values = np.unique(
        np.concatenate(
            [
                np.zeros(0, dtype=np.uint64),
                *(
                    part.column("phash").to_numpy()
                    for place in work.earlier("choose", "hashes.parquet").values()
                    for part in iterate_partition(place, number)
                ),
            ]
        )
    )
    labels = linked(values, bits, mask)
    apart = labels != np.arange(len(values))
    with partitioned(work.place("links.parquet"), LINKS) as table:
        add_links(table, values[apart], values[labels[apart]], int(inputs["buckets"]))
    return {"counts": {"hashes": len(values), "links": int(apart.sum())}}


def add_links(table: PartitionedRows, one: Hashes, other: Hashes, buckets: int) -> None:
    """Add links between the hashes `one` and `other` [links] to a table, from both ends."""
    for first, second in ((one, other), (other, one)):
        columns = pa.table({"hash": first, "other": second}, schema=LINKS)
        table.add_table(buckets_of_values(first, buckets), columns)

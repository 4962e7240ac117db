"""Lists the images of one bucket that are to be detected, each once, by hash."""

import pyarrow as pa

from data_pipeline.steps.tables import Row, iterate_partition, write_rows
from data_pipeline.units import Result, Work

PLAN = pa.schema(
    [
        ("sha256", pa.string()),
        ("unit", pa.string()),  # the download unit whose images.bin has the bytes
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("kind", pa.string()),
    ]
)


def run(work: Work) -> Result:
    """Write the plan of one bucket."""
    bucket = int(work.unit.inputs["bucket"])
    found: dict[str, Row] = {}
    pairs = 0
    for place in work.earlier("route", "routed.parquet").values():
        for part in iterate_partition(place, bucket, PLAN.names):
            pairs += part.num_rows
            for row in part.to_pylist():
                found.setdefault(row["sha256"], row)
    write_rows(work.place("plan.parquet"), (found[digest] for digest in sorted(found)), PLAN)
    return {"counts": {"images": len(found)}, "pairs": pairs}

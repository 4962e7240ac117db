"""Sends each candidate that has an image and a text on to the bucket of its image.

Up to here the work goes by address, from here on by what the image is, for only then do the copies
of one image under several addresses meet.
"""

from collections.abc import Iterator

import pyarrow as pa

from data_pipeline.steps.arrivals import images_of, looks_of
from data_pipeline.steps.buckets import bucket_of_image
from data_pipeline.steps.tables import Row, iterate_rows, partitioned
from data_pipeline.units import Result, Work

ROUTED = pa.schema(
    [
        ("sha256", pa.string()),
        ("partition", pa.int32()),
        ("row", pa.int32()),  # number of the candidate in its partition
        ("url", pa.string()),
        ("page", pa.string()),
        ("position", pa.int32()),
        ("texts", pa.string()),  # JSON list of [source, text, trust], best trusted first
        ("robots", pa.string()),
        ("licence", pa.string()),
        ("extra", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.string()),
        ("unit", pa.string()),  # the download unit whose images.bin has the bytes
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("kind", pa.string()),
    ]
)
_OF_CANDIDATE = ("url", "page", "position", "robots", "licence", "extra")
_OF_IMAGE = ("sha256", "unit", "offset", "size", "kind")
_OF_LOOKS = ("width", "height", "phash")


def run(work: Work) -> Result:
    """Route the candidates of one partition."""
    buckets = int(work.unit.inputs["buckets"])
    count = 0
    with partitioned(work.place("routed.parquet"), ROUTED) as table:
        for row in _complete(work, str(work.unit.inputs["partition"])):
            table.add(bucket_of_image(row["sha256"], buckets), row)
            count += 1
    return {"counts": {"pairs": count}}


def _complete(work: Work, partition: str) -> Iterator[Row]:
    """Yield the candidates of a partition whose image passed the filter and that have a text."""
    images, looks = images_of(work, partition), looks_of(work, partition)
    passed = {digest: row for digest, row in looks.items() if not row["reason"]}
    texts = iterate_rows(work.earlier("sentences", "texts.parquet")[partition])
    text = next(texts, None)
    candidates = iterate_rows(work.earlier("gather", "candidates.parquet")[partition])
    for number, candidate in enumerate(candidates):
        if text is None or text["row"] != number:
            continue
        found, text = text, next(texts, None)
        image = images.get(candidate["url"], {})
        if found["reason"] or image.get("sha256") not in passed:
            continue
        yield {
            "partition": int(partition),
            "row": number,
            "texts": found["texts"],
            **{name: candidate[name] for name in _OF_CANDIDATE},
            **{name: image[name] for name in _OF_IMAGE},
            **{name: passed[image["sha256"]][name] for name in _OF_LOOKS},
        }

"""Finds where the images of WARC files lie when their addresses redirect to others.

A redirect's target usually belongs to another partition, so redirects are followed here, in one
unit that holds the redirects and their targets only; every other image needs no such look-up.
"""

from data_pipeline.steps.collect import partition_of_image
from data_pipeline.steps.tables import (
    LOCATIONS,
    Row,
    iterate_rows,
    partitioned,
)
from data_pipeline.units import Result, Work

_MAX_HOPS = 5


def run(work: Work) -> Result:
    """Write a location under each redirecting address: that of the image it leads to in the end."""
    files = list(work.earlier("collect", "locations.parquet").values())
    redirects: dict[str, str] = {}
    for place in files:
        for row in iterate_rows(place, ["url", "target"]):
            if row["target"]:
                redirects.setdefault(row["url"], row["target"])
    ends = {url: _follow(url, redirects) for url in redirects}
    targets = set(ends.values())
    found: dict[str, Row] = {}
    for place in files:
        for row in iterate_rows(place):
            if row["url"] in targets and not row["target"]:
                found.setdefault(row["url"], row)
    with partitioned(work.place("locations.parquet"), LOCATIONS) as rows:
        for url in sorted(ends):
            if ends[url] in found:
                rows.add(partition_of_image(url, work.recipe), {**found[ends[url]], "url": url})
    return {"counts": {"redirects": len(ends)}}


def _follow(url: str, redirects: dict[str, str]) -> str:
    """Return where a chain of redirects ends, "" if it is a circle or too long."""
    for _ in range(_MAX_HOPS):
        url = redirects[url]
        if url not in redirects:
            return url
    return ""

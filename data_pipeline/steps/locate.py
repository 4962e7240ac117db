"""Finds where images of WARC files lie that another partition holds than the one that asks.

A redirect's target usually belongs to another partition, so redirects are followed here, in one
unit that holds the redirects and their targets only. And images are gathered by folder, while the
larger form of a thumbnail often lies in another: there each partition looks up what others wish for
and lends them the places, so that the same addresses are tried as in a build from the live web.
Every other image needs no such look-up.
"""

import collections
from collections.abc import Iterable

from data_pipeline.steps.collect import partition_of_image
from data_pipeline.steps.tables import (
    LOCATIONS,
    Row,
    iterate_rows,
    partitioned,
    read_partition,
)
from data_pipeline.units import Result, Work

_MAX_HOPS = 5
_WHERE = ("uri", "offset", "length", "status")


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


def lend(work: Work) -> Result:
    """Write the places that other partitions wish for, under the partitions that do."""
    partition = int(work.unit.inputs["partition"])
    homes: dict[str, set[int]] = collections.defaultdict(set)
    for place in work.earlier("collect", "wishes.parquet").values():
        for row in read_partition(place, partition):
            homes[row["url"]].add(row["home"])
    found = places_of(work, partition, ("collect", "locate")) if homes else {}
    with partitioned(work.place("locations.parquet"), LOCATIONS) as rows:
        for url in sorted(homes.keys() & found.keys()):
            for home in sorted(homes[url]):
                rows.add(home, {**found[url], "url": url, "target": ""})
    return {"counts": {"wished": len(homes)}}


def places_of(work: Work, partition: int, phases: Iterable[str]) -> dict[str, Row]:
    """Return where the images of a partition lie in the WARC files, by address.

    An address that was captured several times counts as the first good capture has it, in the
    order of the files' names.
    """
    found: dict[str, Row] = {}
    for phase in phases:
        for place in work.earlier(phase, "locations.parquet").values():
            for row in read_partition(place, partition):
                known = found.get(row["url"])
                if not row["target"] and (known is None or known["status"] != 200):
                    found[row["url"]] = {name: row[name] for name in _WHERE}
    return found


def _follow(url: str, redirects: dict[str, str]) -> str:
    """Return where a chain of redirects ends, "" if it is a circle or too long."""
    for _ in range(_MAX_HOPS):
        url = redirects[url]
        if url not in redirects:
            return url
    return ""

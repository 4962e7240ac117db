"""Brings the candidates of one partition together from all that were collected.

Writes them in a fixed order, whose row numbers later steps refer to, and lists the addresses to
fetch, each once, the hosts mixed so that no host is asked for everything at once.
"""

import hashlib
import json
from typing import Any

import pyarrow as pa

from data_pipeline.crawl.address import host_of
from data_pipeline.steps.locate import places_of
from data_pipeline.steps.tables import CANDIDATES, Row, read_partition, write_rows
from data_pipeline.takedowns import Takedowns, forgotten_candidate
from data_pipeline.units import Result, Work

URLS = pa.schema(
    [
        ("url", pa.string()),
        ("places", pa.string()),  # JSON list of places to try: url, and uri ... in WARC files
    ]
)
URLS_PER_UNIT = 1_000
_MOST_PLACES = 3


def run(work: Work) -> Result:
    """Write candidates.parquet and urls.parquet of one partition."""
    partition = int(work.unit.inputs["partition"])
    phase = "crawl" if work.recipe.collect.source.kind == "crawl" else "collect"
    found: dict[tuple[Any, ...], Row] = {}
    for place in work.earlier(phase, "candidates.parquet").values():
        for row in read_partition(place, partition):
            # A page that was captured twice gives its candidates twice: they are one.
            found.setdefault((row["url"], row["page"], row["position"]), row)
    taken = Takedowns.of(work.out)
    for identity, row in found.items() if taken else ():
        if taken.take_address(row["url"], row["page"]):
            found[identity] = forgotten_candidate(row)
    rows = [found[identity] for identity in sorted(found)]
    write_rows(work.place("candidates.parquet"), rows, CANDIDATES)
    alternatives = _alternatives(rows)
    archived = work.recipe.download.source == "warc"
    locations = places_of(work, partition, ("collect", "locate", "lend")) if archived else {}
    urls = [
        {"url": url, "places": _places(url, alternatives[url], locations)}
        for url in sorted(alternatives, key=_mixed)
    ]
    write_rows(work.place("urls.parquet"), urls, URLS, group=URLS_PER_UNIT)
    return {"counts": {"candidates": len(rows), "urls": len(urls)}}


def _alternatives(rows: list[Row]) -> dict[str, list[str]]:
    """Return the addresses to fetch, each with the others that pages name for the same picture."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row["reason"]:
            found.setdefault(row["url"], []).extend(json.loads(row["alternatives"]))
    return {url: list(dict.fromkeys(others)) for url, others in found.items()}


def _places(url: str, others: list[str], locations: dict[str, Row]) -> str:
    """Return the places to try for a picture as JSON, those on other hosts left out.

    One partition holds whole hosts of the live web, so no host is asked from elsewhere too.
    """
    near = [other for other in others if host_of(other) == host_of(url)]
    places = [
        {"url": other, "uri": "", "offset": 0, "length": 0, "status": 0, **locations.get(other, {})}
        for other in [url, *near][:_MOST_PLACES]
    ]
    return json.dumps(places)


def _mixed(url: str) -> bytes:
    """Return a key that puts addresses in a fixed order without regard to their hosts."""
    return hashlib.sha256(url.encode()).digest()

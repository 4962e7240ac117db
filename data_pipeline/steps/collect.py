"""Step 1, collect: from any source to candidates, each an image address with its texts.

LAIT drops pages that are not English and images that do not dominate their page; what is dropped
here keeps its row and its reason. Pages fetched live come through `crawl_round`, by the same way.
"""

import collections
import json
from collections.abc import Iterable
from typing import Any

from data_pipeline.crawl.address import canonical, host_of
from data_pipeline.crawl.consent import merged, stored_signals
from data_pipeline.crawl.html import extract
from data_pipeline.crawl.page import Candidate, Page, WarcRecord
from data_pipeline.crawl.warc import METADATA, read_warc
from data_pipeline.images import sniff
from data_pipeline.recipe import Collect, CorpusRecipe
from data_pipeline.sources import wat
from data_pipeline.sources.recipe import CaptionsSource, TableSource, WatSource
from data_pipeline.sources.table import part_of, read_slice, text_source
from data_pipeline.sources.table_row import BAD_URL, TableRow
from data_pipeline.steps import captions
from data_pipeline.steps.tables import (
    CANDIDATES,
    LOCATIONS,
    WISHES,
    PartitionedRows,
    Row,
    partition_of,
    partitioned,
)
from data_pipeline.units import Result, Work

OPT_OUT = ("noai", "noimageai", "noimageindex", "noindex", "tdm-reservation")
_MAX_TEXTS = 16
_MAX_TEXT_LETTERS = 2_000
_REDIRECTS = (301, 302, 303, 307, 308)


def run(work: Work) -> Result:
    """Collect one WARC or WAT file, or one slice of a table or a caption set."""
    source = work.recipe.collect.source
    if isinstance(source, CaptionsSource):
        return captions.run(work)
    if isinstance(source, TableSource):
        return _collect_table(work, source)
    return _collect_wat(work) if isinstance(source, WatSource) else _collect_warc(work)


def _collect_warc(work: Work) -> Result:
    """Write the candidates of the pages of one WARC file, and where its images lie."""
    counts: collections.Counter[str] = collections.Counter()
    agent = work.recipe.download.agent_token
    with (
        partitioned(work.place("candidates.parquet"), CANDIDATES) as rows,
        partitioned(work.place("locations.parquet"), LOCATIONS) as locations,
        partitioned(work.place("wishes.parquet"), WISHES) as wishes,
    ):
        for record in read_warc(str(work.unit.inputs["uri"])):
            if record.error is not None or record.body is None:
                counts[f"record {record.error}"] += 1
            elif is_page(record.content_type) and record.status == 200:
                page = extract(
                    record.url, record.body, record.content_type, with_links=False, agent=agent
                )
                signals = signals_of(record, work.recipe)
                add_page(with_signals(page, signals), work.recipe, rows, counts)
                _wish(page, work.recipe, wishes)
            elif (location := _location_of(record)) is not None:
                counts["images"] += 1
                locations.add(partition_of_image(record.url, work.recipe), location)
            else:
                counts["other records"] += 1
    return {"counts": dict(counts)}


def _wish(page: Page, recipe: CorpusRecipe, wishes: PartitionedRows) -> None:
    """Ask other partitions for the places of a picture's other addresses, of its host alone."""
    for candidate in page.candidates:
        if candidate.alternatives and not reason_of(candidate, recipe.collect):
            home = partition_of_image(candidate.image, recipe)
            for other in candidate.alternatives:
                partition = partition_of_image(other, recipe)
                if partition != home and host_of(other) == host_of(candidate.image):
                    wishes.add(partition, {"url": other, "home": home})


def _collect_wat(work: Work) -> Result:
    """Write the candidates of the pages that one WAT file describes."""
    counts: collections.Counter[str] = collections.Counter()
    agent = work.recipe.download.agent_token
    uri = str(work.unit.inputs["uri"])
    with partitioned(work.place("candidates.parquet"), CANDIDATES) as rows:
        for record in read_warc(uri, kinds=METADATA):
            if record.error is not None or record.body is None:
                counts[f"record {record.error}"] += 1
            elif (page := wat.page_of(record.body, agent)) is None:
                counts["other records"] += 1
            else:
                add_page(page, work.recipe, rows, counts)
    return {"counts": dict(counts)}


def _collect_table(work: Work, source: TableSource) -> Result:
    """Write the candidates of one part of a table, a row each, the bad rows among them."""
    counts: collections.Counter[str] = collections.Counter()
    part, kind = part_of(work.unit.inputs), text_source(source)
    with partitioned(work.place("candidates.parquet"), CANDIDATES) as rows:
        for found in read_slice(part, source):
            row = _row_of_table(found, part.name, kind)
            counts["candidates"] += 1
            if row["reason"]:
                counts[row["reason"]] += 1
                partition = partition_of(row["url"], work.recipe.collect.partitions)
            else:
                partition = partition_of_image(row["url"], work.recipe)
            rows.add(partition, row)
    return {"counts": dict(counts)}


def _row_of_table(found: TableRow, table: str, kind: str) -> Row:
    """Return the candidate of one row; its page is the part of the table that it stands in."""
    url = canonical(found.url) if not found.fault else None
    return {
        "url": url or found.url[:_MAX_TEXT_LETTERS],
        "page": table,
        "position": found.number,
        "alternatives": "[]",
        "texts": _json([[kind, found.caption[:_MAX_TEXT_LETTERS]]]),
        "robots": "[]",
        "licence": found.licence,
        "reason": found.fault or ("" if url else BAD_URL),
        "notes": "{}",
        "extra": "",
    }


def signals_of(record: WarcRecord, recipe: CorpusRecipe) -> list[str]:
    """Return the opt-out signals in the HTTP headers of a record."""
    return stored_signals(record.headers, recipe.download.agent_token)


def with_signals(page: Page, signals: list[str]) -> Page:
    """Return `page` with the opt-out signals of its HTTP headers laid on it and its candidates."""
    if "nofollow" in signals:
        page.links = []
    for candidate in page.candidates:
        candidate.robots = merged(candidate.robots, signals)
    return page


def is_page(content_type: str) -> bool:
    """Say whether a declared type is that of a page."""
    return content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def _location_of(record: WarcRecord) -> Row | None:
    """Return where an image lies, or that its address redirects or fails; None for other things."""
    target = ""
    if record.status in _REDIRECTS:
        target = canonical(record.headers.get("location", ""), record.url) or ""
    elif record.status == 200 and not _is_image(record):
        return None
    return {
        "url": record.url,
        "uri": record.uri,
        "offset": record.offset,
        "length": record.length,
        "status": record.status,
        "target": target,
    }


def _is_image(record: WarcRecord) -> bool:
    return record.content_type.startswith("image/") or bool(sniff(record.body or b""))


def add_page(
    page: Page, recipe: CorpusRecipe, rows: PartitionedRows, counts: collections.Counter[str]
) -> None:
    """Add the candidates of one page, each with the reason if it is dropped at once."""
    counts["pages"] += 1
    if page.error is not None:
        counts[f"page {page.error}"] += 1
    for candidate in page.candidates:
        row = row_of(candidate, recipe.collect)
        counts["candidates"] += 1
        rows.add(partition_of_image(row["url"], recipe), row)


def partition_of_image(url: str, recipe: CorpusRecipe) -> int:
    """Return the partition of an image: by host if it will be fetched, else by folder.

    All addresses of a host in one partition is what lets one process at a time talk to it; folders
    are smaller and still keep the sizes of one picture together.
    """
    if recipe.collect.source.kind == "captions":
        group = url
    elif recipe.download.source == "web":
        group = host_of(url)
    else:
        group = url.partition("?")[0].rpartition("/")[0]
    return partition_of(group, recipe.collect.partitions)


def row_of(candidate: Candidate, collect: Collect) -> Row:
    """Return the row of a candidate that was found on a page."""
    texts = [[text.source, text.text[:_MAX_TEXT_LETTERS]] for text in candidate.texts]
    notes = {
        "language": candidate.language,
        "container": candidate.container,
        "dominance": round(candidate.dominance, 3),
        "declared": [candidate.width, candidate.height],
    }
    return {
        "url": candidate.image,
        "page": candidate.page,
        "position": candidate.position,
        "alternatives": _json(candidate.alternatives),
        "texts": _json(texts[:_MAX_TEXTS]),
        "robots": _json(candidate.robots),
        "licence": candidate.licence or "",
        "reason": reason_of(candidate, collect),
        "notes": _json(notes),
        "extra": "",
    }


def reason_of(candidate: Candidate, collect: Collect) -> str:
    """Return why a candidate is dropped before anything is fetched, "" if it is not."""
    if collect.languages and candidate.language not in ("", *collect.languages):
        return "page-language"
    if collect.respect_opt_out and any(signal in OPT_OUT for signal in candidate.robots):
        return "opt-out"
    if candidate.dominance < collect.min_dominance:
        return "not-dominant"
    return ""


def _json(value: Iterable[Any] | dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)

"""Keeps thumbnails of a few dropped images of each reason, for the report.

Which ones is decided by hash, so that the gallery is the same each time; it is no part of the
corpus and no checksum covers it.
"""

import base64
import heapq
import json

from data_pipeline.corpus import decisions
from data_pipeline.steps.detect import read_spots
from data_pipeline.steps.image_filter import thumbnail_of
from data_pipeline.steps.tables import Row, partition_of, read_rows
from data_pipeline.units import Result, Work
from trawl import storage

PLACE = ("report", "dropped.jsonl")
_EACH = 6
_COLUMNS = ("url", "page", "step", "reason", "text", "score", "scores", "width", "height", "sha256")
_MANY = 1 << 30


def run(work: Work) -> Result:
    """Write the dropped candidates that the report shows, each with a thumbnail."""
    chosen = _chosen(work)
    spots = _spots(work, {row["sha256"] for row in chosen})
    lines = []
    for row in chosen:
        data = next(read_spots([spots[row["sha256"]]]), b"") if row["sha256"] in spots else b""
        picture = thumbnail_of(data, work.recipe.image_filter) if data else None
        if picture is not None:
            line = {**row, "thumbnail": base64.b64encode(picture).decode()}
            lines.append(json.dumps(line, ensure_ascii=False, sort_keys=True))
    storage.write_text(storage.join(work.out, *PLACE), "".join(line + "\n" for line in lines))
    return {"counts": {"thumbnails": len(lines)}}


def _chosen(work: Work) -> list[Row]:
    """Return a few dropped candidates of each reason whose images arrived."""
    by_reason: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for row in decisions.read_decisions(work.out, _COLUMNS):
        if row["sha256"] and row["reason"] != decisions.KEPT:
            group = by_reason.setdefault((row["step"], row["reason"]), [])
            group.append((partition_of(row["url"] + row["page"], _MANY), row))
            if len(group) > 20 * _EACH:
                group[:] = _smallest(group)
    return [row for reason in sorted(by_reason) for _, row in _smallest(by_reason[reason])]


def _smallest(group: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    return heapq.nsmallest(_EACH, group, key=lambda entry: entry[0])


def _spots(work: Work, wanted: set[str]) -> dict[str, Row]:
    """Return where the images with the hashes `wanted` lie."""
    bins = work.earlier("download", "images.bin")
    found: dict[str, Row] = {}
    for unit, place in work.earlier("download", "images.parquet").items():
        for row in read_rows(place, ["sha256", "offset", "size"]):
            if row["sha256"] in wanted:
                found.setdefault(row["sha256"], {**row, "uri": bins[unit]})
    return found

"""Tells the life of one page, image address or sample, from the decisions of its corpus."""

import json
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpus.decisions import KEPT, STEPS, decision_files, read_decisions
from data_pipeline.corpus.schema import KEY_LENGTH
from trawl.errors import RequestError

_MOST = 50


def explain_lines(uri: str, what: str) -> Iterator[str]:
    """Yield the lines that tell what became of `what`; RequestError if no decision names it."""
    if not decision_files(uri):
        raise RequestError(f"{uri}: no decisions; they are written near the end of a build")
    found = 0
    for row in read_decisions(uri):
        if what in (row["page"], row["url"]) or _is_key_of(what, row):
            found += 1
            if found <= _MOST:
                yield from _life(row)
    if not found:
        raise RequestError(
            f"{uri}: no candidate has {what!r} as page, image address or key; "
            "addresses are compared whole, as the decisions hold them"
        )
    if found > _MOST:
        yield f"... and {found - _MOST} more"


def _is_key_of(what: str, row: dict[str, Any]) -> bool:
    """Say whether `what` is at least eight digits from the start of the row's key or hash."""
    return len(what) >= 8 and bool(row["sha256"]) and row["sha256"].startswith(what)


def _life(row: dict[str, Any]) -> Iterator[str]:
    """Tell one candidate: every step that it passed, and the one that decided."""
    scores = json.loads(row["scores"])
    yield f"image {row['url']}"
    if row["page"]:
        yield f"  on page {row['page']}, image number {row['position'] + 1} there"
    if row["key"]:
        yield f"  key {row['key'][:KEY_LENGTH]}, {row['width']} x {row['height']} px"
    for step in STEPS[: STEPS.index(row["step"]) + 1]:
        decided = step == row["step"]
        word = row["reason"] if row["reason"] == KEPT else f"dropped: {row['reason']}"
        yield f"  {step:13} {word if decided else 'passed'}{_details(step, scores)}"
    if row["text"]:
        yield f"  text ({row['source']}, score {row['score']:.2f}): {row['text']}"
    for source, reason, text in scores.get("rejected", []):
        yield f"  text not taken ({source}, {reason}): {text}"
    if "same_as" in scores:
        yield f"  kept instead: {scores['same_as']}"
    yield ""


_SHOWN = {
    "collect": ("language", "container", "dominance", "file", "row", "detail", "labels"),
    "download": ("status",),
    "image_filter": ("entropy", "natural", "fine_flat_1.5", "peaks_3", "coarse_steep", "colours")
    + ("unsafe", "watermark"),
    "detect": ("detail", "colours", "depth", "frames", "turned"),
    "score": ("agreement",),
}


def _details(step: str, scores: dict[str, Any]) -> str:
    """Return the findings that belong to a step, in brackets."""
    known = [f"{name} {scores[name]}" for name in _SHOWN.get(step, ()) if name in scores]
    return f"  ({', '.join(known)})" if known else ""

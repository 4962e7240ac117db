"""What is true of every candidate of the demo's web, and how well a corpus agrees with it.

A row of `truth.jsonl` is one candidate: an image address as found on a page. A perfect pipeline
keeps exactly one candidate of each picture that has a row with verdict "keep".
"""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trawl import storage

REASONS = (
    "robots",
    "page-language",
    "opt-out",
    "private-address",
    "too-many-redirects",
    "timeout",
    "connection",
    "http-error",
    "truncated",
    "not-an-image",
    "too-small",
    "bad-aspect",
    "unnatural",
    "no-text",
    "placeholder",
    "foreign-language",
    "spam",
    "too-short",
    "wrong-text",
    "not-dominant",
    "duplicate",
    "near-duplicate",
    "text-too-common",
    "kept",
)
"""Every reason code, in the order in which a pipeline comes upon it."""

TRUE_REASONS = {"low-score": "wrong-text", "low-entropy": "unnatural"}
"""What a pipeline's code means, where it names a measurement and not the reason behind it."""

COPY_REASONS = ("duplicate", "near-duplicate")
_LEAST_WORDS = 3
_EXAMPLES = 40

Row = dict[str, Any]


def read_truth(folder: str | Path) -> list[Row]:
    """Return the rows of the truth about the web in `folder`."""
    text = storage.read_text(storage.join(folder, "truth.jsonl"))
    return [json.loads(line) for line in text.splitlines()]


def truth_lines(rows: Iterable[Row]) -> bytes:
    """Return `rows` as JSON lines, equal bytes for equal rows."""
    return b"".join(
        json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n" for row in rows
    )


def first_reason(faults: Iterable[str]) -> str:
    """Return the reason upon which a pipeline comes first, "kept" when there is no fault."""
    return min(faults, key=REASONS.index, default="kept")


def is_true_text(text: str, true_texts: Iterable[str]) -> bool:
    """Say whether `text` is one of `true_texts`, or a part of one, or holds one.

    Case, white space and punctuation do not count; a part has at least three words.
    """
    words = _words(text)
    if not words:
        return False
    return any(
        words == known or (min(len(words), len(known)) >= _LEAST_WORDS and _is_inside(words, known))
        for known in map(_words, true_texts)
    )


def _words(text: str) -> list[str]:
    marks = "".join(letter if letter.isalnum() else " " for letter in text.casefold())
    return marks.split()


def _is_inside(one: list[str], other: list[str]) -> bool:
    """Say whether the shorter list of words stands, in one piece, in the longer one."""
    short, long = sorted((f" {' '.join(one)} ", f" {' '.join(other)} "), key=len)
    return short in long


@dataclass
class _Tally:
    """What has been counted so far while the kept pairs are compared with the truth."""

    true_keeps: int = 0
    found: set[str] = field(default_factory=set)
    false_keeps: Counter[str] = field(default_factory=Counter)
    examples: list[Row] = field(default_factory=list)


def score_decisions(
    truth: Iterable[Row], decisions: Iterable[Row], archive: bool = False
) -> dict[str, Any]:
    """Compare decisions (`url`, `page`, `kept`, `reason`, `text`) with the truth.

    `precision` is the share of the kept pairs that are keepable, have a true text and are the first
    kept pair of their picture. `recall` is the share of the keepable pictures of which at least one
    keepable candidate was kept. `by_reason` counts decided reasons by true reason. `archive`: the
    corpus was made from the WARC files alone.
    """
    rows = [_as_archived(row) for row in truth] if archive else list(truth)
    finder = _Finder(rows)
    ordered = sorted(decisions, key=lambda row: (not row["kept"], row["url"], row["page"]))
    matched = [(decision, finder.find(decision)) for decision in ordered]
    tally = _Tally()
    for decision, row in matched:
        if decision["kept"]:
            _count_kept(tally, decision, row)
    kept = tally.true_keeps + tally.false_keeps.total()
    keepable = {row["picture"] for row in rows if row["verdict"] == "keep"}
    return {
        "precision": round(tally.true_keeps / kept, 6) if kept else 0.0,
        "recall": round(len(tally.found) / len(keepable), 6) if keepable else 0.0,
        "kept": kept,
        "keepable": len(keepable),
        "false_keeps": dict(sorted(tally.false_keeps.items())),
        "examples": tally.examples,
        "missed": sorted(keepable - tally.found)[:_EXAMPLES],
        "by_reason": _by_reason(rows, matched, tally.found),
    }


def _as_archived(row: Row) -> Row:
    """Return `row` with the verdict that holds for the WARC files."""
    return {
        **row,
        "verdict": row.get("verdict_warc", row["verdict"]),
        "reason": row.get("reason_warc", row["reason"]),
    }


class _Finder:
    """Finds the truth about a decision by page and image, else by image alone."""

    def __init__(self, rows: list[Row]) -> None:
        self._by_pair: dict[tuple[str, str], Row] = {}
        self._by_image: dict[str, Row] = {}
        for row in rows:
            for image in (row["image"], *row.get("also", ())):
                self._by_pair[row["page"], image] = row
                known = self._by_image.setdefault(image, row)
                if known["verdict"] != "keep":
                    self._by_image[image] = row

    def find(self, decision: Row) -> Row | None:
        pair = self._by_pair.get((decision["page"], decision["url"]))
        return pair or self._by_image.get(decision["url"])


def _count_kept(tally: _Tally, decision: Row, row: Row | None) -> None:
    """Judge one kept pair."""
    if row is None:
        fault = "unknown-candidate"
    elif row["verdict"] != "keep":
        fault = row["reason"]
    elif not is_true_text(decision["text"] or "", row["texts"]):
        fault = "wrong-text"
        tally.found.add(row["picture"])
    elif row["picture"] in tally.found:
        fault = "duplicate" if row.get("copy") == "identical" else "near-duplicate"
    else:
        tally.true_keeps += 1
        tally.found.add(row["picture"])
        return
    tally.false_keeps[fault] += 1
    if len(tally.examples) < _EXAMPLES:
        told = {key: decision[key] for key in ("page", "url", "text")}
        texts = row["texts"] if row else []
        tally.examples.append({**told, "fault": fault, "true_texts": texts})


def _by_reason(
    rows: list[Row], matched: list[tuple[Row, Row | None]], found: set[str]
) -> dict[str, dict[str, int]]:
    """Count decided reasons by true reason, in the pipeline's own codes.

    A candidate with several faults was decided right whichever of them it fell for, and one that
    lost to another copy of its picture whichever copy won. A candidate for which there is no
    decision counts as "undecided", unless no crawl may see it.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    decided_rows = set()
    for decision, row in matched:
        decided = "kept" if decision["kept"] else decision["reason"]
        if row is not None:
            decided_rows.add(id(row))
        counts[_expected(row, decided, found)][decided] += 1
    for row in rows:
        if id(row) not in decided_rows and row.get("seen", True):
            counts[_pipeline_code(row["reason"])]["undecided"] += 1
    return {reason: dict(sorted(decided.items())) for reason, decided in sorted(counts.items())}


def _expected(row: Row | None, decided: str, found: set[str]) -> str:
    """Return the reason that counts as right for a candidate: the one decided, if it is true."""
    if row is None:
        return "unknown-candidate"
    lost = row["verdict"] == "keep" and decided in COPY_REASONS and row["picture"] in found
    if lost or TRUE_REASONS.get(decided, decided) in row["reasons"]:
        return decided
    return _pipeline_code(row["reason"])


def _pipeline_code(reason: str) -> str:
    """Return the code under which a pipeline drops what has the true reason `reason`."""
    return "low-score" if reason == "wrong-text" else reason


def read_corpus_decisions(corpus: str) -> Iterator[Row]:
    """Yield the decision rows of the corpus at URI `corpus`."""
    import pyarrow.parquet as pq

    columns = ["url", "page", "kept", "reason", "text"]
    for uri in storage.list_files(storage.join(corpus, "decisions")):
        if uri.endswith(".parquet"):
            file = io.BytesIO(storage.read_bytes(uri))
            yield from pq.read_table(file, columns=columns).to_pylist()


def score_corpus(truth: Iterable[Row], corpus: str, archive: bool = False) -> dict[str, Any]:
    """Return `score_decisions` of the corpus at URI `corpus`."""
    return score_decisions(truth, read_corpus_decisions(corpus), archive)

"""Step 5, aggregate: one pair for each image, and no text that stands with too many.

Runs over the whole corpus at once. Whatever the order in which rows arrive, the outcome is the
same: every choice is made by score, then key, then address.
"""

import collections
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from data_pipeline.recipe import Aggregate
from data_pipeline.steps.near_duplicates import group
from data_pipeline.steps.tables import (
    OUTCOMES,
    PAIRS,
    Row,
    iterate_rows,
    partitioned,
    write_rows,
)
from data_pipeline.steps.text_rules import words_of
from data_pipeline.units import Result, Work

TOO_COMMON = "text-too-common"
SAME_BYTES = "duplicate"
SAME_LOOK = "near-duplicate"
_COLUMNS = ("partition", "row", "url", "page", "position", "sha256", "phash", "captions")


@dataclass(frozen=True)
class Pair:
    """A candidate whose text passed the score."""

    partition: int
    row: int
    url: str
    page: str
    position: int
    sha256: str
    phash: str
    captions: tuple[tuple[str, str, float], ...]  # text, source, score; best first

    def rank(self) -> tuple[Any, ...]:
        """Return what puts the best pair first."""
        return (-self.captions[0][2], self.sha256, self.url, self.page, self.position)


@dataclass(frozen=True)
class Outcome:
    """What became of a pair: `reason` "" if it is kept; `same_as` names the image kept instead."""

    pair: Pair
    reason: str
    same_as: str = ""


def run(work: Work) -> Result:
    """Decide about every pair of the corpus; write outcomes by partition and the pairs to pack."""
    rows = (
        row
        for place in work.earlier("score", "scored.parquet").values()
        for row in iterate_rows(place, [*_COLUMNS, "reason"])
        if not row["reason"]
    )
    threshold = work.recipe.score.threshold
    outcomes = decide(
        (pair_of(row, threshold) for row in rows),
        work.recipe.aggregate,
        single=work.recipe.collect.source.kind != "captions",
    )
    kept = sorted((o.pair for o in outcomes if not o.reason), key=lambda pair: pair.sha256)
    with partitioned(work.place("outcomes.parquet"), OUTCOMES) as table:
        for outcome in sorted(outcomes, key=lambda o: (o.pair.partition, o.pair.row)):
            table.add(outcome.pair.partition, _outcome_row(outcome))
    write_rows(
        work.place("pairs.parquet"), map(_pair_row, kept), PAIRS, group=work.recipe.shards.samples
    )
    counts = collections.Counter(outcome.reason or "kept" for outcome in outcomes)
    return {"counts": dict(counts), "kept": len(kept)}


def pair_of(row: Row, threshold: float) -> Pair:
    """Return the pair of a scored row with the captions that reach the threshold."""
    captions = tuple(
        (caption["text"], caption["source"], caption["score"])
        for caption in json.loads(row["captions"])
        if caption["score"] >= threshold
    )
    known = {name: row[name] for name in _COLUMNS if name != "captions"}
    return Pair(**known, captions=captions)


def decide(pairs: Iterable[Pair], settings: Aggregate, single: bool) -> list[Outcome]:
    """Return the outcome of every pair; `single`: of its captions a kept pair keeps the best.

    First texts that stand with too many images go, wherever they stand; a pair falls back on its
    next best text. Then, of the pairs of one image, of equal bytes or near looks, the best stays.
    """
    everything = sorted(pairs, key=Pair.rank)
    outcomes: list[Outcome] = []
    left = everything
    if settings.enabled:
        common = common_texts(everything, settings.max_images_per_text)
        left = []
        for pair in everything:
            rest = tuple(c for c in pair.captions if text_key(c[0]) not in common)
            if rest:
                left.append(_with_captions(pair, rest))
            else:
                outcomes.append(Outcome(pair, TOO_COMMON))
        left.sort(key=Pair.rank)
    best: dict[str, Pair] = {}
    for pair in left:
        if pair.sha256 in best:
            outcomes.append(Outcome(pair, SAME_BYTES, best[pair.sha256].sha256))
            if not single:
                best[pair.sha256] = _joined(best[pair.sha256], pair)
        else:
            best[pair.sha256] = pair
    chosen = list(best.values())
    same_as = _near_duplicates(chosen, settings) if settings.enabled else {}
    for pair in chosen:
        kept = _with_captions(pair, pair.captions[:1]) if single else pair
        other = same_as.get(pair.sha256, "")
        outcomes.append(Outcome(kept, SAME_LOOK if other else "", other))
    return outcomes


def text_key(text: str) -> str:
    """Return what makes two texts the same: their words in lower case."""
    return " ".join(words_of(text)).lower()


def common_texts(pairs: list[Pair], most: int) -> set[str]:
    """Return the keys of the texts that stand with more than `most` different images."""
    images: dict[str, set[str]] = {}
    for pair in pairs:
        for text, _, _ in pair.captions:
            images.setdefault(text_key(text), set()).add(pair.sha256)
    return {key for key, found in images.items() if len(found) > most}


def _near_duplicates(chosen: list[Pair], settings: Aggregate) -> dict[str, str]:
    """Return, for each image that another one stands for, the hash of that other.

    Images near each other form a group, by chains too; the best pair of a group stands for it.
    """
    hashes = [int(pair.phash or "0", 16) for pair in chosen]
    groups = group(hashes, settings.near_duplicate_bits)
    first: dict[int, int] = {}
    order = sorted(range(len(chosen)), key=lambda number: chosen[number].rank())
    same_as: dict[str, str] = {}
    for number in order:
        leader = first.setdefault(groups[number], number)
        if leader != number:
            same_as[chosen[number].sha256] = chosen[leader].sha256
    return same_as


def _with_captions(pair: Pair, captions: tuple[tuple[str, str, float], ...]) -> Pair:
    known = {name: getattr(pair, name) for name in _COLUMNS if name != "captions"}
    return Pair(**known, captions=captions)


def _joined(best: Pair, other: Pair) -> Pair:
    """Return `best` with the captions of another pair of the same image behind its own."""
    known = {text for text, _, _ in best.captions}
    extra = tuple(caption for caption in other.captions if caption[0] not in known)
    return _with_captions(best, best.captions + extra)


def _outcome_row(outcome: Outcome) -> Row:
    return {
        "row": outcome.pair.row,
        "reason": outcome.reason,
        "captions": _captions(outcome.pair),
        "same_as": outcome.same_as,
    }


def _pair_row(pair: Pair) -> Row:
    return {
        "sha256": pair.sha256,
        "partition": pair.partition,
        "row": pair.row,
        "captions": _captions(pair),
        "phash": pair.phash,
    }


def _captions(pair: Pair) -> str:
    captions = [{"text": text, "source": src, "score": s} for text, src, s in pair.captions]
    return json.dumps(captions, ensure_ascii=False)

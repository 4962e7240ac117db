"""Writes the corpus: shards of the pairs that are kept, and a decision for every candidate."""

import collections
import json
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpus import decisions
from data_pipeline.corpus.schema import IMAGE_EXTENSIONS, KEY_LENGTH, Caption, SampleMeta
from data_pipeline.corpus.writer import PackedSample, write_shard
from data_pipeline.steps.arrivals import images_of, looks_of
from data_pipeline.steps.detect import read_spots
from data_pipeline.steps.tables import Row, iterate_rows, read_partition, read_rows, read_slices
from data_pipeline.units import Result, Work


def write_shards(work: Work) -> Result:
    """Write one shard: a group of the kept pairs, in the order of their keys."""
    number = int(work.unit.inputs["group"])
    pairs = read_slices(work.earlier("aggregate", "pairs.parquet"), work.unit.inputs["slices"])
    record = write_shard(work.out, number, _samples(work, pairs))
    return {"counts": {"samples": record.samples}, "shard": record.model_dump()}


def _samples(work: Work, pairs: list[Row]) -> Iterator[PackedSample]:
    """Yield the packed samples of pairs, reading image and regions of each where they lie."""
    bins = work.earlier("download", "images.bin")
    found = work.earlier("detect", "regions.bin")
    pictures = read_spots([{**pair, "uri": bins[pair["unit"]]} for pair in pairs])
    blobs = read_spots(
        {
            "uri": found[pair["regions_unit"]],
            "offset": pair["regions_offset"],
            "size": pair["regions_size"],
        }
        for pair in pairs
    )
    for pair in pairs:
        members = {"json": _meta(pair).to_bytes(), "regions": next(blobs)}
        if work.recipe.shards.image == "original":
            members[IMAGE_EXTENSIONS[pair["kind"]]] = next(pictures)
        yield PackedSample(pair["sha256"][:KEY_LENGTH], members)


def _meta(pair: Row) -> SampleMeta:
    """Return the content of a sample's `KEY.json`."""
    extra: dict[str, Any] = json.loads(pair["extra"] or "{}")
    known = ("url", "page", "width", "height", "sha256", "phash", "licence")
    return SampleMeta(
        captions=[Caption(**caption) for caption in json.loads(pair["captions"])],
        tags=json.loads(pair["tags"]),
        robots=json.loads(pair["robots"]),
        **{name: pair[name] for name in known},
        **extra,
    )


def write_decisions(work: Work) -> Result:
    """Write the decisions about the candidates of one partition."""
    partition = int(work.unit.inputs["partition"])
    rows = list(_decisions(work, partition))
    record = decisions.write_decisions(work.out, partition, rows)
    funnel = collections.Counter(f"{row['step']}/{row['reason']}" for row in rows)
    return {"counts": {"rows": len(rows)}, "file": record.model_dump(), "funnel": dict(funnel)}


def _decisions(work: Work, partition: int) -> Iterator[Row]:
    """Yield one decision a candidate: that of the first step that dropped it, or that it is kept.

    In `scores`, whatever the steps found out on the way: each dropped text with its reason, the
    statistics of the pixels, the agreement of the texts.
    """
    name = str(partition)
    images, looks = images_of(work, name), looks_of(work, name)
    texts = {row["row"]: row for row in read_rows(work.earlier("sentences", "texts.parquet")[name])}
    scored = _by_row(work, partition, "score", "scored.parquet")
    outcomes = _by_row(work, partition, "choose", "outcomes.parquet")
    outcomes |= _by_row(work, partition, "aggregate", "outcomes.parquet")
    rows = iterate_rows(work.earlier("gather", "candidates.parquet")[name])
    for number, candidate in enumerate(rows):
        image = images.get(candidate["url"], {})
        yield _decision(
            candidate,
            image,
            looks.get(image.get("sha256", ""), {}),
            texts.get(number, {}),
            scored.get(number, {}),
            outcomes.get(number, {}),
        )


def _by_row(work: Work, partition: int, phase: str, name: str) -> dict[int, Row]:
    """Return the rows about a partition that the units of a phase wrote, by row number."""
    places = work.earlier(phase, name).values()
    return {row["row"]: row for place in places for row in read_partition(place, partition)}


def _decision(candidate: Row, image: Row, looks: Row, texts: Row, scored: Row, outcome: Row) -> Row:
    """Fold what the steps said about one candidate into a row of decisions."""
    step, reason = _fate(candidate, image, looks, texts, scored, outcome)
    captions = json.loads((outcome or scored).get("captions", "[]"))
    best = captions[0] if captions else {"text": "", "source": "", "score": 0.0}
    kept = reason == decisions.KEPT
    return {
        "url": candidate["url"],
        "page": candidate["page"],
        "position": candidate["position"],
        "key": image.get("sha256", "")[:KEY_LENGTH],
        "step": step,
        "kept": kept,
        "reason": reason,
        **best,
        "scores": _scores(candidate, image, looks, texts, scored, outcome),
        "width": looks.get("width", image.get("width", 0)),
        "height": looks.get("height", image.get("height", 0)),
        "sha256": image.get("sha256", ""),
        "phash": looks.get("phash", ""),
    }


def _fate(
    candidate: Row, image: Row, looks: Row, texts: Row, scored: Row, outcome: Row
) -> tuple[str, str]:
    """Return the step that decided and its reason, in the order in which data flows."""
    verdicts = (
        ("collect", candidate),
        ("download", image),
        ("image_filter", looks),
        ("sentences", texts),
        ("score", scored),
        ("aggregate", outcome),
    )
    for step, row in verdicts:
        if row.get("reason"):
            return step, row["reason"]
    return "write", decisions.KEPT


def _scores(candidate: Row, image: Row, looks: Row, texts: Row, scored: Row, outcome: Row) -> str:
    """Return all findings about one candidate as JSON."""
    found = {**json.loads(candidate["notes"]), **json.loads(image.get("notes", "{}"))}
    found |= json.loads(looks.get("scores", "{}"))
    if rejected := json.loads(texts.get("rejected", "[]")):
        found["rejected"] = rejected
    if scored:
        found["captions"] = json.loads(scored["captions"])
        found["agreement"] = json.loads(scored["evidence"])
    if outcome.get("same_as"):
        found["same_as"] = outcome["same_as"][:KEY_LENGTH]
    return json.dumps(found, ensure_ascii=False, sort_keys=True)

"""Writes the corpus: shards of the pairs that are kept, and a decision for every candidate."""

import collections
import json
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpus import decisions
from data_pipeline.corpus.schema import IMAGE_EXTENSIONS, KEY_LENGTH, Caption, SampleMeta
from data_pipeline.corpus.writer import PackedSample, write_shard
from data_pipeline.steps.detect import read_spots, tags_of
from data_pipeline.steps.score import detector_of
from data_pipeline.steps.tables import Row, iterate_rows, read_group, read_partition, read_rows
from data_pipeline.units import Result, Work


def write_shards(work: Work) -> Result:
    """Write one shard: a group of the kept pairs, in the order of their keys."""
    number = int(work.unit.inputs["group"])
    pairs = read_group(work.earlier("aggregate", "pairs.parquet")["all"], number)
    record = write_shard(work.out, number, _samples(work, pairs))
    return {"counts": {"samples": record.samples}, "shard": record.model_dump()}


def _samples(work: Work, pairs: list[Row]) -> Iterator[PackedSample]:
    """Yield the packed samples of pairs, reading image and regions of each where they lie."""
    wanted = {pair["sha256"] for pair in pairs}
    images = _rows_of(work.earlier("select", "plan.parquet"), wanted)
    regions = _rows_of(work.earlier("detect", "detections.parquet"), wanted)
    candidates = _candidates_of(work, pairs)
    looks = _rows_of(work.earlier("image_filter", "looks.parquet"), wanted)
    objects = detector_of(work)["objects"]
    blobs = read_spots([regions[pair["sha256"]] for pair in pairs])
    pictures = read_spots([images[pair["sha256"]] for pair in pairs])
    for pair in pairs:
        digest = pair["sha256"]
        candidate = candidates[pair["partition"], pair["row"]]
        tags = tags_of(regions[digest], objects)
        members = {
            "json": _meta(pair, candidate, looks[digest], tags).to_bytes(),
            "regions": next(blobs),
        }
        if work.recipe.shards.image == "original":
            members[IMAGE_EXTENSIONS[images[digest]["kind"]]] = next(pictures)
        yield PackedSample(digest[:KEY_LENGTH], members)


def _rows_of(places: dict[str, str], wanted: set[str]) -> dict[str, Row]:
    """Return the rows of the tables with the hashes `wanted`, by hash."""
    return {
        row["sha256"]: row
        for place in places.values()
        for row in iterate_rows(place)
        if row["sha256"] in wanted
    }


def _candidates_of(work: Work, pairs: list[Row]) -> dict[tuple[int, int], Row]:
    """Return the candidates of pairs by partition and row."""
    places = work.earlier("gather", "candidates.parquet")
    rows: dict[int, set[int]] = {}
    for pair in pairs:
        rows.setdefault(pair["partition"], set()).add(pair["row"])
    return {
        (partition, number): row
        for partition, wanted in rows.items()
        for number, row in enumerate(iterate_rows(places[str(partition)]))
        if number in wanted
    }


def _meta(pair: Row, candidate: Row, looks: Row, tags: list[str]) -> SampleMeta:
    """Return the content of a sample's `KEY.json`."""
    extra: dict[str, Any] = json.loads(candidate["extra"] or "{}")
    return SampleMeta(
        captions=[Caption(**caption) for caption in json.loads(pair["captions"])],
        tags=tags,
        url=candidate["url"],
        page=candidate["page"],
        width=looks["width"],
        height=looks["height"],
        sha256=pair["sha256"],
        phash=pair["phash"],
        licence=candidate["licence"],
        robots=json.loads(candidate["robots"]),
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
    images, looks = images_of(work, name)
    texts = {row["row"]: row for row in read_rows(work.earlier("sentences", "texts.parquet")[name])}
    scored = {row["row"]: row for row in read_rows(work.earlier("score", "scored.parquet")[name])}
    place = work.earlier("aggregate", "outcomes.parquet")["all"]
    outcomes = {row["row"]: row for row in read_partition(place, partition)}
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


def images_of(work: Work, partition: str) -> tuple[dict[str, Row], dict[str, Row]]:
    """Return the download rows of a partition by address, and its rows of looks by hash."""
    places = work.earlier("download", "images.parquet")
    looks = work.earlier("image_filter", "looks.parquet")
    units = [unit for unit in places if unit.partition("-")[0] == partition]
    return (
        {row["url"]: row for unit in units for row in read_rows(places[unit])},
        {row["sha256"]: row for unit in units for row in read_rows(looks[unit])},
    )


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

"""The aggregation by bucket decides as its plain twin, whatever the buckets and the arrival."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline import aggregation
from data_pipeline.aggregation import Spread, groups_by_bucket, slices
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import PHASES, Driver, Scheduler, attempt
from data_pipeline.steps.aggregate_plainly import decide
from data_pipeline.steps.buckets import bucket_name, bucket_of_image, digest_of_text
from data_pipeline.steps.pair import Outcome, Pair, captions_to_json, text_key
from data_pipeline.steps.route import ROUTED
from data_pipeline.steps.tables import DETECTIONS, SCORED, iterate_rows, partitioned, write_rows
from data_pipeline.units import Entry, Ledger, Unit, Work, finish_phase
from trawl import chance, storage
from trawl.events import EventLog

PARTITIONS = 3


class HereScheduler(Scheduler):
    """Runs units one after the other in this process, each entered in the ledger as ever."""

    def _do(self, units: list[Unit]) -> Iterable[Entry]:
        for unit in units:
            outcome = attempt(
                self.out, self.recipe, unit, PHASES[unit.phase], Driver.of_this_process()
            )
            assert "entry" in outcome, outcome
            yield outcome["entry"]


def _recipe(bits: int, most: int, bucket_pairs: int, kind: str, enabled: bool) -> CorpusRecipe:
    source: dict[str, Any] = {"kind": "warc", "uris": ["x"]}
    if kind == "captions":
        source = {"kind": "captions", "captions": "c", "images": "i"}
    aggregate = {"near_duplicate_bits": bits, "max_images_per_text": most, "enabled": enabled}
    return CorpusRecipe.model_validate(
        {
            "name": "t",
            "collect": {"source": source, "partitions": PARTITIONS},
            "score": {"threshold": 0.2},
            "aggregate": aggregate,
            "compute": {"bucket_pairs": bucket_pairs, "cpus": 1},
        }
    )


def _finish(work: Work, entries: dict[str, Entry], result: dict[str, Any]) -> None:
    entries[work.unit.name] = Ledger(work.out).commit(work.unit, work.attempt, result)
    finish_phase(work.out, work.unit.phase, entries)


def write_scored(out: str, recipe: CorpusRecipe, pairs: list[Pair], buckets: int) -> None:
    """Write what the steps before the aggregation leave: routes, detections, scores."""
    routes: dict[str, Entry] = {}
    for partition in range(PARTITIONS):
        work = Work(out, recipe, Unit("route", str(partition)), "a")
        with partitioned(work.place("routed.parquet"), ROUTED) as table:
            for pair in pairs:
                if pair.partition == partition:
                    table.add(bucket_of_image(pair.sha256, buckets), _routed(pair))
        _finish(work, routes, {})
    scores: dict[str, Entry] = {}
    for bucket in range(buckets):
        work = Work(out, recipe, Unit("score", bucket_name(bucket)), "a")
        with partitioned(work.place("scored.parquet"), SCORED) as table:
            for pair in pairs:
                if bucket_of_image(pair.sha256, buckets) == bucket:
                    table.add(pair.partition, _scored(pair))
        _finish(work, scores, {})
    work = Work(out, recipe, Unit("detect", "00000"), "a")
    seen = sorted({pair.sha256 for pair in pairs})
    labels = {"object_ids": [], "object_conf": [], "attribute_ids": [], "attribute_conf": []}
    rows = ({"sha256": digest, "offset": 0, "size": 1, **labels} for digest in seen)
    write_rows(work.place("detections.parquet"), rows, DETECTIONS)
    storage.write_json(work.place("detector.json"), {"objects": [], "attributes": []})
    _finish(work, {}, {})


def _routed(pair: Pair) -> dict[str, Any]:
    known = {name: getattr(pair, name) for name in ROUTED.names if hasattr(pair, name)}
    lists = {"texts": "[]", "robots": "[]", "licence": "", "extra": "", "unit": "0-00000"}
    return {**known, **lists, "width": 400, "height": 300, "offset": 0, "size": 1, "kind": "jpeg"}


def _scored(pair: Pair) -> dict[str, Any]:
    known = {name: getattr(pair, name) for name in SCORED.names if hasattr(pair, name)}
    # A text that does not reach the threshold: no step of the aggregation may see it.
    said = (*pair.captions, *([("text 0", "alt", 0.1)] if pair.row % 3 else []))
    captions = captions_to_json(said)
    texts = {
        "text_digests": [digest_of_text(text_key(text)) for text, _, _ in said],
        "text_scores": [score for _, _, score in said],
    }
    return {**known, **texts, "reason": "", "captions": captions, "evidence": "[]"}


def by_buckets(
    folder: Path, recipe: CorpusRecipe, pairs: list[Pair], buckets: int
) -> tuple[set[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Aggregate by bucket; return the outcomes, and what is to be packed in its order."""
    out = str(folder)
    write_scored(out, recipe, pairs, buckets)
    with EventLog(storage.join(out, "events.jsonl")) as log:
        scheduler = HereScheduler(out, recipe, 1, log)
        aggregation.aggregate(scheduler, len(pairs), [["00000"]] * buckets)
    work = Work(out, recipe, Unit("shards", "00000"), "a")
    outcomes = set()
    for phase in ("choose", "aggregate"):
        for place in work.earlier(phase, "outcomes.parquet").values():
            with storage.open_read(place) as file:
                import pyarrow.parquet as pq

                parquet = pq.ParquetFile(file)
                index = json.loads(parquet.metadata.metadata[b"partitions"])
                rows = parquet.read().to_pylist()
            partitions = [partition for partition, count in index for _ in range(count)]
            for partition, row in zip(partitions, rows, strict=True):
                outcomes.add(
                    (partition, row["row"], row["reason"], row["captions"], row["same_as"])
                )
    packed = [
        (row["sha256"], row["partition"], row["row"], row["captions"])
        for place in work.earlier("aggregate", "pairs.parquet").values()
        for row in iterate_rows(place)
    ]
    return outcomes, packed


def plainly(
    recipe: CorpusRecipe, pairs: list[Pair]
) -> tuple[set[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the same of the twin."""
    single = recipe.collect.source.kind != "captions"
    outcomes = decide(pairs, recipe.aggregate, single)

    def known(outcome: Outcome) -> tuple[Any, ...]:
        pair = outcome.pair
        captions = captions_to_json(pair.captions)
        return pair.partition, pair.row, outcome.reason, captions, outcome.same_as

    kept = sorted((o.pair for o in outcomes if not o.reason), key=lambda pair: pair.sha256)
    packed = [(p.sha256, p.partition, p.row, captions_to_json(p.captions)) for p in kept]
    return {known(outcome) for outcome in outcomes}, packed


PAIR = st.fixed_dictionaries(
    {
        "image": st.integers(0, 12),
        "texts": st.lists(st.tuples(st.integers(0, 5), st.integers(2, 9)), min_size=1, max_size=3),
        "partition": st.integers(0, PARTITIONS - 1),
    }
)


def _pairs(drawn: list[dict[str, Any]]) -> list[Pair]:
    """Make pairs: few images, few texts, looks in chains of a few bits."""
    pairs = []
    for row, values in enumerate(drawn):
        image = values["image"]
        base = chance.seed_of("look", image // 4)
        scores = sorted(values["texts"], key=lambda entry: -entry[1])
        pairs.append(
            Pair(
                partition=values["partition"],
                row=row,
                url=f"http://{chance.seed_of('host', row) % 7}.test/{row}.jpg",
                page="http://p.test/",
                position=row,
                sha256=f"{chance.seed_of('image', image):016x}" * 4,
                phash=f"{base ^ (1 << image % 4 * 5) - 1:016x}",
                captions=tuple((f"text {text}", "alt", score / 10) for text, score in scores),
            )
        )
    return pairs


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(PAIR, max_size=40),
    st.integers(1, 4),
    st.sampled_from([0, 4, 6]),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_buckets_decide_as_the_plain_twin(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[dict[str, Any]],
    buckets: int,
    bits: int,
    most: int,
    shuffler: Any,
) -> None:
    pairs = _pairs(drawn)
    recipe = _recipe(bits, most, 1_000, "warc", True)
    expected = plainly(recipe, pairs)
    shuffler.shuffle(pairs)
    assert by_buckets(tmp_path_factory.mktemp("a"), recipe, pairs, buckets) == expected


@pytest.mark.parametrize(("kind", "enabled"), [("captions", False), ("captions", True)])
def test_caption_sets_decide_as_the_plain_twin(tmp_path: Path, kind: str, enabled: bool) -> None:
    draw = chance.generator("captions aggregated")
    drawn = [
        {
            "image": int(draw.integers(0, 13)),
            "texts": [(int(draw.integers(0, 6)), int(draw.integers(2, 10))) for _ in range(2)],
            "partition": int(draw.integers(0, PARTITIONS)),
        }
        for _ in range(60)
    ]
    recipe = _recipe(6, 4, 1_000, kind, enabled)
    pairs = _pairs(drawn)
    assert by_buckets(tmp_path, recipe, pairs, 3) == plainly(recipe, pairs)


def test_many_units_and_rounds_decide_as_one(tmp_path: Path) -> None:
    """Buckets of two pairs: hashes go through several tables, links through rounds of stars."""
    draw = chance.generator("rounds")
    drawn = [
        {"image": int(image), "texts": [(int(n), 5)], "partition": int(n) % PARTITIONS}
        for n, image in enumerate(draw.permutation(120))
    ]
    pairs = _pairs(drawn)
    # A long chain: each look three bits from the next.
    chain = [(1 << 3 * link) - 1 for link in range(21)]
    pairs = [
        pair if number >= len(chain) else _with_look(pair, chain[number])
        for number, pair in enumerate(pairs)
    ]
    recipe = _recipe(4, 100, 2, "warc", True)
    spread = Spread.of(len(pairs), 4, 2 * aggregation.HASHES_PER_PAIR)
    assert (spread.untouched, spread.ranges) == (1, 4)
    assert by_buckets(tmp_path, recipe, pairs, 5) == plainly(recipe, pairs)
    assert len(Ledger(str(tmp_path)).done("near")) == 5 * 4
    assert len(Ledger(str(tmp_path)).done("large_star")) > 5


def _with_look(pair: Pair, look: int) -> Pair:
    from dataclasses import replace

    return replace(pair, phash=f"{look:016x}")


def test_groups_are_cut_across_buckets() -> None:
    groups = slices([3, 0, 5, 1], 4)
    assert groups == [
        [["00000", 0, 3], ["00002", 0, 1]],
        [["00002", 1, 4]],
        [["00003", 0, 1]],
    ]
    assert groups_by_bucket(groups, 4) == [["00000"], [], ["00000", "00001"], ["00002"]]
    assert slices([], 4) == []
    assert slices([0], 4, least=1) == [[]]

"""Tables by partition, and the small steps that move rows between them."""

import json
from pathlib import Path

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps import gather, locate
from data_pipeline.steps.collect import partition_of_image
from data_pipeline.steps.tables import (
    CANDIDATES,
    LOCATIONS,
    WISHES,
    Row,
    iterate_partition,
    partition_of,
    partitioned,
    read_group,
    read_partition,
    read_rows,
    write_rows,
)
from data_pipeline.units import Entry, Unit, Work, finish_phase

RECIPE = CorpusRecipe.model_validate(
    {
        "name": "t",
        "collect": {"source": {"kind": "warc", "uris": ["x"]}, "partitions": 4},
        "download": {"source": "warc"},
    }
)


def _location(url: str, **changes: object) -> Row:
    where = {"uri": "a.warc", "offset": 7, "length": 9, "status": 200, "target": ""}
    return {"url": url, **where, **changes}


def _candidate(url: str, page: str = "http://p.test/", **changes: object) -> Row:
    empty = {"licence": "", "reason": "", "extra": ""}
    lists = {"alternatives": "[]", "texts": "[]", "robots": "[]", "notes": "{}"}
    return {"url": url, "page": page, "position": 0, **empty, **lists, **changes}


def _work(out: Path, phase: str, name: str, **inputs: object) -> Work:
    return Work(str(out), RECIPE, Unit(phase, name, inputs), "attempt")


def _finish(*works: Work) -> None:
    units = [work.unit for work in works]
    entries = {unit.name: Entry(unit.phase, unit.name, {}, "attempt", {}, "") for unit in units}
    finish_phase(works[0].out, units[0].phase, entries)


def test_a_partition_keeps_none_of_the_rows_around_it_in_memory(tmp_path: Path) -> None:
    place = str(tmp_path / "table")
    with partitioned(place, LOCATIONS) as rows:
        for number in range(2_000):
            rows.add(number // 10, _location(f"http://a.test/{number:0100d}"))
    (part,) = iterate_partition(place, 150)
    assert part.num_rows == 10
    assert part.get_total_buffer_size() < 2 * part.nbytes + 4096


def test_each_partition_gets_its_rows(tmp_path: Path) -> None:
    place = str(tmp_path / "table")
    with partitioned(place, LOCATIONS) as rows:
        for number in range(50):
            rows.add(number % 3, _location(f"u{number}"))
            if number == 20:
                rows.flush()
    for partition in range(4):
        urls = [row["url"] for row in read_partition(place, partition)]
        expected = [f"u{n}" for n in range(50) if n % 3 == partition] if partition < 3 else []
        assert urls == expected


def test_tables_are_read_by_row_groups(tmp_path: Path) -> None:
    place = str(tmp_path / "table")
    assert write_rows(place, ({"url": f"u{n}"} for n in range(25)), gather.URLS, group=10) == 25
    assert [row["url"] for row in read_group(place, 2)] == [f"u{n}" for n in range(20, 25)]
    assert write_rows(place, [], gather.URLS) == 0
    assert read_rows(place) == []


def test_partitions_are_the_same_anywhere() -> None:
    assert [partition_of(text, 16) for text in ("", "a.test", "é")] == [4, 14, 3]


def _collected(out: Path, candidates: list[Row], locations: list[Row]) -> None:
    work = _work(out, "collect", "00000")
    with partitioned(work.place("candidates.parquet"), CANDIDATES) as rows:
        for row in candidates:
            rows.add(partition_of_image(row["url"], RECIPE), row)
    with partitioned(work.place("locations.parquet"), LOCATIONS) as rows:
        for row in locations:
            rows.add(partition_of_image(row["url"], RECIPE), row)
    with partitioned(work.place("wishes.parquet"), WISHES) as wishes:
        for row in candidates:
            for other in json.loads(row["alternatives"]):
                home = partition_of_image(row["url"], RECIPE)
                wishes.add(partition_of_image(other, RECIPE), {"url": other, "home": home})
    _finish(work)
    located = _work(out, "locate", "all")
    locate.run(located)
    _finish(located)
    partitions = range(RECIPE.collect.partitions)
    lent = [_work(out, "lend", str(partition), partition=partition) for partition in partitions]
    for work in lent:
        locate.lend(work)
    _finish(*lent)


def _gathered(out: Path) -> tuple[list[Row], dict[str, list[Row]]]:
    """Run `gather` over all partitions; return the candidates, and the places by address."""
    candidates, places = [], {}
    for partition in range(RECIPE.collect.partitions):
        work = _work(out, "gather", str(partition), partition=partition)
        gather.run(work)
        candidates += read_rows(work.place("candidates.parquet"))
        for row in read_rows(work.place("urls.parquet")):
            places[row["url"]] = json.loads(row["places"])
    return candidates, places


def test_redirects_lead_to_images_in_other_partitions(tmp_path: Path) -> None:
    site = "http://s.test"
    locations = [
        _location(f"{site}/a/1.jpg", status=301, target=f"{site}/b/1.jpg"),
        _location(f"{site}/b/1.jpg", status=302, target=f"{site}/c/1.jpg"),
        _location(f"{site}/c/1.jpg", offset=77),
        _location(f"{site}/x.jpg", status=301, target=f"{site}/y.jpg"),
        _location(f"{site}/y.jpg", status=301, target=f"{site}/x.jpg"),
        _location(f"{site}/gone.jpg", status=404),
    ]
    names = ("a/1", "x", "gone", "never")
    _collected(tmp_path, [_candidate(f"{site}/{name}.jpg") for name in names], locations)
    _, places = _gathered(tmp_path)
    found = {url: (place[0]["offset"], place[0]["status"]) for url, place in places.items()}
    assert found[f"{site}/a/1.jpg"] == (77, 200)
    assert found[f"{site}/x.jpg"] == (0, 0)
    assert found[f"{site}/gone.jpg"] == (7, 404)
    assert found[f"{site}/never.jpg"] == (0, 0)


def test_other_addresses_of_a_picture_are_found_in_other_partitions(tmp_path: Path) -> None:
    site = "http://s.test"
    folders = [f"{site}/{n}" for n in range(20)]
    thumb = f"{site}/thumbs/a.jpg"
    full = [f"{folder}/a.jpg" for folder in folders]
    homes = {partition_of_image(url, RECIPE) for url in (thumb, *full)}
    assert len(homes) == RECIPE.collect.partitions > 1
    for number, url in enumerate(full):
        out = tmp_path / str(number)
        other = {"alternatives": json.dumps(["http://t.test/a.jpg", url])}
        _collected(out, [{**_candidate(thumb), **other}], [_location(url, offset=77)])
        _, places = _gathered(out)
        assert [(place["url"], place["offset"]) for place in places[thumb]] == [
            (thumb, 0),
            (url, 77),
        ]


def test_a_candidate_that_was_captured_twice_is_one(tmp_path: Path) -> None:
    url = "http://s.test/a.jpg"
    other = json.dumps(["http://s.test/a-large.jpg"])
    rows = [_candidate(url), _candidate(url), _candidate(url, position=1, alternatives=other)]
    rows.append(_candidate("http://s.test/opted-out.jpg", reason="opt-out"))
    _collected(tmp_path, rows, [_location("http://s.test/a-large.jpg", offset=3)])
    candidates, places = _gathered(tmp_path)
    assert len(candidates) == 3
    assert {key: [place["offset"] for place in found] for key, found in places.items()} == {
        url: [0, 3]
    }

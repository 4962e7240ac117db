"""Brings the images in, each address once: from the web, out of the WARC files, or from a folder.

The bytes of a unit go into one file, `images.bin`, and a table says which address lies where, or
why it has no image. Kind and size are read from the header here; nothing is decoded. Where a page
names several addresses of one picture, the next is tried if one fails or gives too small an image.
"""

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Iterable, Iterator

from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.page import Fetched
from data_pipeline.crawl.warc import read_at
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.sources.recipe import CaptionsSource
from data_pipeline.steps.arrivals import images_of
from data_pipeline.steps.collect import signals_of
from data_pipeline.steps.image_store import Arrival, ImageStore
from data_pipeline.steps.tables import IMAGES, Row, read_group, write_rows
from data_pipeline.takedowns import Takedowns
from data_pipeline.units import Result, Work
from trawl import storage
from trawl.errors import RequestError

_GROUP_IMAGES, _GROUP_BYTES = 16, 4 << 20  # stored together
_SAID = ("reason", "sha256", "robots", "notes")  # what the corpus says of an image
Wish = tuple[str, Row]  # the address that a picture goes by, and the place to try for it


def run(work: Work) -> Result:
    """Bring in one slice of the addresses of a partition, or of those to be fetched again."""
    partition, group = str(work.unit.inputs["partition"]), int(work.unit.inputs["group"])
    if retry := work.unit.inputs.get("retry"):
        listed = work.earlier("retry", "urls.parquet")[f"{retry:04d}-{partition}"]
    else:
        listed = work.earlier("gather", "urls.parquet")[partition]
    rows = read_group(listed, group)
    places = {row["url"]: json.loads(row["places"]) for row in rows}
    with storage.open_atomic(work.place("images.bin")) as file:
        store = ImageStore(file, work.recipe, Takedowns.of(work.out))
        for turn in range(max((len(found) for found in places.values()), default=0)):
            wishes = [
                (url, found[turn])
                for url, found in places.items()
                if turn < len(found) and store.wants_more(url)
            ]
            bring(wishes, work.recipe, store)
    found, changed = store.rows(), 0
    if retry:
        before = images_of(work, partition)
        found = [row for row in found if not _is_worse(row, before[row["url"]])]
        changed = sum(_differs(row, before[row["url"]]) for row in found)
    write_rows(work.place("images.parquet"), found, IMAGES)
    return {"counts": store.counts(), "changed": changed}


def _is_worse(row: Row, before: Row) -> bool:
    """Say whether an image that was there already did not come again."""
    return bool(row["reason"]) and not before["reason"]


def _differs(row: Row, before: Row) -> bool:
    return any(row[name] != before[name] for name in _SAID)


def bring(wishes: list[Wish], recipe: CorpusRecipe, store: ImageStore) -> None:
    """Put what comes of each wish into the store."""
    source = recipe.collect.source
    if isinstance(source, CaptionsSource):
        for url, _ in wishes:
            store.add(url, _from_folder(url, source))
    elif recipe.download.source == "warc":
        for url, arrival in _from_warc(wishes, recipe):
            store.add(url, arrival)
    elif wishes:
        _run_loop(_from_web(wishes, recipe, store))


def _run_loop(task: Coroutine[None, None, None]) -> None:
    """Run a coroutine on a uvloop of its own."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(task)


async def _from_web(wishes: list[Wish], recipe: CorpusRecipe, store: ImageStore) -> None:
    """Fetch all addresses, the hosts side by side, and store what comes, some at a time."""
    wanted_by: dict[str, list[str]] = {}
    for url, place in wishes:
        wanted_by.setdefault(place["url"], []).append(url)
    group: list[tuple[Arrival, list[str]]] = []
    size = 0

    def take(fetched: Fetched) -> None:
        nonlocal size
        group.append((_arrival(fetched), wanted_by[fetched.url]))
        size += len(fetched.body or b"")
        if len(group) >= _GROUP_IMAGES or size >= _GROUP_BYTES:
            store_group()

    def store_group() -> None:
        nonlocal size
        store.add_all(group)
        group.clear()
        size = 0

    async with Fetcher(recipe.download) as fetcher:
        await fetcher.fetch_each(wanted_by, take)
    store_group()


def _arrival(fetched: Fetched) -> Arrival:
    return Arrival(
        body=fetched.body if fetched.error is None else None,
        reason=fetched.error or "",
        status=fetched.status if fetched.error in (None, "http-error") else 0,
        robots=tuple(fetched.robots),
        passing=fetched.transient,
    )


def _from_warc(wishes: Iterable[Wish], recipe: CorpusRecipe) -> Iterator[tuple[str, Arrival]]:
    """Read each image at its offset in the WARC files, in the order in which they lie."""
    for url, place in sorted(wishes, key=lambda wish: (wish[1]["uri"], wish[1]["offset"])):
        if not place["uri"]:
            yield url, Arrival(None, "not-in-warc")
        elif place["status"] != 200:
            yield url, Arrival(None, "http-error", place["status"])
        else:
            yield url, _record(place, recipe)


def _record(place: Row, recipe: CorpusRecipe) -> Arrival:
    """Read one record."""
    record = read_at(place["uri"], place["offset"], place["length"], recipe.download.max_bytes)
    if record.error is not None or record.body is None:
        return Arrival(None, record.error or "truncated")
    return Arrival(record.body, status=200, robots=tuple(signals_of(record, recipe)))


def _from_folder(name: str, source: CaptionsSource) -> Arrival:
    """Read an image from the folder of a caption set; names that leave the folder are refused."""
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        return Arrival(None, "bad-url")
    with contextlib.suppress(RequestError):
        return Arrival(storage.read_bytes(storage.join(source.images, name)))
    return Arrival(None, "missing-file")

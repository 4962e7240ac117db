"""Our side of `bench/corpus.py`: the download step and the shard writer.

    python bench/parts/fetching.py all|worker|packing-worker URLS OUT SIDE

URLS has an address a line; SIDE is the longest side that stays as it came, 0 for all. A worker is
one process, which warms up with a few addresses and prints the CPU seconds of an image.
"""

import asyncio
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pycurl
import uvloop

from data_pipeline.corpus.regions import assemble
from data_pipeline.corpus.schema import KEY_LENGTH, SampleMeta
from data_pipeline.corpus.writer import PackedSample, write_shard
from data_pipeline.crawl.address import host_of
from data_pipeline.crawl.body import Inflater
from data_pipeline.crawl.consent import header_signals
from data_pipeline.crawl.easy import EasyHandle
from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.guard import Guard
from data_pipeline.crawl.sockets import GuardedSockets
from data_pipeline.images import read_header
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps import download
from data_pipeline.steps.gather import URLS, URLS_PER_UNIT
from data_pipeline.steps.tables import read_rows, write_rows
from data_pipeline.units import Entry, Unit, Work, finish_phase

PROCESSES = 2
CONNECTIONS = 16
_PIECE = 16 << 10  # as libcurl hands a body over
FEW = 50

NO_REGIONS = assemble(
    {
        "boxes": np.zeros((0, 4), "<f4"),
        "features": np.zeros((0, 2048), "<f2"),
        "object_ids": np.zeros(0, "<i2"),
        "attribute_ids": np.zeros(0, "<i2"),
        "object_conf": np.zeros(0, "<f2"),
        "attribute_conf": np.zeros(0, "<f2"),
        "class_probs": None,
        "scale": None,
    }
)


def recipe_of(side: int) -> CorpusRecipe:
    """Return a recipe with every guard on; loopback is listed, and the rate no limit."""
    limits = {"per_host_per_second": 1e6, "per_host_connections": CONNECTIONS}
    return CorpusRecipe.model_validate(
        {
            "name": "bench",
            "collect": {"source": {"kind": "table", "format": "cc12m", "uris": ["x"]}},
            "download": {**limits, "allow_private": ["127.0.0.1"], "max_side": side or None},
        }
    )


def list_urls(urls: list[str], out: str, side: int) -> None:
    """Write the list of addresses that the step before leaves, as its input is there before it."""
    gathered = Work(out, recipe_of(side), Unit("gather", "0"), "bench")
    places = [{"url": url, "places": json.dumps([{"url": url}])} for url in urls]
    write_rows(gathered.place("urls.parquet"), places, URLS, group=URLS_PER_UNIT)
    finish_phase(out, "gather", {"0": Entry("gather", "0", {}, "bench", {}, "")})


def fetch_unit(out: str, side: int, pack: bool = True) -> None:
    """Do what a build does with a slice of addresses: download them, and pack a shard."""
    inputs = {"partition": 0, "group": 0}
    work = Work(out, recipe_of(side), Unit("download", "0-0", inputs), "bench")
    download.run(work)
    if pack:
        write_shard(out, 0, samples(work))


def samples(work: Work) -> Iterator[PackedSample]:
    """Yield what came, by key, as samples without regions."""
    found = read_rows(work.place("images.parquet"))
    rows = {row["sha256"]: row for row in found if not row["reason"]}.values()
    with Path(work.place("images.bin")).open("rb") as file:
        for row in sorted(rows, key=lambda row: row["sha256"]):
            file.seek(row["offset"])
            known = {name: row[name] for name in ("url", "width", "height", "sha256")}
            meta = SampleMeta(captions=[], tags=[], page="", phash="", **known)
            members = {"json": meta.to_bytes(), "regions": NO_REGIONS}
            members["jpg"] = file.read(row["size"])
            yield PackedSample(row["sha256"][:KEY_LENGTH], members)


def fetch_units(units: list[tuple[list[str], str, int, bool]]) -> None:
    """Do several units one after the other, as a worker does."""
    for urls, out, side, pack in units:
        list_urls(urls, out, side)
        fetch_unit(out, side, pack)


def micros(task: Callable[[str], object], urls: list[str]) -> float:
    """Return CPU microseconds a call, the least of five rounds."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time_ns()
        for url in urls:
            task(url)
        best = min(best, time.process_time_ns() - started)
    return best / len(urls) / 1e3


async def awaited(task: Callable[[str], Awaitable[object]], urls: list[str]) -> float:
    """Return CPU microseconds a call of a coroutine function, the least of five rounds."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time_ns()
        for url in urls:
            await task(url)
        best = min(best, time.process_time_ns() - started)
    return best / len(urls) / 1e3


async def fetched_at_once(task: Callable[[str], Awaitable[object]], urls: list[str]) -> float:
    """Return CPU microseconds a fetch, CONNECTIONS of them under way, the least of three."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time_ns()
        waiting = iter(urls)

        async def work_off(waiting: Iterator[str] = waiting) -> None:
            for url in waiting:
                await task(url)

        await asyncio.gather(*(work_off() for _ in range(CONNECTIONS)))
        best = min(best, time.process_time_ns() - started)
    return best / len(urls) / 1e3


async def _prices(urls: list[str]) -> dict[str, float]:
    settings = recipe_of(0).download
    prices: dict[str, float] = {}
    bodies: list[bytes] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def bare(url: str) -> None:
            async with session.get(url) as response:
                bodies.append(await response.read())

        prices["(aiohttp alone, no guard)"] = await fetched_at_once(bare, urls)
    guard, body = Guard(settings), bodies[0]
    pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]
    async with Fetcher(settings) as fetcher:
        prices["(our fetcher, every guard on)"] = await fetched_at_once(fetcher.fetch, urls)

        async def turn(url: str) -> None:
            fetcher._politeness.end_turn(await fetcher._politeness.take_turn(host_of(url)))

        handle = EasyHandle(settings, GuardedSockets(guard)).curl

        def limited(_: str) -> bytes:
            inflater = Inflater("", settings.max_bytes)
            for piece in pieces:
                inflater.feed(piece)
            return inflater.finish()

        prices["address: canonical, scheme, literal and odd numbers"] = micros(
            guard.checked_url, urls
        )
        prices["robots.txt: rules of the origin, kept"] = await awaited(
            fetcher._robots.verdict, urls
        )
        prices["turn: rate and connections of the host, of all"] = await awaited(turn, urls)
        prices["deadline of the whole attempt: told to libcurl"] = micros(
            lambda _: handle.setopt(pycurl.TIMEOUT_MS, 20_000), urls
        )
        prices["bytes: limit as sent and unpacked"] = micros(limited, urls) - micros(
            lambda _: b"".join(pieces), urls
        )
    prices["opt-out: X-Robots-Tag"] = micros(
        lambda _: header_signals(["max-snippet:5, noindex"], "Trawl"), urls
    )
    prices["socket: the very address, once a connection"] = micros(
        lambda _: guard.check_socket("127.0.0.1"), urls
    )
    prices["kind and size from the header, before any decoding"] = micros(
        lambda _: read_header(body), urls
    )
    prices["SHA-256"] = micros(lambda _: hashlib.sha256(body).digest(), urls)
    return prices


def guard_prices(urls: list[str]) -> dict[str, float]:
    """Return what each guard takes of the CPU, in microseconds an image."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_prices(urls))


def worker(urls: list[str], out: str, side: int, pack: bool) -> None:
    """Print the CPU seconds of an image in this process."""
    for name, some in (("few", urls[:FEW]), ("all", urls)):
        list_urls(some, f"{out}/{name}", side)
        started = time.process_time()
        fetch_unit(f"{out}/{name}", side, pack)
    print((time.process_time() - started) / len(urls))


def two_processes(urls: list[str], out: str, side: int) -> int:
    """Fetch and pack with two processes; return their exit code."""
    share = min(-(-len(urls) // PROCESSES), URLS_PER_UNIT)
    units = [
        (urls[start : start + share], f"{out}/{start:06d}", side, True)
        for start in range(0, len(urls), share)
    ]
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=fetch_units, args=(units[number::PROCESSES],))
        for number in range(PROCESSES)
    ]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    return max(abs(process.exitcode or 0) for process in workers)


def main() -> None:
    mode, urls, out, side = sys.argv[1], Path(sys.argv[2]).read_text().split(), *sys.argv[3:5]
    if mode == "all":
        sys.exit(two_processes(urls, out, int(side)))
    worker(urls, out, int(side), pack=mode == "packing-worker")


if __name__ == "__main__":
    main()

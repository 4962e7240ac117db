"""Writes the demo's web to disk: WARC files, a store for the live server, seeds and the truth.

    FOLDER/plan.json      what is being written here; the first file to appear
    FOLDER/store/         the bodies of all answers: pages, pictures in every variant, odd files
    FOLDER/warc/          the pages and pictures as a polite crawl would have archived them
    FOLDER/seeds.txt      where a crawl starts
    FOLDER/truth.jsonl    keep or drop, and why, for every candidate
    FOLDER/web.json       sites and routes for the server; the last file to appear

Killed anywhere, the same call goes on where it was and ends with the same bytes.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trawl import storage
from trawl.chance import generator
from trawl.demo.copies import ImageFile
from trawl.demo.planning import Response, Web, image_bytes, plan_web
from trawl.demo.routes import Route
from trawl.demo.truth import truth_lines
from trawl.demo.warc import Exchange, warc_bytes
from trawl.errors import RequestError
from trawl.progress import leg

__all__ = ["Response", "Web", "plan_web", "write_web"]

_FORMAT = 1
_PICTURES_PER_JOB = 24
_HOSTS_PER_FILE = 4
_DATE = "2026-{month:02d}-{day:02d}T{hour:02d}:00:00Z"

Job = tuple[Callable[..., None], tuple[Any, ...], int]


def write_web(
    folder: str | Path, seed: int, scenes: int, sites: int = 32, workers: int = 2
) -> None:
    """Write the web of `seed` with `scenes` keepable pictures on `sites` sites to `folder`.

    Raises RequestError when `folder` holds another web, or the sizes are out of range.
    """
    root = Path(folder)
    marks = {"format": _FORMAT, "seed": seed, "scenes": scenes, "sites": sites}
    if _is_complete(root, marks):
        return
    web = plan_web(seed, scenes, sites)
    storage.write_json(root / "plan.json", marks)
    store = root / "store"
    exchanges = _exchanges(web)
    with _runner(workers) as run:
        with leg("web: pictures", len(_pictures(web))) as progress:
            for count in run(_draw_jobs(web, store), lambda: _write_texts(web, store)):
                progress.advance(count)
        with leg("web: archives", len(exchanges)) as progress:
            for count in run(_archive_jobs(exchanges, store, root / "warc"), lambda: None):
                progress.advance(count)
    storage.write_bytes(root / "truth.jsonl", truth_lines(web.truth()))
    storage.write_text(root / "seeds.txt", "".join(f"{url}\n" for url in web.seeds()))
    for left in root.rglob(".*.part"):  # what a killed run was writing
        left.unlink()
    storage.write_json(root / "web.json", marks | _description(web))


def _is_complete(root: Path, marks: dict[str, int]) -> bool:
    """Say whether this very web is whole in `root`; RequestError if another one is there."""
    plan = root / "plan.json"
    if not plan.exists():
        if root.exists() and any(path.suffix != ".part" for path in root.iterdir()):
            raise RequestError(f"{root}: not empty and no web; give an empty or a new folder")
        return False
    known = storage.read_json(plan)
    if known != marks:
        differing = [key for key in marks if known.get(key) != marks[key]]
        told = ", ".join(f"{key}={known.get(key)}, not {marks[key]}" for key in differing)
        raise RequestError(f"{plan}: holds another web ({told}); give another folder or remove it")
    return (root / "web.json").exists()


def _pictures(web: Web) -> dict[str, list[ImageFile]]:
    """Return the image files of the store by the picture that they show."""
    found: dict[str, list[ImageFile]] = defaultdict(list)
    for content in web.contents.values():
        if isinstance(content, ImageFile):
            found[content.picture].append(content)
    return dict(sorted(found.items()))


def _draw_jobs(web: Web, store: Path) -> Iterator[Job]:
    """Yield the work of drawing, a few pictures a job."""
    groups = list(_pictures(web).values())
    for start in range(0, len(groups), _PICTURES_PER_JOB):
        part = groups[start : start + _PICTURES_PER_JOB]
        yield _draw, (web.seed, part, str(store)), len(part)


def _draw(seed: int, groups: list[list[ImageFile]], store: str) -> None:
    """Draw the pictures of `groups` whose files are not all there."""
    for files in groups:
        missing = [file for file in files if not _is_whole(Path(store, file.name))]
        if missing:
            for name, data in image_bytes(seed, missing).items():
                _put(Path(store, name), data)


def _put(path: Path, data: bytes) -> None:
    """Write a file of the store, whole or not at all, without waiting for the disk.

    There are thousands of them, and what a power cut loses is drawn again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(data)
    aside.replace(path)


def _is_whole(path: Path) -> bool:
    """Say whether a file of the store is there; a power cut can leave an empty one."""
    return path.exists() and path.stat().st_size > 0


def _write_texts(web: Web, store: Path) -> None:
    """Write the pages and odd files, which need no drawing."""
    for name, content in web.contents.items():
        path = store / name
        if not isinstance(content, ImageFile) and not _is_whole(path):
            _put(path, web.body(name))


def _exchanges(web: Web) -> dict[str, list[Route]]:
    """Return what goes into each WARC file, by its name; a few hosts share one."""
    numbers = {site.host: place // _HOSTS_PER_FILE for place, site in enumerate(web.sites)}
    found: dict[str, list[Route]] = defaultdict(list)
    for url, route in sorted(web.routes.items()):
        if route.archived:
            found[f"{numbers[url.split('/')[2]]:02d}.warc.gz"].append(route)
    return dict(found)


def _archive_jobs(exchanges: dict[str, list[Route]], store: Path, folder: Path) -> Iterator[Job]:
    for name, routes in exchanges.items():
        yield _archive, (name, routes, str(store), str(folder)), 1


def _archive(name: str, routes: list[Route], store: str, folder: str) -> None:
    """Write one WARC file unless it is there."""
    path = storage.join(folder, name)
    if storage.exists(path):
        return
    with storage.open_atomic(path) as file:
        for member in warc_bytes(name, _date(name), (_exchange(route, store) for route in routes)):
            file.write(member)


def _exchange(route: Route, store: str) -> Exchange:
    body = Path(store, route.body).read_bytes() if route.body else b""
    length = ("Content-Length", str(len(body)))
    if route.truncated:
        body = body[: len(body) // 2]
    return Exchange(
        url=route.url,
        date=_date(route.url),
        status=route.status,
        headers=(*route.headers, length),
        body=body,
        truncated=route.truncated,
    )


def _date(name: str) -> str:
    """Return the time at which `name` was fetched, the same one for ever."""
    month, day, hour = (int(part) for part in generator("fetch date", name).integers(1, 11, 3))
    return _DATE.format(month=month, day=day, hour=hour)


def _description(web: Web) -> dict[str, Any]:
    """Return what the live server needs, and what a reader wants to know."""
    routes = {
        url: {
            "status": route.status,
            "headers": [list(header) for header in route.headers],
            "body": route.body,
            "behaviour": route.behaviour,
            "gzip": route.gzip,
        }
        for url, route in web.routes.items()
    }
    hosts = [{**asdict(site), "host": site.host} for site in web.sites]
    return {"hosts": hosts, "pages": len(web.pages), "routes": routes}


@contextlib.contextmanager
def _runner(workers: int) -> Iterator[Callable[[Iterable[Job], Callable[[], None]], Iterator[int]]]:
    """Yield a function that does jobs in `workers` processes and, meanwhile, other work here.

    It yields the size of each job that is done, and raises what a job raised.
    """
    if workers < 2:

        def run_here(jobs: Iterable[Job], meanwhile: Callable[[], None]) -> Iterator[int]:
            meanwhile()
            for work, arguments, size in jobs:
                work(*arguments)
                yield size

        yield run_here
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)

    def run(jobs: Iterable[Job], meanwhile: Callable[[], None]) -> Iterator[int]:
        sizes: dict[Future[None], int] = {
            pool.submit(work, *arguments): size for work, arguments, size in jobs
        }
        meanwhile()
        for done in as_completed(sizes):
            done.result()
            yield sizes[done]

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Set a worker up: one thread for OpenCV, and an end when the parent is gone."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when the one behind `sentinel` ends, however that happens."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

"""What an extraction does side by side, each with a bound: decoding ahead, writing behind.

Decoders, torch and file systems let go of the interpreter while they work, so threads suffice.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from data_pipeline.detector.extraction_source import Candidate
from data_pipeline.image_notes import notes_on
from data_pipeline.images import ImageError, decode

Item = TypeVar("Item")
Result = TypeVar("Result")
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Decoded:
    """A candidate with its pixels and its size, or with the reason why it has none."""

    candidate: Candidate
    pixels: np.ndarray | None
    size: tuple[int, int]  # height, width
    notes: dict[str, Any]
    error: ImageError | None = None


def decoded(
    candidates: Iterable[Candidate], max_pixels: int, ahead: int, threads: int
) -> Iterator[Decoded]:
    """Yield the candidates in order with their pixels, at most `ahead` decoded before their turn.

    The decoders let go of the interpreter while they work, so this overlaps with the detector.
    """
    return in_order(candidates, partial(_decode, max_pixels=max_pixels), ahead, threads)


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], ahead: int, threads: int
) -> Iterator[Result]:
    """Yield what `work` makes of the items, in their order, at most `ahead` before their turn."""
    waiting: deque[Future[Result]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="work") as pool:
        for item in islice(source, max(ahead, 1)):
            waiting.append(pool.submit(work, item))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(source, 1))
            yield result


def _decode(candidate: Candidate, max_pixels: int) -> Decoded:
    """Return a candidate with its pixels; any failure to get them is its error."""
    if isinstance(candidate.data, ImageError):
        return Decoded(candidate, None, (0, 0), {}, candidate.data)
    try:
        pixels = decode(candidate.data, max_pixels)
        return Decoded(candidate, pixels, pixels.shape[:2], notes_on(candidate.data))
    except ImageError as error:
        return Decoded(candidate, None, (0, 0), {}, error)


def in_background(batches: Iterable[list[Item]], waiting: int) -> Iterator[Item]:
    """Yield the items of `batches`, which a thread makes, at most `waiting` before their turn.

    An error of the thread is raised here; when the reader stops early, the thread stops too.
    """
    made: queue.Queue[list[Item] | BaseException | None] = queue.Queue(waiting)
    stopped = threading.Event()

    def put(value: list[Item] | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put(value, timeout=_POLL_SECONDS)
                return

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:  # it belongs to whoever reads
            put(error)

    thread = threading.Thread(target=work, name="detect", daemon=True)
    thread.start()
    try:
        while (value := made.get()) is not None:
            if isinstance(value, BaseException):
                raise value
            yield from value
    finally:
        stopped.set()
        thread.join()

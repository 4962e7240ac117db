"""A few images that pass every filter, and a real web server that serves them."""

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from trawl import chance


def write_picture(place: Path, number: int, width: int = 400, height: int = 320) -> None:
    """Write a JPEG that looks natural enough: smooth noise, another for each number."""
    place.parent.mkdir(parents=True, exist_ok=True)
    levels = chance.generator("picture", number).uniform(0, 255, (8, 10, 3)).astype(np.float32)
    smooth = cv2.resize(levels, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = chance.generator("grain", number).normal(0, 4, smooth.shape)
    cv2.imwrite(str(place), np.clip(smooth + grain, 0, 255).astype(np.uint8))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[dict[str, object]]:
    """Serve a folder as every *.test host; yield the `download` part of a recipe for it."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "per_host_per_second": 1000,
                "backoff_seconds": 0.01,
                "allow_private": ["127.0.0.1"],
                "connect_to": {"*.test": f"127.0.0.1:{server.server_port}"},
            }
        finally:
            server.shutdown()
            thread.join()

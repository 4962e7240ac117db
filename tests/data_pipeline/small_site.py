"""A small live site of scenes with captions, some of whose images fail until they are mended."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.recipe import CorpusRecipe
from trawl.demo.render import encode_jpeg, render
from trawl.demo.scenes import sample_scene
from trawl.demo.texts import captions

HOST = "http://site.test"


@dataclass
class SmallSite:
    """What the site answers: `failing` paths with 503, or with silence where the value is 0."""

    port: int = 0
    bodies: dict[str, bytes] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def recipe(self, **changes: Any) -> CorpusRecipe:
        """Return a recipe that crawls the site."""
        content: dict[str, Any] = {
            "name": "site",
            "collect": {
                "source": {"kind": "crawl", "seeds": [f"{HOST}/"], "max_depth": 1},
                "partitions": 2,
            },
            "download": {
                "per_host_per_second": 500,
                "retries": 0,
                "schemes": ["http"],
                "allow_private": ["*.test"],
                "connect_to": {"*.test": f"127.0.0.1:{self.port}"},
            },
            "shards": {"samples": 4},
            "compute": {"cpus": 1, "bucket_pairs": 5},
        }
        for key, value in changes.items():
            content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
        return CorpusRecipe.model_validate(content)


@contextlib.contextmanager
def small_site(images: int) -> Iterator[SmallSite]:
    """Serve a page with `images` scenes, the last of which repeats the first under its own name."""
    site = SmallSite()
    tags = []
    for number in range(images):
        scene = sample_scene(3, "site", number % (images - 1))
        site.bodies[f"/{number}.jpg"] = encode_jpeg(render(scene))
        text = captions(scene, 1)[0]
        tags.append(f'<figure><img src="/{number}.jpg" alt="{text}"></figure>')
    page = f"<html lang=en><title>Scenes</title><body><main>{''.join(tags)}</main></body></html>"
    site.bodies["/"] = page.encode()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            status = site.failing.get(self.path, 200 if self.path in site.bodies else 404)
            if status == 0:
                self.close_connection = True
                return
            body = site.bodies[self.path] if status == 200 else b"not now"
            self.send_response(status)
            kind = "image/jpeg" if self.path.endswith(".jpg") else "text/html"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

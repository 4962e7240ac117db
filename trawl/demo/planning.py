"""The plan of the demo's web: every page, picture, address and truth, before anything is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trawl.demo.casting import Cast
from trawl.demo.copies import ImageFile, encode_variant
from trawl.demo.deliveries import DELIVERIES
from trawl.demo.graphics import encode_graphic
from trawl.demo.layout import Layout, Page, Placed
from trawl.demo.pages import page_html
from trawl.demo.render import render
from trawl.demo.routes import Content, Route, RouteTable
from trawl.demo.scene_book import SPLIT
from trawl.demo.scenes import sample_scene
from trawl.demo.sites import Site, make_sites
from trawl.demo.truth import Row, first_reason
from trawl.errors import RequestError

LEAST_SCENES = 40
_LEADING_NOWHERE = ("too-many-redirects", "private-address")
ARCHIVE_REASON = "not-in-warc"
"""The reason, in the WARC files, of pictures that a crawl could not reach or must not fetch."""


@dataclass(frozen=True)
class Response:
    """What one address answers; `behaviour` is what the live server does beside that."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    behaviour: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Web:
    """A whole web. `contents` says what each file of the store is made from."""

    seed: int
    scenes: int
    sites: tuple[Site, ...]
    pages: tuple[Page, ...]
    routes: dict[str, Route]
    contents: dict[str, Content]

    def body(self, name: str) -> bytes:
        """Make the file `name` of the store."""
        content = self.contents[name]
        if isinstance(content, bytes):
            return content
        if isinstance(content, Page):
            return page_html(self.seed, content)
        return image_bytes(self.seed, [content])[content.name]

    def responses(self) -> Iterator[Response]:
        """Yield what every address answers, bodies included, by address."""
        for url, route in sorted(self.routes.items()):
            body = self.body(route.body) if route.body else b""
            yield Response(url, route.status, route.headers, body, route.behaviour)

    def seeds(self) -> list[str]:
        """Return the addresses at which a crawl starts."""
        return [f"{site.origin}/" for site in self.sites if site.seeded]

    def truth(self) -> Iterator[Row]:
        """Yield the truth about every candidate, by page and in document order."""
        for page in sorted(self.pages, key=lambda page: page.url):
            for placed in page.placed():
                yield _truth_row(page, placed)


def plan_web(seed: int, scenes: int, sites: int = 32) -> Web:
    """Plan a web with `scenes` keepable pictures on `sites` sites; a pure function.

    Raises RequestError when the web would be too small to hold one of everything.
    """
    if scenes < LEAST_SCENES:
        raise RequestError(f"scenes={scenes}: a web needs at least {LEAST_SCENES} scenes")
    hosts = make_sites(seed, sites)
    layout = Layout(seed, hosts, Cast(seed, scenes).items())
    table = RouteTable()
    for site in hosts:
        table.add_site(site)
    for page in layout.pages:
        table.add_page(page)
    return Web(seed, scenes, hosts, tuple(layout.pages), table.routes, table.contents)


def image_bytes(seed: int, files: list[ImageFile]) -> dict[str, bytes]:
    """Draw one picture and return each of `files`, which all show it, by name."""
    first = files[0]
    if first.source != "scene":
        kind = first.source.removeprefix("graphic-")
        return {file.name: encode_graphic(seed, kind, file.index) for file in files}
    image = render(sample_scene(seed, SPLIT, first.index))
    return {file.name: encode_variant(image, file.variant) for file in files}


def _truth_row(page: Page, placed: Placed) -> Row:
    """Return what a perfect pipeline does with `placed`, and why."""
    item = placed.item
    faults = item.faults | page.faults
    reason = first_reason(faults)
    row: Row = {
        "page": page.url,
        "image": placed.url,
        "also": list(placed.also),
        "verdict": "drop" if faults else "keep",
        "reason": reason,
        "reasons": sorted(faults),
        "picture": item.file.picture,
        "text": item.true_texts[0] if item.true_texts else None,
        "texts": list(item.true_texts),
        "copy": item.copy,
        "seen": not page.private,
    }
    delivery = DELIVERIES[item.delivery]
    if not page.private and (not delivery.archived or delivery.fault in _LEADING_NOWHERE):
        row |= {"verdict_warc": "drop", "reason_warc": ARCHIVE_REASON}
    return row

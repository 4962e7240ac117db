"""What each address of the demo's web answers: status, headers, body and misbehaviour."""

import zlib
from dataclasses import dataclass, field
from typing import Any

from trawl.demo.copies import ImageFile
from trawl.demo.deliveries import DELIVERIES, PRIVATE_TARGETS, REDIRECT_STATUSES, Delivery
from trawl.demo.graphics import content_type
from trawl.demo.layout import Page, Placed
from trawl.demo.sites import Site

Content = ImageFile | Page | bytes
"""What a body is made from."""

_DELAY_SECONDS = 0.3
_RETRY_AFTER_SECONDS = 1
_NOT_AN_IMAGE = (
    b"<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Please sign in</h1>"
    b"<p>This picture is shown to members only.</p></body></html>\n"
)
_GONE = b"<!doctype html><title>Gone</title><h1>This file is not here any more</h1>\n"
_REPORT = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
_CHARSETS = {"utf-8": "; charset=utf-8", "latin-1": "; charset=iso-8859-1", "ascii": ""}


@dataclass(frozen=True)
class Route:
    """The answer of one address. `body` names a file of the store, None is no body.

    `behaviour` is what the live server does beside answering, see `server`. `archived` says whether
    the answer is in the WARC files, `truncated` that its body arrived in part only.
    """

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str | None = None
    behaviour: dict[str, Any] = field(default_factory=dict)
    gzip: bool = False
    archived: bool = True
    truncated: bool = False


class RouteTable:
    """Collects the routes of a web and the contents of the files that they name."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.contents: dict[str, Content] = {}

    def _add(self, route: Route, content: Content | None = None) -> None:
        if content is not None and route.body is not None:
            self.contents[route.body] = content
        known = self.routes.get(route.url)
        if known is None or (route.archived and not known.archived):
            self.routes[route.url] = route

    def _literal(self, url: str, status: int, kind: str, name: str, data: bytes) -> None:
        self._add(Route(url, status, (("Content-Type", kind),), f"other/{name}"), data)

    def add_site(self, site: Site) -> None:
        """Add robots.txt and the odd files of `site`."""
        robots = site.robots_text
        if robots is not None:
            kind, url = "text/plain; charset=utf-8", f"{site.origin}/robots.txt"
            self._literal(url, 200, kind, f"robots-{site.name}.txt", robots.encode())
        if site.role == "content":
            moved = (("Location", "/"), ("Content-Type", "text/html"))
            self._add(Route(f"{site.origin}/index.html", 301, moved))
            self._literal(
                f"{site.origin}/files/report.pdf", 200, "application/pdf", "report.pdf", _REPORT
            )
            self._literal(f"{site.origin}/gone", 410, "text/html", "gone.html", _GONE)

    def add_page(self, page: Page) -> None:
        """Add `page` and everything that it shows."""
        site = page.site
        headers = [("Content-Type", f"text/html{_CHARSETS[site.encoding]}")]
        if page.opt_out == "header":
            headers.append(("X-Robots-Tag", "noai"))
        behaviour = {"kind": "delay", "seconds": site.delay} if site.delay else {}
        name = f"pages/{site.name}/{page.kind}-{page.language}-{page.number:04d}.html"
        self._add(
            Route(
                url=page.url,
                status=200,
                headers=tuple(headers),
                body=name,
                behaviour=behaviour,
                gzip=site.gzip,
                archived=not page.private,
            ),
            page,
        )
        for placed in page.placed():
            self.add_picture(placed, not page.private)
        if page.kind == "article" and not page.private and page.number % 5 == 0:
            moved = (("Location", page.path), ("Content-Type", "text/html"))
            self._add(Route(f"{site.origin}/go/{page.number}", 302, moved))

    def add_picture(self, placed: Placed, seen: bool) -> None:
        """Add the addresses of a picture; `seen` says that an archive knows its page."""
        delivery = DELIVERIES[placed.item.delivery]
        archived = seen and delivery.archived
        if delivery.role == "private" or placed.item.delivery == "same-address":
            return
        if delivery.status != 200:
            url, name = placed.url, f"error-{delivery.status}.html"
            self._literal(url, delivery.status, "text/html", name, _GONE)
        elif placed.item.delivery == "html":
            self._literal(placed.url, 200, "image/jpeg", "sign-in.html", _NOT_AN_IMAGE)
        elif delivery.redirects or delivery.target:
            self._redirects(placed, delivery, archived)
        else:
            self._file(placed.url, placed.item.file, delivery, archived)
        if placed.small is not None:
            self._file(placed.also[0], placed.small, delivery, archived)

    def _file(self, url: str, file: ImageFile, delivery: Delivery, archived: bool) -> None:
        """Add an address that hands out `file`."""
        kind = delivery.content_type or content_type(file.variant.encoding)
        headers = [("Content-Type", kind), ("Cache-Control", "max-age=3600")]
        if delivery.robots_tag:
            headers.append(("X-Robots-Tag", delivery.robots_tag))
        route = Route(
            url=url,
            status=200,
            headers=tuple(headers),
            body=file.name,
            behaviour=_behaviour(delivery),
            archived=archived,
            truncated=delivery.behaviour == "truncate",
        )
        self._add(route, file)

    def _redirects(self, placed: Placed, delivery: Delivery, archived: bool) -> None:
        """Add a chain of redirects that ends at the picture, at a private address or never."""
        origin = "/".join(placed.url.split("/", 3)[:3])
        number = zlib.crc32(placed.url.encode())
        hops = delivery.redirects if delivery.redirects > 1 else 1 + number % 3
        addresses = [placed.url, *(f"{origin}/hop/{number:x}/{hop}" for hop in range(1, hops))]
        if delivery.target:
            last = PRIVATE_TARGETS[number % len(PRIVATE_TARGETS)]
        elif delivery.redirects < 0:
            last = placed.url
        else:
            last = f"{origin}/final/{number:x}.jpg"
            self._file(last, placed.item.file, delivery, archived)
        for place, (here, there) in enumerate(zip(addresses, [*addresses[1:], last], strict=True)):
            if place % 2 and there.startswith(origin):
                there = there.removeprefix(origin)
            status = REDIRECT_STATUSES[(number + place) % len(REDIRECT_STATUSES)]
            headers = (("Location", there), ("Content-Type", "text/html"))
            self._add(Route(here, status, headers, archived=archived))


def _behaviour(delivery: Delivery) -> dict[str, Any]:
    """Return what the live server needs to know to misbehave."""
    kind = delivery.behaviour
    if kind is None:
        return {}
    if kind == "delay":
        return {"kind": kind, "seconds": _DELAY_SECONDS}
    if kind.startswith("transient-"):
        status = int(kind.rpartition("-")[2])
        return {"kind": "transient", "status": status, "retry_after": _RETRY_AFTER_SECONDS}
    return {"kind": kind}

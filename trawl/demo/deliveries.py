"""What the address of a picture does when it is asked for: the hosts, headers and faults.

A delivery without a fault hands out the picture, sooner or later.
"""

from dataclasses import dataclass

REDIRECT_STATUSES = (301, 302, 307, 308)
LONG_CHAIN = 30
PRIVATE_TARGETS = (
    "http://169.254.169.254/latest/meta-data/photo.jpg",
    "http://10.0.0.7/internal/photo.jpg",
    "http://127.0.0.1/photo.jpg",
)
"""Addresses that a crawler must not connect to, whoever redirects there."""


@dataclass(frozen=True)
class Delivery:
    """One way of delivering. `role` is the role of the host, "own" for the page's own site.

    `redirects` is the number of hops before the picture, -1 for a loop. `content_type` replaces the
    true one. `behaviour` is what the server does beside answering. `archived` says whether a crawl
    that respects robots.txt would have a response for its archive.
    """

    fault: str | None = None
    role: str = "own"
    status: int = 200
    redirects: int = 0
    target: str | None = None
    content_type: str | None = None
    robots_tag: str | None = None
    behaviour: str | None = None
    folder: str = ""
    archived: bool = True


DELIVERIES: dict[str, Delivery] = {
    "plain": Delivery(),
    "cdn": Delivery(role="cdn"),
    "same-address": Delivery(),
    "redirect": Delivery(redirects=1),
    "text-plain": Delivery(content_type="text/plain"),
    "octet-stream": Delivery(content_type="application/octet-stream"),
    "delay": Delivery(role="slow", behaviour="delay"),
    "transient-503": Delivery(role="cdn", behaviour="transient-503"),
    "transient-429": Delivery(role="cdn", behaviour="transient-429"),
    "missing": Delivery("http-error", status=404),
    "gone": Delivery("http-error", status=410),
    "error": Delivery("http-error", role="broken", status=500),
    "reset": Delivery("connection", role="reset", behaviour="reset", archived=False),
    "hang": Delivery("timeout", role="hang", behaviour="hang", archived=False),
    "drip": Delivery("timeout", role="hang", behaviour="drip", archived=False),
    "loop": Delivery("too-many-redirects", redirects=-1),
    "long-chain": Delivery("too-many-redirects", redirects=LONG_CHAIN),
    "private-redirect": Delivery("private-address", target="private"),
    "private": Delivery("private-address", role="private", archived=False),
    "html": Delivery("not-an-image", content_type="image/jpeg"),
    "cut-short": Delivery("truncated", role="cdn", behaviour="truncate"),
    "robots-folder": Delivery("robots", folder="/private", archived=False),
    "robots-host": Delivery("robots", role="closed", archived=False),
    "noai": Delivery("opt-out", robots_tag="noai, noimageai"),
    "noai-dated": Delivery(
        "opt-out", robots_tag="unavailable_after: 25 Jun 2040 15:00:00 GMT, noai"
    ),
}

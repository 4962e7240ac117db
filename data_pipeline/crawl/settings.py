"""The `download` part of a corpus recipe: how fetching behaves towards the web and towards us."""

import ipaddress
import re
from typing import Literal

from pydantic import Field, field_validator

from trawl.recipe import Recipe

_CONNECT_TO = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})")


class DownloadSettings(Recipe):
    """Limits and manners of every fetch, of pages, images and robots.txt alike."""

    source: Literal["web", "warc"] = "web"
    """Where images come from: the live web, or the WARC files that hold the pages too."""

    per_host_per_second: float = Field(default=2.0, gt=0)
    """Requests per second to one host; robots.txt may ask for fewer, never for more."""

    timeout_seconds: float = Field(default=20.0, gt=0)
    """Deadline of one attempt from connecting to the last byte, redirects included."""

    max_bytes: int = Field(default=20_000_000, gt=0)
    """Largest body, as sent and after decompression; a longer one is dropped when it passes it."""

    max_side: int | None = Field(default=None, ge=16)
    """Longest side in pixels of an image that is kept as it came; None: all are.

    A larger one is kept as a JPEG of that size, quality 85, and goes by the hash of that.
    """

    user_agent: str = Field(default="Trawl/0.1", pattern=r"^[!-~][ -~]*$")
    """What we call ourselves; robots.txt is read for the part before the first slash."""

    contact: str | None = Field(default=None, pattern=r"^[ -~]*$")
    """Address or e-mail of whoever runs the crawl, shown to every host in the User-Agent."""

    allow_private: list[str] = []
    """Private addresses, networks (CIDR) or host patterns (`*.test`) that may be fetched."""

    connect_to: dict[str, str] = {}
    """Host pattern -> "ip:port" to connect to instead of what DNS says, like curl's --connect-to.

    Covers names, not literal addresses; a private target must also be in `allow_private`.
    """

    schemes: list[Literal["http", "https"]] = ["http", "https"]
    """Schemes that are fetched and followed."""

    http2: bool = True
    """Offer HTTP/2 to hosts that are reached over TLS; they choose. Plain HTTP is always 1.1."""

    max_redirects: int = Field(default=5, ge=0)
    """Redirects followed; each target passes the same checks as the first address."""

    retries: int = Field(default=2, ge=0)
    """Further attempts after an error that may pass: connection, truncated, 429 and 5xx."""

    backoff_seconds: float = Field(default=1.0, ge=0)
    """Pause before the first retry; it doubles with each, times a jitter of 0.5 to 1.5."""

    max_pause_seconds: float = Field(default=30.0, ge=0)
    """Longest pause that Retry-After, Crawl-delay or back-off can ask of us.

    A longer Retry-After ends the fetch at once as transient; a longer Crawl-delay is cut to this.
    """

    connections: int = Field(default=256, ge=1)
    """Requests under way at once in one worker."""

    per_host_connections: int = Field(default=4, ge=1)
    """Requests under way at once to one host."""

    dns_seconds: float = Field(default=300.0, ge=0)
    """How long a checked DNS answer is used again."""

    respect_robots: bool = True
    """Read robots.txt of every origin first and keep to it (RFC 9309)."""

    verify_tls: bool = True
    """Refuse certificates that do not check out."""

    @field_validator("connect_to")
    @classmethod
    def _targets_are_addresses(cls, targets: dict[str, str]) -> dict[str, str]:
        for target in targets.values():
            split_target(target)
        return targets

    @property
    def agent_header(self) -> str:
        """The User-Agent as sent."""
        return f"{self.user_agent} (+{self.contact})" if self.contact else self.user_agent

    @property
    def agent_token(self) -> str:
        """The product name that robots.txt and X-Robots-Tag are matched against."""
        return re.split(r"[/\s]", self.user_agent, maxsplit=1)[0]


def split_target(target: str) -> tuple[str, int]:
    """Return address and port of "ip:port" or "[ipv6]:port"; ValueError if it is neither."""
    match = _CONNECT_TO.fullmatch(target)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{target!r} is not ip:port")
    return str(ipaddress.ip_address(match[1] or match[2])), int(match[3])

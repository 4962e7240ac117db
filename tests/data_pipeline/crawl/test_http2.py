"""Fetches over TLS: HTTP/2 where a host offers it, and the same guards as everywhere."""

import asyncio
import gzip
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.page import Fetched
from data_pipeline.crawl.resolve import Lookup, system_lookup
from data_pipeline.crawl.settings import DownloadSettings
from tests.cluster.nginx import Nginx, nginx
from tests.data_pipeline.crawl.scripted_server import Script, ScriptedServer, answer, raw
from tests.data_pipeline.warc_twin import write_certificate

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
LOCATIONS = """
location /tagged.jpg { add_header X-Robots-Tag noai; alias %(root)s/small.jpg; }
location /redirect { return 302 /small.jpg; }
location /away { return 302 https://10.0.0.1/; }
location /loop { return 302 /loop; }
location /drip { limit_rate 10; alias %(root)s/small.jpg; }
location /missing { return 410; }
location /busy { add_header Retry-After 3600 always; return 503 "busy"; }
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    root = folder / "root"
    root.mkdir()
    (root / "small.jpg").write_bytes(b"x" * 1000)
    (root / "large.jpg").write_bytes(b"x" * 2_000_000)
    (root / "bomb.txt").write_bytes(b"\0" * 20_000_000)
    (root / "text.txt").write_bytes(b"hello " * 1000)
    with nginx(folder / "run", certificate, root, LOCATIONS % {"root": root}) as running:
        yield running


def settings_for(port: int, **changes: object) -> DownloadSettings:
    values: dict[str, object] = {
        "per_host_per_second": 1000.0,
        "allow_private": ["127.0.0.1"],
        "connect_to": {"*.test": f"127.0.0.1:{port}"},
        "max_bytes": 1_000_000,
        "respect_robots": False,
        "verify_tls": False,
        "retries": 0,
    }
    return DownloadSettings.model_validate({**values, **changes})


def fetch(
    settings: DownloadSettings, *urls: str, lookup: Lookup = system_lookup
) -> dict[str, Fetched]:
    async def main() -> dict[str, Fetched]:
        async with Fetcher(settings, lookup) as fetcher:
            return {found.url: found async for found in fetcher.fetch_many(urls)}

    return asyncio.run(main())


def fetch_one(settings: DownloadSettings, path: str) -> Fetched:
    url = f"https://site.test/{path}"
    return fetch(settings, url)[url]


@pytest.mark.parametrize(
    ("offered", "asked", "spoken"), [(2, True, 2), (1, True, 1), (2, False, 1)]
)
def test_the_host_chooses_and_the_recipe_may_forbid(
    server: Nginx, offered: int, asked: bool, spoken: int
) -> None:
    before = len(server.requests())
    port = server.http2 if offered == 2 else server.http1
    found = fetch_one(settings_for(port, http2=asked), "tagged.jpg")
    assert (found.status, found.body, found.robots) == (200, b"x" * 1000, ["noai"]), found.detail
    assert found.headers["content-type"] == "image/jpeg"
    (request,) = server.requests(before + 1)[before:]
    assert request[0] == ("HTTP/2.0" if spoken == 2 else "HTTP/1.1")


def test_requests_to_a_host_share_a_connection(server: Nginx) -> None:
    before = len(server.requests())
    urls = [f"https://site.test/small.jpg?{n}" for n in range(12)]
    found = fetch(settings_for(server.http2, per_host_connections=4), *urls)
    assert {one.body for one in found.values()} == {b"x" * 1000}
    asked = server.requests(before + 12)[before:]
    assert len(asked) == 12
    assert len({connection for _, connection, _ in asked}) == 1


@pytest.mark.parametrize("protocol", ["http2", "http1"])
@pytest.mark.parametrize(
    ("path", "error", "status", "transient"),
    [
        ("large.jpg", "too-large", 200, False),
        ("bomb.txt", "too-large", 200, False),
        ("drip", "timeout", 200, True),
        ("away", "private-address", 302, False),
        ("loop", "too-many-redirects", 302, False),
        ("missing", "http-error", 410, False),
        ("busy", "http-error", 503, True),
    ],
)
def test_limits_hold(
    server: Nginx, protocol: str, path: str, error: str, status: int, transient: bool
) -> None:
    slow = {"timeout_seconds": 0.5} if path == "drip" else {}
    found = fetch_one(settings_for(getattr(server, protocol), **slow), path)
    assert (found.error, found.transient, found.body) == (error, transient, None)
    assert found.status == (0 if path == "drip" else status)


def test_redirects_and_packed_bodies(server: Nginx) -> None:
    settings = settings_for(server.http2)
    assert fetch_one(settings, "redirect").body == b"x" * 1000
    packed = fetch_one(settings, "text.txt")
    assert (packed.headers["content-encoding"], packed.body) == ("gzip", b"hello " * 1000)


def test_a_certificate_that_does_not_check_out_is_a_connection_error(server: Nginx) -> None:
    found = fetch_one(settings_for(server.http2, verify_tls=True, retries=2), "small.jpg")
    assert (found.error, found.status, found.transient) == ("connection", 0, True)
    assert found.attempts == 1


@pytest.mark.parametrize("addresses", [["127.0.0.2"], ["10.0.0.1", "::1"]])
def test_a_name_that_leads_inside_is_refused(server: Nginx, addresses: list[str]) -> None:
    before = len(server.requests())
    settings = settings_for(server.http2, connect_to={})
    url = f"https://site.test:{server.http2}/small.jpg"
    found = fetch(settings, url, lookup=lambda host: addresses)[url]
    assert found.error == "private-address"
    assert len(server.requests()) == before


def test_a_name_is_looked_up_once_and_only_its_allowed_addresses_are_tried(server: Nginx) -> None:
    asked: list[str] = []

    def lookup(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.2", "127.0.0.1"]

    settings = settings_for(server.http2, connect_to={})
    urls = [f"https://site.test:{server.http2}/small.jpg?{n}" for n in range(3)]
    found = fetch(settings, *urls, lookup=lookup)
    assert {one.body for one in found.values()} == {b"x" * 1000}
    assert asked == ["site.test"]


def test_the_socket_itself_is_judged(server: Nginx) -> None:
    """Were an address to slip past every check of names, no socket would be made for it."""

    async def main() -> Fetched:
        async with Fetcher(settings_for(server.http2, connect_to={})) as fetcher:
            fetcher._guard.check_address = lambda host, address: None  # type: ignore[method-assign]
            return await fetcher.fetch(f"https://127.0.0.2:{server.http2}/small.jpg")

    found = asyncio.run(main())
    assert (found.error, found.status) == ("private-address", 0)


class TlsServer(ScriptedServer):
    """The scripted server behind TLS."""

    def __init__(self, scripts: dict[str, Script], certificate: Path) -> None:
        super().__init__(scripts)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    async def __aenter__(self) -> "TlsServer":
        self._tasks = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        return self


@pytest.mark.parametrize(
    ("script", "error", "transient"),
    [
        (
            lambda: raw(HEAD + b"Content-Length: 999\r\n\r\n", b"x", pause=0.1, endless=True),
            "timeout",
            True,
        ),
        (lambda: raw(b"", pause=9), "timeout", True),
        (lambda: raw(HEAD + b"\r\n", b"x" * 65536, endless=True), "too-large", False),
        (
            lambda: raw(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 60000, endless=True),
            "connection",
            True,
        ),
        (lambda: raw(HEAD + b"Content-Length: 99000000\r\n\r\nx"), "too-large", False),
        (lambda: raw(HEAD + b"Content-Length: 100\r\n\r\nhalf"), "truncated", True),
        (lambda: raw(HEAD + b"Content-Length: 100\r\n\r\nhalf", reset=True), "truncated", True),
        (
            lambda: raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            "truncated",
            True,
        ),
        (lambda: raw(reset=True), "connection", True),
        (lambda: raw(b"HTTP/1.1 abc\r\nX: y\r\n\r\nbody"), "connection", True),
        (lambda: raw(b"HTTP/1.1\r\n\r\n"), "connection", True),
        (lambda: raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "connection", True),
        (
            lambda: answer(200, gzip.compress(b"\0" * 9_000_000), "Content-Encoding: gzip"),
            "too-large",
            False,
        ),
        (lambda: answer(200, b"x", "Content-Encoding: br"), "bad-encoding", False),
    ],
)
def test_hosts_that_misbehave_behind_tls(
    script: Callable[[], Script], error: str, transient: bool, certificate: Path
) -> None:
    async def main() -> Fetched:
        async with TlsServer({"/x": script()}, certificate) as server:
            settings = settings_for(server.port, timeout_seconds=0.7 if error == "timeout" else 20)
            async with Fetcher(settings) as fetcher:
                return await fetcher.fetch("https://site.test/x")

    found = asyncio.run(main())
    assert (found.error, found.transient, found.body) == (error, transient, None)

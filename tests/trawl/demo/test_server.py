"""The demo's web as a live server, asked over real sockets."""

import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.trawl.demo.small_web import small_plan, small_truth, small_web
from trawl.demo.live import live_web
from trawl.demo.routes import Route


@dataclass(frozen=True)
class Server:
    """A running server: its port, its log and the process."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, url: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """Ask for `url`; the caller reads the body."""
        parts = urlsplit(url)
        connection = self.connect()
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers={"Host": parts.netloc, **headers})
        return connection.getresponse()

    def open(self, url: str, timeout: float) -> socket.socket:
        """Ask for `url` on a bare socket."""
        parts = urlsplit(url)
        stream = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        stream.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        return stream


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "trawl.demo.server", str(small_web()), "--port", "0"]
    command += ["--ready-file", str(scratch / "ready"), "--log", str(scratch / "log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (scratch / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    host, _, port = (scratch / "ready").read_text().partition(":")
    assert host == "127.0.0.1"
    yield Server(int(port), scratch / "log", process)
    process.terminate()
    assert process.wait() == 0


def _routes(kind: str) -> list[Route]:
    routes = small_plan().routes.values()
    found = [route for route in routes if route.behaviour.get("kind") == kind]
    assert found
    return found


def _stored(route: Route) -> bytes:
    return (small_web() / "store" / str(route.body)).read_bytes()


def _truth(reason: str) -> list[str]:
    found = [row["image"] for row in small_truth() if row["reason"] == reason]
    assert found
    return found


def test_every_plain_answer_is_the_planned_one(server: Server) -> None:
    for url, route in small_plan().routes.items():
        if route.behaviour.get("kind") in (None, "delay") and not route.gzip:
            answer = server.ask(url)
            assert answer.status == route.status
            assert set(route.headers) <= set(answer.getheaders())
            assert answer.read() == (_stored(route) if route.body else b"")


def test_the_host_header_chooses_the_site(server: Server) -> None:
    homes = [site.origin + "/" for site in small_plan().sites if site.role == "content"]
    assert len({server.ask(url).read() for url in homes}) == len(homes)
    upper = homes[0].replace("http://", "http://X").replace("X", "").upper().replace("HTTP", "http")
    assert server.ask(upper).read() == server.ask(homes[0]).read()


def test_what_is_not_there_is_not_found(server: Server) -> None:
    home = small_plan().sites[0].origin
    for url in (home + "/nothing/here", "http://unheard-of.trawl.test/", home + "/../etc/passwd"):
        assert server.ask(url).status == 404


def test_one_connection_carries_many_requests(server: Server) -> None:
    connection = server.connect()
    site = next(site for site in small_plan().sites if site.robots == "private")
    for _ in range(1000):
        connection.request("GET", "/robots.txt", headers={"Host": site.host})
        answer = connection.getresponse()
        assert answer.read() == str(site.robots_text).encode()


def test_a_head_request_has_no_body(server: Server) -> None:
    route = next(route for route in small_plan().routes.values() if route.url.endswith(".png"))
    answer = server.ask(route.url, "HEAD")
    assert answer.getheader("Content-Length") == str(len(_stored(route)))
    assert answer.read() == b""


def test_pages_are_packed_for_those_who_ask(server: Server) -> None:
    route = next(route for route in small_plan().routes.values() if route.gzip)
    packed = server.ask(route.url, **{"Accept-Encoding": "gzip, deflate"})
    assert packed.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(packed.read()) == server.ask(route.url).read() == _stored(route)


def test_slow_hosts_keep_one_waiting(server: Server) -> None:
    route = next(route for route in _routes("delay") if "slow-press" in route.url)
    started = time.monotonic()
    assert server.ask(route.url).read() == _stored(route)
    assert time.monotonic() - started >= 0.3


def test_some_hosts_reset_the_connection(server: Server) -> None:
    with pytest.raises(ConnectionError):
        server.ask(_routes("reset")[0].url)


def test_some_hosts_never_answer(server: Server) -> None:
    with server.open(_routes("hang")[0].url, timeout=0.5) as stream:
        with pytest.raises(TimeoutError):
            stream.recv(1)


def test_some_hosts_answer_byte_by_byte(server: Server) -> None:
    route = _routes("drip")[0]
    with server.open(route.url, timeout=10) as stream:
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2]:
            answer += stream.recv(65536)
    assert len(answer.partition(b"\r\n\r\n")[2]) < len(_stored(route)) // 2


def test_some_bodies_end_too_early(server: Server) -> None:
    route = _routes("truncate")[0]
    with pytest.raises(http.client.IncompleteRead) as caught:
        server.ask(route.url).read()
    assert caught.value.partial == _stored(route)[: len(_stored(route)) // 2]


def test_busy_hosts_refuse_once_and_say_when_to_come_back(server: Server) -> None:
    statuses = set()
    for route in _routes("transient"):
        refused = server.ask(route.url)
        assert refused.getheader("Retry-After") == "1"
        statuses.add(refused.status)
        answer = server.ask(route.url)
        assert answer.status == 200
        assert answer.read() == _stored(route)
    assert statuses == {429, 503}


def _follow(server: Server, url: str, most: int) -> tuple[str, int]:
    """Follow up to `most` redirects on the web's own hosts; return the last address and status."""
    for _ in range(most):
        answer = server.ask(url)
        location = answer.getheader("Location")
        if location is None:
            return url, answer.status
        url = location if "://" in location else "/".join(url.split("/")[:3]) + location
        if not (urlsplit(url).hostname or "").endswith(".trawl.test"):
            return url, answer.status
    return url, server.ask(url).status


def test_redirects_lead_to_a_picture_in_circles_or_to_private_addresses(server: Server) -> None:
    kept = [row["image"] for row in small_truth() if row["verdict"] == "keep"]
    redirected = [url for url in kept if small_plan().routes[url].status != 200]
    assert redirected
    assert {_follow(server, url, 4)[1] for url in redirected} == {200}
    assert all(_follow(server, url, 25)[1] // 100 == 3 for url in _truth("too-many-redirects"))
    private = [url for url in _truth("private-address") if ".trawl.test/" in url]
    ends = {urlsplit(_follow(server, url, 4)[0]).hostname for url in private}
    assert ends <= {"169.254.169.254", "10.0.0.7", "127.0.0.1"}


def test_pictures_come_under_wrong_types_and_pages_as_pictures(server: Server) -> None:
    kept = [row["image"] for row in small_truth() if row["verdict"] == "keep"]
    types = {dict(small_plan().routes[url].headers).get("Content-Type"): url for url in kept}
    for kind in ("text/plain", "application/octet-stream"):
        assert server.ask(types[kind]).read().startswith(b"\xff\xd8\xff")
    for url in _truth("not-an-image"):
        answer = server.ask(url)
        assert answer.getheader("Content-Type") == "image/jpeg"
        assert b"<html>" in answer.read()


def test_opt_outs_stand_in_headers(server: Server) -> None:
    routes = small_plan().routes
    tags = {
        server.ask(url).getheader("X-Robots-Tag")
        for url in {row["image"] for row in small_truth() if row["reason"] == "opt-out"}
        if dict(routes[url].headers).get("X-Robots-Tag")
    }
    assert tags == {"noai, noimageai", "unavailable_after: 25 Jun 2040 15:00:00 GMT, noai"}


def test_the_log_names_every_request(server: Server) -> None:
    url = small_plan().sites[1].origin + "/asked/for?this=1"
    server.ask(url).read()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    parts = urlsplit(url)
    wanted = {"method": "GET", "host": parts.netloc, "target": "/asked/for?this=1"}
    assert {**wanted, "behaviour": "plain"} in lines


@pytest.mark.parametrize(
    "head", [b"POST / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"\xff\x00\r\n\r\n"]
)
def test_what_is_no_request_ends_the_connection(server: Server, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stream:
        stream.sendall(head)
        assert stream.recv(1) == b""


def test_it_ends_with_whoever_started_it() -> None:
    with live_web(small_web()) as address:
        host, _, port = address.partition(":")
        socket.create_connection((host, int(port))).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_folder_without_a_web_is_a_wrong_request(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trawl.demo.server", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "trawl world web" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_ends_it_without_a_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trawl.demo.server", str(small_web())]
    command += ["--ready-file", str(tmp_path / "ready")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == b""
    assert process.returncode == 0

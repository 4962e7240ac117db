"""The fetcher against servers that misbehave."""

import asyncio
import gzip
import zlib

import pytest

from data_pipeline.crawl.easy import EasyHandle
from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.page import Fetched
from tests.data_pipeline.crawl.scripted_server import (
    Script,
    ScriptedServer,
    answer,
    in_turn,
    raw,
    redirect,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


def fetch_all(
    scripts: dict[str, Script], urls: list[str], **changes: object
) -> tuple[dict[str, Fetched], ScriptedServer]:
    """Fetch `urls` from a server with these scripts."""

    async def main() -> tuple[dict[str, Fetched], ScriptedServer]:
        async with ScriptedServer(scripts) as server:
            async with Fetcher(server.settings(**changes)) as fetcher:
                found = {result.url: result async for result in fetcher.fetch_many(urls)}
            return found, server

    return asyncio.run(main())


def fetch_one(script: Script, **changes: object) -> Fetched:
    found, _ = fetch_all({"/x": script}, ["http://site.test/x"], **changes)
    return found["http://site.test/x"]


def test_a_plain_answer_comes_whole() -> None:
    result = fetch_one(answer(200, b"hello", "Content-Type: text/plain", "X-Robots-Tag: noai"))
    assert (result.status, result.body, result.error) == (200, b"hello", None)
    assert result.headers["content-type"] == "text/plain"
    assert result.robots == ["noai"]
    assert result.final_url == result.url


def test_a_drip_ends_at_its_deadline() -> None:
    slow = raw(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", pause=0.05, endless=True)
    result = fetch_one(slow, timeout_seconds=0.5)
    assert (result.error, result.transient, result.body) == ("timeout", True, None)
    assert result.attempts == 1


def test_a_host_that_never_answers_ends_at_the_deadline() -> None:
    result = fetch_one(raw(b"", pause=60), timeout_seconds=0.3)
    assert (result.error, result.status) == ("timeout", 0)


def test_a_deadline_covers_all_hops_of_a_redirect() -> None:
    scripts = {f"/{n}": slow_redirect(0.2, f"/{n + 1}") for n in range(9)}
    found, server = fetch_all(
        scripts, ["http://site.test/0"], timeout_seconds=0.5, max_redirects=20
    )
    assert found["http://site.test/0"].error == "timeout"
    assert len(server.paths) < 5


def slow_redirect(seconds: float, location: str) -> Script:
    async def script(writer: asyncio.StreamWriter, path: str) -> None:
        await asyncio.sleep(seconds)
        await redirect(location)(writer, path)

    return script


def test_an_endless_body_stops_at_the_limit() -> None:
    endless = raw(HEAD + b"\r\n", b"x" * 65536, endless=True)
    assert fetch_one(endless).error == "too-large"


def test_an_endless_header_is_no_answer() -> None:
    result = fetch_one(raw(b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"y" * 60000, endless=True))
    assert (result.error, result.body) == ("connection", None)


def test_a_declared_length_over_the_limit_is_not_read() -> None:
    result = fetch_one(raw(HEAD + b"Content-Length: 99000000\r\n\r\n"), timeout_seconds=5)
    assert (result.error, result.transient) == ("too-large", False)


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_shorter_than_its_length_is_truncated(reset: bool) -> None:
    result = fetch_one(raw(HEAD + b"Content-Length: 100\r\n\r\nhalf", reset=reset), retries=1)
    assert (result.error, result.transient, result.attempts) == ("truncated", True, 2)


def test_chunks_that_break_off_are_truncated() -> None:
    result = fetch_one(raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), retries=0)
    assert result.error == "truncated"


def test_a_reset_before_any_answer_is_a_connection_error_and_is_retried() -> None:
    found, server = fetch_all(
        {"/x": in_turn(raw(reset=True), raw(reset=True), answer(200, b"at last"))},
        ["http://site.test/x"],
    )
    result = found["http://site.test/x"]
    assert result.body == b"at last"
    assert result.attempts > 1
    assert server.paths == ["/x"] * 3


def test_what_is_no_http_is_a_connection_error() -> None:
    result = fetch_one(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), retries=0)
    assert (result.error, result.body) == ("connection", None)


@pytest.mark.parametrize(
    ("status", "transient", "attempts"), [(404, False, 1), (410, False, 1), (500, True, 3)]
)
def test_http_errors_carry_their_status(status: int, transient: bool, attempts: int) -> None:
    result = fetch_one(answer(status, b"body"))
    assert (result.error, result.status, result.detail) == ("http-error", status, str(status))
    assert (result.transient, result.attempts, result.body) == (transient, attempts, None)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_host_is_asked_again_after_the_time_it_names(status: int) -> None:
    busy = answer(status, b"", "Retry-After: 0")
    assert fetch_one(in_turn(busy, answer(200, b"now"))).body == b"now"


def test_a_longer_retry_after_than_ours_ends_the_fetch_as_transient() -> None:
    result = fetch_one(answer(429, b"", "Retry-After: 3600"), max_pause_seconds=1)
    assert (result.error, result.transient, result.attempts) == ("http-error", True, 1)


def test_redirects_are_followed_and_the_last_address_is_told() -> None:
    scripts = {
        "/a": redirect("/b?q=1", 301),
        "/b?q=1": redirect("//other.test/c", 307),
        "/c": answer(200, b"found"),
    }
    found, server = fetch_all(scripts, ["http://site.test/a"])
    result = found["http://site.test/a"]
    assert (result.body, result.final_url) == (b"found", "http://other.test/c")
    assert server.requests[-1] == ("other.test", "/c")


def test_redirect_loops_and_long_chains_end() -> None:
    scripts = {"/a": redirect("/b"), "/b": redirect("/a")}
    scripts |= {f"/{n}": redirect(f"/{n + 1}") for n in range(20)}
    found, server = fetch_all(scripts, ["http://site.test/a", "http://site.test/0"])
    assert {result.error for result in found.values()} == {"too-many-redirects"}
    assert len(server.paths) == 2 + 6


def test_a_redirect_without_location_is_an_http_error() -> None:
    assert fetch_one(answer(302)).error == "http-error"


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/latest/meta-data/", "private-address"),
        ("http://[::ffff:169.254.169.254]/", "private-address"),
        ("http://[::ffff:a9fe:a9fe]/", "private-address"),
        ("http://[64:ff9b::a9fe:a9fe]/", "private-address"),
        ("http://[2002:a9fe:a9fe::]/", "private-address"),
        ("http://0x7f.2/", "private-address"),
        ("http://127.0.0.2/", "private-address"),
        ("http://2130706434/", "private-address"),
        ("file:///etc/passwd", "bad-url"),
        ("ftp://site.test/x", "bad-url"),
        ("http://user:secret@site.test/", "bad-url"),
        ("gopher://127.0.0.1:25/", "bad-url"),
    ],
)
def test_redirects_pass_the_same_guard(location: str, error: str) -> None:
    result = fetch_one(redirect(location))
    assert (result.error, result.body, result.transient) == (error, None, False)


def test_a_gzip_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 1_000_000
    assert fetch_one(answer(200, bomb, "Content-Encoding: gzip")).error == "too-large"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("x-gzip", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0)),
        ("gzip", gzip.compress(b"hello", mtime=0) + b"\0\0padding"),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello", wbits=-15)),
        ("identity", b"hello"),
    ],
)
def test_content_encodings_are_undone(encoding: str, packed: bytes) -> None:
    result = fetch_one(answer(200, packed, f"Content-Encoding: {encoding}"))
    assert (result.error, result.body) == (None, b"hello")


@pytest.mark.parametrize(
    ("encoding", "packed", "error"),
    [
        ("gzip", gzip.compress(b"hello" * 99, mtime=0)[:-20], "truncated"),
        ("gzip", b"\x1f\x8b\x08garbage that inflates to nothing", "bad-encoding"),
        ("br", b"whatever", "bad-encoding"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "bad-encoding"),
    ],
)
def test_bad_content_encodings_are_told(encoding: str, packed: bytes, error: str) -> None:
    result = fetch_one(answer(200, packed, f"Content-Encoding: {encoding}"), retries=0)
    assert (result.error, result.body) == (error, None)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", "bad-url"),
        ("not a url", "bad-url"),
        ("http://", "bad-url"),
        ("http://site.test:99999/", "bad-url"),
        ("file:///etc/passwd", "bad-url"),
        ("http://a@site.test/", "bad-url"),
        ("http://127.0.0.2/", "private-address"),
        ("http://127.2/", "private-address"),
        ("http://0177.0.0.2/", "private-address"),
        ("http://[::1]/", "private-address"),
        ("http://[fe80::1%25eth0]/", "private-address"),
        ("http://134744072/", "bad-url"),
        ("http://1.2.3.4.5/", "bad-url"),
        ("http://nosuch.invalid/", "connection"),
        ("x" * 100_000, "bad-url"),
    ],
)
def test_bad_addresses_never_raise(url: str, error: str) -> None:
    found, server = fetch_all({}, [url], retries=0)
    assert (found[url].error, found[url].body) == (error, None)
    assert server.requests == []


@pytest.mark.parametrize(
    "script",
    [
        answer(200, b"plain", "X-Robots-Tag: noai", "x-robots-tag: noindex", "TDM-Reservation: 1"),
        answer(200, b""),
        answer(206, b"part"),
        answer(200, gzip.compress(b"packed"), "Content-Encoding: gzip"),
        answer(200, b"not packed", "Content-Encoding: identity"),
        answer(404, b"none"),
        raw(b"HTTP/1.1 100 Continue\r\nA: 1\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok"),
        raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n"),
        raw(HEAD + b"Content-Length: 9\r\n\r\nshort"),
        raw(HEAD + b"\r\nuntil the end"),
    ],
)
def test_plain_answers_are_read_as_by_the_careful_way(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fetch_one(script, retries=0)
    monkeypatch.setattr(EasyHandle, "_is_plain", lambda *_: False)
    careful = fetch_one(script, retries=0)
    assert all(
        getattr(plain, name) == getattr(careful, name)
        for name in ("status", "headers", "body", "error", "detail", "robots", "transient")
    )


def test_many_fetches_do_each_address_once() -> None:
    scripts = {f"/{n}": answer(200, str(n).encode()) for n in range(40)}
    urls = [f"http://s{n % 7}.test/{n}" for n in range(40)]
    found, server = fetch_all(scripts, [*urls, *urls], connections=5)
    assert {url: result.body for url, result in found.items()} == {
        url: str(n).encode() for n, url in enumerate(urls)
    }
    assert sorted(server.paths) == sorted(f"/{n}" for n in range(40))


def test_no_more_requests_to_a_host_at_once_than_the_recipe_allows() -> None:
    now = peak = 0

    async def counted(writer: asyncio.StreamWriter, path: str) -> None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.02)
        await answer(200, b"x")(writer, path)
        now -= 1

    urls = [f"http://site.test/{n}" for n in range(12)]
    fetch_all({f"/{n}": counted for n in range(12)}, urls, per_host_connections=2)
    assert peak == 2


def test_a_target_of_connect_to_must_be_allowed_too() -> None:
    result = fetch_one(answer(200), allow_private=[])
    assert result.error == "private-address"


def test_hosts_may_be_allowed_by_name() -> None:
    found, _ = fetch_all(
        {"/x": answer(200, b"ok")},
        ["http://site.test/x", "http://127.0.0.1/x"],
        allow_private=["*.test"],
    )
    assert found["http://site.test/x"].body == b"ok"
    assert found["http://127.0.0.1/x"].error == "private-address"


def test_the_endless_body_of_a_redirect_is_not_waited_for() -> None:
    onward = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 1000\r\n\r\n"
    scripts = {"/x": raw(onward, pause=60), "/y": answer(200, b"there")}
    found, _ = fetch_all(scripts, ["http://site.test/x"], timeout_seconds=5.0)
    assert found["http://site.test/x"].body == b"there"


def test_requests_one_after_the_other_share_nothing_but_the_connection() -> None:
    slow = raw(HEAD + b"Content-Length: 1000\r\n\r\n", b"x", pause=0.05, endless=True)
    packed = answer(200, gzip.compress(b"packed"), "Content-Encoding: gzip")
    scripts = {"/slow": slow, "/none": answer(404, b"none"), "/packed": packed}
    scripts |= {f"/{n}": answer(200, b"%d" % n, f"X-Number: {n}") for n in range(3)}
    paths = ("/0", "/slow", "/1", "/none", "/2", "/packed")
    urls = [f"http://{host}.test{path}" for path in paths for host in ("one", "two")]
    settings = {"timeout_seconds": 0.5, "per_host_connections": 1, "retries": 0}
    found, _ = fetch_all(scripts, urls, **settings)
    for host in ("one", "two"):
        got = [found[f"http://{host}.test{path}"] for path in paths]
        assert [result.body for result in got] == [b"0", None, b"1", None, b"2", b"packed"]
        assert [result.headers.get("x-number") for result in got[::2]] == ["0", "1", "2"]
        assert [result.error for result in got[1::2]] == ["timeout", "http-error", None]


def test_what_is_made_of_an_outcome_ends_the_fetching_if_it_fails() -> None:
    taken: list[str] = []

    def take(result: Fetched) -> None:
        taken.append(result.url)
        raise ValueError("enough")

    async def main() -> None:
        async with ScriptedServer({f"/{n}": answer(200, b"x") for n in range(50)}) as server:
            async with Fetcher(server.settings(per_host_connections=1)) as fetcher:
                await fetcher.fetch_each([f"http://site.test/{n}" for n in range(50)], take)

    with pytest.raises(ValueError, match="enough"):
        asyncio.run(main())
    assert taken == ["http://site.test/0"]

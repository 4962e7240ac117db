"""The WARC files of the demo's web, read with FastWARC."""

import base64
import gzip
import hashlib
import io
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from tests.trawl.demo.small_web import small_plan, small_truth, small_web
from trawl.demo.warc import Exchange, warc_bytes


def _files() -> list[Path]:
    return sorted((small_web() / "warc").glob("*.warc.gz"))


@cache
def _responses() -> dict[str, tuple[dict[str, str], int, dict[str, str], bytes]]:
    """Record headers, status, HTTP headers and body by address."""
    found = {}
    for path in _files():
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, parse_http=True):
                if record.record_type == WarcRecordType.response:
                    found[record.headers["WARC-Target-URI"]] = _parts(record)
    return found


def _parts(record: WarcRecord) -> tuple[dict[str, str], int, dict[str, str], bytes]:
    body = record.reader.read()
    http = {name.lower(): value for name, value in record.http_headers.items()}
    return dict(record.headers.items()), record.http_headers.status_code, http, body


def test_every_archived_answer_is_there_with_its_body() -> None:
    web, responses = small_plan(), _responses()
    archived = {url: route for url, route in web.routes.items() if route.archived}
    assert set(responses) == set(archived)
    for url, (_, status, http, body) in responses.items():
        route = archived[url]
        assert status == route.status
        assert http.get("content-type") == dict(route.headers).get("Content-Type")
        whole = (small_web() / "store" / route.body).read_bytes() if route.body else b""
        assert http["content-length"] == str(len(whole))
        assert body == (whole[: len(whole) // 2] if route.truncated else whole)


def test_pages_pictures_robots_redirects_and_errors_are_all_archived() -> None:
    responses = _responses()
    types = {http.get("content-type", "").split(";")[0] for _, _, http, _ in responses.values()}
    assert {"text/html", "image/jpeg", "image/png", "image/gif", "text/plain"} <= types
    assert {200, 404, 410, 500} <= {status for _, status, _, _ in responses.values()}
    assert {301, 302, 307, 308} & {status for _, status, _, _ in responses.values()}
    assert any(url.endswith("/robots.txt") for url in responses)


def test_what_robots_forbids_or_never_answered_is_not_archived() -> None:
    responses = _responses()
    assert not [url for url in responses if urlsplit(url).path.startswith("/private/")]
    for row in small_truth():
        if row.get("reason_warc") == "not-in-warc":
            assert responses.get(row["image"], ({}, 302, {}, b""))[1] // 100 == 3
        elif row["verdict"] == "keep":
            assert row["image"] in responses


def test_cut_bodies_are_marked() -> None:
    marked = [url for url, (head, _, _, _) in _responses().items() if "WARC-Truncated" in head]
    assert marked
    truncated = {row["image"] for row in small_truth() if row["reason"] == "truncated"}
    assert set(marked) <= truncated


def test_digests_hold() -> None:
    for head, _, _, body in _responses().values():
        digest = base64.b32encode(hashlib.sha1(body).digest()).decode()
        assert head["WARC-Payload-Digest"] == f"sha1:{digest}"


def test_every_record_can_be_read_alone() -> None:
    data = _files()[0].read_bytes()
    offsets = []
    with _files()[0].open("rb") as stream:
        offsets += [record.stream_pos for record in ArchiveIterator(stream)]
    for start, end in zip(offsets, [*offsets[1:], len(data)], strict=True):
        assert gzip.decompress(data[start:end]).startswith(b"WARC/1.1\r\n")


def test_equal_exchanges_make_equal_bytes() -> None:
    exchange = Exchange(
        "http://a.test/x", "2026-01-01T00:00:00Z", 200, (("Content-Type", "text/plain"),), b"hello"
    )
    one, other = (
        b"".join(warc_bytes("00.warc.gz", "2026-01-01T00:00:00Z", [exchange])) for _ in range(2)
    )
    assert one == other
    kinds = [record.record_type for record in ArchiveIterator(io.BytesIO(one))]
    assert kinds == [WarcRecordType.warcinfo, WarcRecordType.response]

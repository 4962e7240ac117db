"""WARC files, whole and damaged."""

import gzip
import io
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.crawl.page import WarcRecord
from data_pipeline.crawl.warc import (
    _PIECE,
    _PROBE,
    MAX_DAMAGES,
    _next_record,
    read_at,
    read_warc,
)


def record(url: str, http: bytes, kind: str = "response", extra: str = "") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Record-ID: <urn:uuid:0>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n{extra}"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/html", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def write(path: Path, records: list[bytes], packed: bool = True) -> Path:
    path.write_bytes(b"".join(gzip.compress(r, mtime=0) if packed else r for r in records))
    return path


def summary(records: list[WarcRecord]) -> list[tuple[str, bytes | None, str | None]]:
    return [(record.url, record.body, record.error) for record in records]


@pytest.mark.parametrize("packed", [True, False])
def test_records_come_with_their_places(tmp_path: Path, packed: bool) -> None:
    file = write(
        tmp_path / "x.warc.gz",
        [
            record("http://a.org/info", b"software: x\r\n", kind="warcinfo"),
            record("http://A.org", http(b"one", "X-A: 1", "X-A: 2")),
            record("dns:a.org", http(b"no page")),
            record("<http://a.org/2>", http(b"two", status="404 Not Found")),
            record("http://a.org/3", b"three", kind="resource"),
            record("http://a.org/4", http(b"cut"), extra="WARC-Truncated: length\r\n"),
        ],
        packed,
    )
    found = list(read_warc(file))
    assert [(r.url, r.status, r.body) for r in found] == [
        ("http://a.org/", 200, b"one"),
        ("http://a.org/2", 404, b"two"),
        ("http://a.org/3", 200, b"three"),
        ("http://a.org/4", 200, b"cut"),
    ]
    assert found[0].headers["x-a"] == "1, 2"
    assert found[0].content_type == "text/html"
    assert [r.truncated for r in found] == [False, False, False, True]
    for known in found:
        assert read_at(file, known.offset, known.length) == known


def test_transfer_and_content_encodings_are_undone(tmp_path: Path) -> None:
    chunked = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    packed = gzip.compress(b"hello world")
    framed = f"{len(packed):x}\r\n".encode() + packed + b"\r\n0\r\n\r\n"
    records = [
        record("http://a.org/1", http(chunked, "Transfer-Encoding: chunked")),
        record("http://a.org/2", http(packed, "Content-Encoding: gzip")),
        record(
            "http://a.org/3", http(framed, "Transfer-Encoding: chunked", "Content-Encoding: gzip")
        ),
        # Many crawlers keep the header and store the body plain.
        record("http://a.org/4", http(b"hello world", "Transfer-Encoding: chunked")),
        record("http://a.org/5", http(b"hello world", "Content-Encoding: gzip")),
    ]
    found = list(read_warc(write(tmp_path / "x.warc.gz", records)))
    assert [r.body for r in found] == [b"hello world"] * 5


def test_bodies_over_the_limit_come_as_errors(tmp_path: Path) -> None:
    records = [
        record("http://a.org/1", http(b"x" * 5000)),
        record("http://a.org/2", http(gzip.compress(b"x" * 5000), "Content-Encoding: gzip")),
        record("http://a.org/3", http(b"y" * 100_000)),
        record("http://a.org/4", http(b"fine")),
    ]
    for packed in (True, False):
        file = write(tmp_path / "x.warc.gz", records, packed)
        found = list(read_warc(file, max_bytes=1000))
        errors = [(r.url[-1], r.error) for r in found]
        assert errors == [("1", "too-large"), ("2", "too-large"), ("3", "too-large"), ("4", None)]


def test_a_body_is_read_only_where_it_is_wanted(tmp_path: Path) -> None:
    records = [record(f"http://a.org/{n}", http(b"x" * n)) for n in range(1, 5)]
    file = write(tmp_path / "x.warc.gz", records)
    found = list(read_warc(file, wanted=lambda record: record.url.endswith("3")))
    assert [r.body for r in found] == [None, None, b"xxx", None]
    assert [r.error for r in found] == [None] * 4


def test_a_bad_http_head_costs_its_record_only(tmp_path: Path) -> None:
    records = [
        record("http://a.org/1", b"\0\1\2 no http at all"),
        record("http://a.org/2", b""),
        record("http://a.org/3", http(b"good")),
    ]
    found = list(read_warc(write(tmp_path / "x.warc.gz", records)))
    assert [r.error for r in found] == ["bad-http", "bad-http", None]


@pytest.mark.parametrize("harm", ["cut", "flip", "insert", "zero", "delete", "header"])
@pytest.mark.parametrize("which", [0, 2, 4])
def test_damage_costs_one_record(tmp_path: Path, harm: str, which: int) -> None:
    noise = random.Random(0).randbytes(3000)
    plain = [record(f"http://a.org/{n}", http(noise + bytes([n]))) for n in range(5)]
    members = [bytearray(gzip.compress(r, mtime=0)) for r in plain]
    hurt = members[which]
    if harm == "cut":
        del members[which + 1 :], hurt[1500:]
    elif harm == "flip":
        hurt[1500] ^= 0xFF
    elif harm == "insert":
        hurt[1500:1500] = b"garbage" * 20
    elif harm == "zero":
        hurt[1000:2000] = bytes(1000)
    elif harm == "delete":
        del hurt[1000:1100]
    else:
        hurt[:10] = b"0123456789"
    file = tmp_path / "x.warc.gz"
    file.write_bytes(b"".join(members))
    found = list(read_warc(file))
    good = [n for n in range(len(members)) if n != which]
    assert [int(r.url[-1]) for r in found if r.error is None] == good
    assert [r.error for r in found if r.error] == ["torn"]
    torn = next(r for r in found if r.error)
    assert torn.body is None
    assert torn.offset == sum(map(len, members[:which]))
    assert torn.offset + torn.length == sum(map(len, members[: which + 1]))


def test_damage_in_a_plain_file_costs_its_records(tmp_path: Path) -> None:
    records = [bytearray(record(f"http://a.org/{n}", http(b"WARC/1.0 %d" % n))) for n in range(5)]
    records[1][:12] = b"NOTAWARC/9.9"
    records[3] = records[3].replace(b"Content-Length: ", b"Content-Length: 9999")
    found = list(read_warc(write(tmp_path / "x.warc", records, packed=False)))
    assert [r.url[-1:] for r in found if r.error is None] == ["0", "2", "4"]
    assert {r.error for r in found if r.error} == {"torn"}


def test_an_empty_file_and_one_that_is_no_warc(tmp_path: Path) -> None:
    file = tmp_path / "x.warc.gz"
    file.write_bytes(b"")
    assert list(read_warc(file)) == []
    file.write_bytes(b"hello world, this is no WARC" * 100)
    assert [r.error for r in read_warc(file)] in ([], ["torn"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_bytes_break_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(
        b"".join(
            gzip.compress(record(f"http://a.org/{n}", http(b"body %d" % n)), mtime=0)
            for n in range(3)
        )
    )
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
        if not whole:
            break
    file = tmp_path / "fuzz.warc.gz"
    file.write_bytes(bytes(whole) or data.draw(st.binary(max_size=200)))
    for found in read_warc(file):
        assert found.error is None or found.body is None
        assert 0 <= found.offset <= found.offset + found.length <= file.stat().st_size


def test_the_real_files_read_whole(shared_data: Path) -> None:
    folder = shared_data / "web"
    for entry in json.loads((folder / "manifest.json").read_text())["files"]:
        found = list(read_warc(folder / entry["file"]))
        assert [r for r in found if r.error] == []
        assert sum("html" in r.content_type for r in found) == entry["pages"]
        assert sum(r.content_type.startswith("image/") for r in found) == entry["images"]
        for known in found[:: max(1, len(found) // 5)]:
            assert read_at(folder / entry["file"], known.offset, known.length) == known


def test_reading_needs_no_more_memory_than_a_record(tmp_path: Path) -> None:
    huge = io.BytesIO()
    with gzip.GzipFile(fileobj=huge, mode="wb", mtime=0) as member:
        member.write(record("http://a.org/bomb", http(b"\0" * 60_000_000)))
    file = tmp_path / "x.warc.gz"
    file.write_bytes(huge.getvalue() + gzip.compress(record("http://a.org/2", http(b"fine"))))
    found = list(read_warc(file, max_bytes=1_000_000))
    assert summary(found) == [
        ("http://a.org/bomb", None, "too-large"),
        ("http://a.org/2", b"fine", None),
    ]


class _Counting(io.BytesIO):
    """A file that counts the bytes which are read from it."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_many_false_beginnings_are_passed_over_in_one_reading() -> None:
    """Found by fuzzing: each of them once made the reader read the following megabyte anew."""
    good = gzip.compress(record("http://a.org/1", http(b"body")), mtime=0)
    noise = b"\x1f\x8b\x08" * 20_000
    for size in (0, len(noise), 2 * _PIECE):
        file = _Counting(noise + bytes(size) + noise[:99] + good)
        place = len(file.getvalue()) - len(good)
        assert _next_record(file, 1) == place
        assert file.read_bytes <= place + len(good) + 5 * _PROBE
        assert _next_record(file, place + 1) is None


def test_heads_without_an_end_are_passed_over(tmp_path: Path) -> None:
    """Found by fuzzing: the reader went through the rest of the file for each of them."""
    good = record("http://a.org/1", http(b"body"))
    noise = b"WARC/1.0\r\nWARC-Type: response\r\n" * 20_000
    file = _Counting(noise + good)
    assert _next_record(file, 1) == len(noise)
    assert file.read_bytes <= len(noise) + len(good) + 5
    path = write(tmp_path / "heads.warc", [noise, good], packed=False)
    assert [found.url for found in read_warc(path) if found.error is None] == ["http://a.org/1"]


def test_a_file_with_too_much_damage_is_given_up(tmp_path: Path) -> None:
    torn = record("http://a.org/1", http(b"body")).replace(
        b"Content-Length: ", b"Content-Length: 9999"
    )
    path = write(tmp_path / "torn.warc", [torn] * (MAX_DAMAGES + 10), packed=False)
    found = list(read_warc(path))
    assert {of_file.error for of_file in found} == {"torn"}
    assert len(found) == MAX_DAMAGES + 1
    assert found[-1].offset + found[-1].length == path.stat().st_size

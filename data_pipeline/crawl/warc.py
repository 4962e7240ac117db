"""WARC files: the pages and images of a crawl, read in a stream or one record at a time.

Damage costs the records that it touches and no more: the reader reports the place, looks for the
next record that starts well and goes on.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecordType
from fastwarc.warc import WarcRecord as RawRecord

from data_pipeline.crawl.address import canonical
from data_pipeline.crawl.body import BodyError, unpacked
from data_pipeline.crawl.chunked import dechunked
from data_pipeline.crawl.page import WarcRecord
from trawl import storage

MAX_DAMAGES = 1_000
"""Damaged places of one file behind which reading goes on; behind the last all is lost."""

MAX_BODY_BYTES = 20_000_000
"""Largest body of a record, as stored and unpacked, unless the caller says otherwise."""

Wanted = Callable[[WarcRecord], bool]
"""Sees a record without its body and says whether the body is to be read."""

RESPONSES = WarcRecordType.response | WarcRecordType.resource
"""Records of what a crawler was answered: the content of WARC files."""

METADATA = WarcRecordType.metadata
"""Records of what was found out about answers: the content of WAT files."""

_GZIP_MAGIC = b"\x1f\x8b\x08"
_PLAIN_MAGIC = b"\nWARC/1."
_PIECE = 1 << 20
_PROBE = 4096
# A record's head ends with an empty line, and no other record begins inside of it. What only looks
# like one must be told here: the reader would go through the whole file for its end.
_HEAD = re.compile(rb"WARC/1\.[^\n]*+\n(?:(?!WARC/1\.|\r?\n)[^\n]*+\n)++\r?\n")
_HEAD_BYTES = 64 << 10
# A record this many times too large is not inflated to get past it: the next one is looked for.
_HOPELESS = 16


def read_warc(
    uri: str | Path,
    max_bytes: int = MAX_BODY_BYTES,
    wanted: Wanted | None = None,
    kinds: WarcRecordType = RESPONSES,
) -> Iterator[WarcRecord]:
    """Yield every record of `kinds` in the file at `uri`, local or remote.

    A record that is damaged or too large comes with `error` set. RequestError only if there is no
    file. Where `wanted` is given, the other records come with neither body nor error.
    """
    with storage.open_read(uri) as file:
        start = 0
        for _ in range(MAX_DAMAGES):
            file.seek(start)
            reader = _Reader(str(uri), 0, max_bytes, wanted, kinds)
            yield from reader.records(file)
            if reader.resume_at is None:
                return
            start = reader.resume_at
        yield WarcRecord(str(uri), start, file.seek(0, io.SEEK_END) - start, error="torn")


def read_at(
    uri: str | Path, offset: int, length: int, max_bytes: int = MAX_BODY_BYTES
) -> WarcRecord:
    """Return the record in the `length` bytes at `offset`, as `read_warc` once told them."""
    with storage.open_read(uri) as file:
        file.seek(offset)
        data = file.read(length)
    for record in _Reader(str(uri), offset, max_bytes, None).records(io.BytesIO(data)):
        return record
    return WarcRecord(str(uri), offset, length, error="torn")


class _Reader:
    """Reads records from where a file stands until its end or until damage.

    The file's first byte is byte `base` of what lies at `uri`.
    """

    def __init__(
        self,
        uri: str,
        base: int,
        max_bytes: int,
        wanted: Wanted | None,
        kinds: WarcRecordType = RESPONSES,
    ) -> None:
        self._uri = uri
        self._base = base
        self._max_bytes = max_bytes
        self._wanted = wanted
        self._kinds = kinds
        self.resume_at: int | None = None

    def records(self, file: BinaryIO) -> Iterator[WarcRecord]:
        """Yield records, damaged ones too; afterwards `resume_at` is where to read on, if it is."""
        pending: WarcRecord | None = None
        position = file.tell()
        damaged = False
        try:
            for raw in ArchiveIterator(file, record_types=self._kinds, parse_http=False):
                position = raw.stream_pos
                if pending is not None:
                    yield self._ending(pending, position)
                pending = self._record(raw)
                if pending is not None and pending.length < 0:
                    damaged = True
                    break
        except OSError:
            damaged = True
        if damaged:
            yield from self._around_damage(file, pending, position)
        elif pending is not None:
            yield self._ending(pending, file.seek(0, io.SEEK_END))

    def _around_damage(
        self, file: BinaryIO, pending: WarcRecord | None, position: int
    ) -> Iterator[WarcRecord]:
        """Yield the last record that could be started and the damage, and find the next record."""
        lost = pending is None or pending.error == "too-large"
        end = None if lost else _end_of_member(file, position)
        whole = pending is not None and pending.error != "torn" and end is not None
        self.resume_at = _next_record(file, end if whole and end else position + 1)
        following = file.seek(0, io.SEEK_END) if self.resume_at is None else self.resume_at
        damage = end if whole and end else position
        if pending is not None:
            yield self._ending(pending, damage if whole else following)
        if following > damage and (whole or pending is None):
            offset = self._base + damage
            yield WarcRecord(self._uri, offset, following - damage, error="torn")

    def _ending(self, record: WarcRecord, end: int) -> WarcRecord:
        record.length = self._base + end - record.offset
        return record

    def _record(self, raw: RawRecord) -> WarcRecord | None:
        """Return one record with its body, None if it is not of the web.

        Its length is still 0, or -1 if reading cannot go on behind it.
        """
        headers = raw.headers
        url = canonical((headers.get("WARC-Target-URI") or "").strip("<> "))
        if url is None:
            return None
        date = headers.get("WARC-Date") or ""
        record = WarcRecord(self._uri, self._base + raw.stream_pos, 0, url, date=date)
        record.truncated = headers.get("WARC-Truncated") is not None
        announced = raw.content_length
        if announced > self._max_bytes * _HOPELESS:
            record.error, record.length = "too-large", -1
            return record
        try:
            self._fill(record, raw)
        except BodyError as error:
            record.error = error.reason
        except OSError:
            record.error, record.length = "torn", -1
        return record

    def _fill(self, record: WarcRecord, raw: RawRecord) -> None:
        """Put HTTP status, headers and body into `record`; BodyError or OSError if it is bad."""
        if raw.record_type != WarcRecordType.response:
            record.status = 200
            record.content_type = raw.headers.get("Content-Type") or ""
        else:
            self._fill_http(record, raw)
        if self._wanted is not None and not self._wanted(record):
            return
        if raw.content_length > self._max_bytes:
            raise BodyError("too-large", f"record of {raw.content_length} bytes")
        expected = raw.content_length
        body = raw.reader.read() if expected else b""
        if len(body) < expected:
            raise OSError("the file ends inside the record")
        if "chunked" in record.headers.get("transfer-encoding", "").lower():
            body = dechunked(body)
        encoding = record.headers.get("content-encoding", "")
        record.body = _unpacked_if_packed(body, encoding, self._max_bytes)

    def _fill_http(self, record: WarcRecord, raw: RawRecord) -> None:
        try:
            raw.parse_http(quirks_mode=True)
        except OSError as error:
            raise BodyError("bad-http", str(error)) from error
        http = raw.http_headers
        if http is None or http.status_code is None:
            raise BodyError("bad-http", "no HTTP status line")
        record.status = int(http.status_code)
        for name, value in http:
            name = name.lower()
            known = record.headers.get(name)
            record.headers[name] = f"{known}, {value}" if known else value
        record.content_type = record.headers.get("content-type", "")


def _unpacked_if_packed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding, which many crawlers undo themselves and still write down."""
    name = encoding.strip().lower()
    if not name or name == "identity" or (name in ("gzip", "x-gzip") and body[:2] != b"\x1f\x8b"):
        return body
    try:
        return unpacked(body, encoding, limit)
    except BodyError as error:
        if name == "deflate" and error.reason == "bad-encoding":
            return body
        raise


def _end_of_member(file: BinaryIO, position: int) -> int | None:
    """Return where the gzip member at `position` ends, None if it is broken or no gzip."""
    file.seek(position)
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        while data := file.read(_PIECE):
            position += len(data)
            while data and not inflate.eof:
                inflate.decompress(data, _PIECE)
                data = inflate.unconsumed_tail
            if inflate.eof:
                return position - len(inflate.unused_data)
    except zlib.error:
        return None
    return None


def _next_record(file: BinaryIO, start: int) -> int | None:
    """Return where the next record at or after `start` begins, None if there is none.

    A packed file is searched for packed records alone: what looks like a plain one in there may be
    text that its packer stored as it was.
    """
    file.seek(0)
    packed = file.read(5) != _PLAIN_MAGIC[1:6]
    magic, skip, probe = (_GZIP_MAGIC, 0, _PROBE) if packed else (_PLAIN_MAGIC, 1, _HEAD_BYTES)
    is_record = _is_packed_record if packed else _is_plain_record
    start = max(0, start - skip)
    while True:
        file.seek(start)
        data = file.read(_PIECE)
        is_last = len(data) < _PIECE
        end = len(data) if is_last else len(data) - probe
        found = data.find(magic, 0, end)
        while found >= 0:
            if is_record(data[found : found + probe]):
                return start + found + skip
            found = data.find(magic, found + 1, end)
        if is_last:
            return None
        start += end - len(magic) + 1


def _is_plain_record(beginning: bytes) -> bool:
    """Say whether these bytes, a line's end first, go on with the whole head of a record."""
    return _HEAD.match(beginning, 1) is not None


def _is_packed_record(beginning: bytes) -> bool:
    """Say whether a gzip member that holds a record begins with these bytes."""
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        return inflate.decompress(beginning, 64).startswith(_PLAIN_MAGIC[1:])
    except zlib.error:
        return False

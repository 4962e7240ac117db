"""The tables in which steps hand rows to each other: parquet files on storage, some partitioned.

A partitioned table keeps the rows of each partition in row groups of their own, so that a later
unit reads its partition out of every earlier unit's file and nothing else.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trawl import storage

Row = dict[str, Any]

CANDIDATES = pa.schema(
    [
        ("url", pa.string()),  # absolute address of the image, or its file name in a caption set
        ("page", pa.string()),
        ("position", pa.int32()),
        ("alternatives", pa.string()),  # JSON list of other addresses of the same picture
        ("texts", pa.string()),  # JSON list of [source, text]
        ("robots", pa.string()),  # JSON list of opt-out signals
        ("licence", pa.string()),
        ("reason", pa.string()),  # why the candidate was dropped at once, or ""
        ("notes", pa.string()),  # JSON: declared size, container, dominance, language
        ("extra", pa.string()),  # JSON: region texts and questions that go along unchanged
    ]
)
LOCATIONS = pa.schema(
    [
        ("url", pa.string()),
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("status", pa.int32()),
        ("target", pa.string()),  # where a redirect leads, or ""
    ]
)
IMAGES = pa.schema(
    [
        ("url", pa.string()),
        ("reason", pa.string()),  # why there is no image, or ""
        ("sha256", pa.string()),
        ("kind", pa.string()),  # sniffed: jpeg, png, webp, gif, bmp
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("offset", pa.int64()),  # in images.bin of the same unit
        ("size", pa.int64()),
        ("robots", pa.string()),
        ("notes", pa.string()),
    ]
)
LOOKS = pa.schema(
    [
        ("sha256", pa.string()),
        ("reason", pa.string()),
        ("width", pa.int32()),  # as shown, after the EXIF orientation
        ("height", pa.int32()),
        ("phash", pa.string()),
        ("scores", pa.string()),
    ]
)
TEXTS = pa.schema(
    [
        ("row", pa.int32()),  # number of the candidate in its partition
        ("url", pa.string()),
        ("reason", pa.string()),
        ("texts", pa.string()),  # JSON list of [source, text, trust], best trusted first
        ("rejected", pa.string()),  # JSON list of [source, reason, text]
    ]
)
PLAN = pa.schema(
    [
        ("sha256", pa.string()),
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("kind", pa.string()),
    ]
)
DETECTIONS = pa.schema(
    [
        ("sha256", pa.string()),
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("object_ids", pa.list_(pa.int16())),
        ("object_conf", pa.list_(pa.float32())),
        ("attribute_ids", pa.list_(pa.int16())),
        ("attribute_conf", pa.list_(pa.float32())),
    ]
)
SCORED = pa.schema(
    [
        ("partition", pa.int32()),
        ("row", pa.int32()),
        ("url", pa.string()),
        ("page", pa.string()),
        ("position", pa.int32()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("reason", pa.string()),
        ("captions", pa.string()),  # JSON list of {text, source, score}, best first
        ("evidence", pa.string()),
    ]
)
OUTCOMES = pa.schema(
    [
        ("row", pa.int32()),
        ("reason", pa.string()),
        ("captions", pa.string()),
        ("same_as", pa.string()),  # key of the sample that stands for this one, or ""
    ]
)
PAIRS = pa.schema(
    [
        ("sha256", pa.string()),
        ("partition", pa.int32()),
        ("row", pa.int32()),
        ("captions", pa.string()),
        ("phash", pa.string()),
    ]
)


def partition_of(text: str, partitions: int) -> int:
    """Return the partition of a text (an address or a host): a hash, the same anywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % partitions


class PartitionedRows:
    """Collects rows by partition and writes them as row groups whenever enough have come."""

    _FLUSH_ROWS = 20_000

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._waiting: dict[int, list[Row]] = {}
        self._count = 0
        self.groups: list[int] = []

    def add(self, partition: int, row: Row) -> None:
        """Take one row."""
        self._waiting.setdefault(partition, []).append(row)
        self._count += 1
        if self._count >= self._FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits, one row group a partition."""
        for partition in sorted(self._waiting):
            rows = self._waiting[partition]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
            self.groups.append(partition)
        self._waiting.clear()
        self._count = 0


@contextlib.contextmanager
def partitioned(uri: str, schema: pa.Schema) -> Iterator[PartitionedRows]:
    """Open a partitioned table for writing; it appears when the block ends well."""
    with storage.open_atomic(uri) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            rows = PartitionedRows(writer, schema)
            yield rows
            rows.flush()
            writer.add_key_value_metadata({"partitions": json.dumps(rows.groups)})


def read_partition(uri: str, partition: int) -> list[Row]:
    """Return the rows of one partition of a partitioned table."""
    with storage.open_read(uri) as file:
        parquet = pq.ParquetFile(file)
        groups = json.loads((parquet.metadata.metadata or {}).get(b"partitions", b"[]"))
        wanted = [number for number, found in enumerate(groups) if found == partition]
        return parquet.read_row_groups(wanted).to_pylist() if wanted else []


def write_rows(uri: str, rows: Iterable[Row], schema: pa.Schema, group: int = 10_000) -> int:
    """Write rows as a table with row groups of `group` rows; return their number."""
    count = 0
    waiting: list[Row] = []
    with storage.open_atomic(uri) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for row in rows:
                waiting.append(row)
                count += 1
                if len(waiting) == group:
                    writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
                    waiting = []
            if waiting or not count:
                writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
    return count


def read_rows(uri: str, columns: Sequence[str] | None = None) -> list[Row]:
    """Return all rows of a table."""
    with storage.open_read(uri) as file:
        return pq.ParquetFile(file).read(columns=columns).to_pylist()


def iterate_rows(uri: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table in bounded memory."""
    with storage.open_read(uri) as file:
        for batch in pq.ParquetFile(file).iter_batches(4096, columns=columns):
            yield from batch.to_pylist()


def read_group(uri: str, group: int) -> list[Row]:
    """Return the rows of one row group of a table."""
    with storage.open_read(uri) as file:
        return pq.ParquetFile(file).read_row_group(group).to_pylist()

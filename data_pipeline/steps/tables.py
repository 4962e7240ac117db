"""The tables in which steps hand rows to each other: parquet files on storage, some partitioned.

A partitioned table keeps the rows of each partition together and knows where they lie, so that a
later unit reads its partition out of every earlier unit's file and little else.
"""

import collections
import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trawl import storage

Row = dict[str, Any]
_ROWS = 4_096  # rows that wait as Python's dictionaries, which are large
_SPILL_BYTES = 32 << 20  # of columns that wait in memory
_BATCH_ROWS = 512  # rows of one run in memory while runs are merged
_GROUP_ROWS = 2_048

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
WISHES = pa.schema(
    [
        ("url", pa.string()),
        ("home", pa.int32()),  # partition of the picture that goes by this address too
    ]
)
IMAGES = pa.schema(
    [
        ("url", pa.string()),
        ("reason", pa.string()),  # why there is no image, or ""
        ("passing", pa.bool_()),  # another fetch may bring another image than this one, or none
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
DETECTIONS = pa.schema(
    [
        ("sha256", pa.string()),
        ("offset", pa.int64()),  # in regions.bin of the same unit
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
        ("text_digests", pa.list_(pa.binary(16))),  # what stands for each of these texts,
        ("text_scores", pa.list_(pa.float64())),  # and its score
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


def partition_of(text: str, partitions: int) -> int:
    """Return the partition of a text (an address or a host): a hash, the same anywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % partitions


class PartitionedRows:
    """Takes rows or columns in any order and writes them by partition, in bounded memory.

    What has come is sorted by partition and spilled to local disk now and then; the runs are merged
    at the end. Within a partition rows stay in the order in which they came.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[Row] = []
        self._row_partitions: list[int] = []
        self._tables: list[pa.Table] = []
        self._table_partitions: list[npt.NDArray[np.int64]] = []
        self._bytes = 0
        self._runs: list[_Run] = []

    def add(self, partition: int, row: Row) -> None:
        """Take one row."""
        self._rows.append(row)
        self._row_partitions.append(partition)
        if len(self._rows) >= _ROWS:
            self._rows_to_table()

    def add_table(self, partitions: npt.NDArray[np.int64], table: pa.Table) -> None:
        """Take the rows of a table; `partitions` [rows] says where each belongs."""
        self._rows_to_table()
        self._take(partitions, table.cast(self._schema))

    def flush(self) -> None:
        """Spill what waits."""
        self._rows_to_table()
        if self._tables:
            self._spill()

    def write(self, file: BinaryIO) -> None:
        """Write all that was taken as one parquet file, whose metadata tell where what lies."""
        if self._runs:
            self.flush()
            runs = self._runs
        else:
            self._rows_to_table()
            partitions, table = self._sorted()
            runs = [_Run(partitions, iter(table.to_batches()))]
        counts: collections.Counter[int] = collections.Counter()
        for run in runs:
            counts.update(run.counts)
        with pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
            for group in _groups_of(_merged(runs, sorted(counts))):
                writer.write_table(group)
            index = [[partition, counts[partition]] for partition in sorted(counts)]
            writer.add_key_value_metadata({"partitions": json.dumps(index)})

    def _rows_to_table(self) -> None:
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            partitions = np.array(self._row_partitions, dtype=np.int64)
            self._rows, self._row_partitions = [], []
            self._take(partitions, table)

    def _take(self, partitions: npt.NDArray[np.int64], table: pa.Table) -> None:
        self._tables.append(table)
        self._table_partitions.append(partitions)
        self._bytes += table.nbytes
        if self._bytes >= _SPILL_BYTES:
            self._spill()

    def _spill(self) -> None:
        partitions, table = self._sorted()
        self._runs.append(_Run(partitions, _spilled(table)))
        self._tables, self._table_partitions, self._bytes = [], [], 0

    def _sorted(self) -> tuple[npt.NDArray[np.int64], pa.Table]:
        """Return partitions and rows of what waits, by partition, then by arrival."""
        if not self._tables:
            return np.zeros(0, dtype=np.int64), self._schema.empty_table()
        partitions = np.concatenate(self._table_partitions)
        order = np.argsort(partitions, kind="stable")
        return partitions[order], pa.concat_tables(self._tables).take(pa.array(order))


class _Run:
    """Rows sorted by partition that are handed out piece by piece."""

    def __init__(
        self,
        partitions: npt.NDArray[np.int64],
        batches: Iterator[pa.RecordBatch],
    ) -> None:
        found, counts = np.unique(partitions, return_counts=True)
        self.counts = dict(zip(found.tolist(), counts.tolist(), strict=True))
        self._batches = batches
        self._batch: pa.RecordBatch | None = None

    def take(self, partition: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `partition`, which must be the next one in the order."""
        left = self.counts.get(partition, 0)
        while left:
            if self._batch is None or not self._batch.num_rows:
                self._batch = next(self._batches)
            piece = self._batch.slice(0, left)
            self._batch = self._batch.slice(piece.num_rows)
            left -= piece.num_rows
            if piece.num_rows:
                yield piece


def _spilled(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Write `table` to a file without a name on local disk; return its batches, read as needed."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as what reads it
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
    file.seek(0)
    return _batches_of(file)


def _batches_of(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    with file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _merged(runs: list[_Run], partitions: list[int]) -> Iterator[pa.RecordBatch]:
    for partition in partitions:
        for run in runs:
            yield from run.take(partition)


def _groups_of(pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of about `_GROUP_ROWS` rows; each becomes a row group."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += piece.num_rows
        if count >= _GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, count = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


@contextlib.contextmanager
def partitioned(uri: str, schema: pa.Schema) -> Iterator[PartitionedRows]:
    """Open a partitioned table for writing; it appears when the block ends well."""
    rows = PartitionedRows(schema)
    yield rows
    with storage.open_atomic(uri) as file:
        rows.write(file)


def iterate_partition(
    uri: str, partition: int, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of one partition of a partitioned table, a row group at a time."""
    with storage.open_read(uri) as file:
        parquet = pq.ParquetFile(file)
        first = left = 0
        for found, count in json.loads((parquet.metadata.metadata or {}).get(b"partitions", b"[]")):
            if found == partition:
                left = count
                break
            first += count
        yield from _range(parquet, first, left, columns)


def _range(
    parquet: pq.ParquetFile, first: int, count: int, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield rows `first` to `first + count` of a table, reading only the row groups they lie in."""
    before = 0
    for number in range(parquet.num_row_groups):
        if not count:
            return
        rows = parquet.metadata.row_group(number).num_rows
        if before + rows > first:
            table = parquet.read_row_group(number, columns=columns)
            piece = table.slice(first - before, count)
            if piece.num_rows < rows:
                # A slice would keep the rows of the others in memory, in each file that is read.
                piece = piece.take(pa.array(np.arange(piece.num_rows)))
            first, count = first + piece.num_rows, count - piece.num_rows
            yield piece
        before += rows


def read_partition(uri: str, partition: int, columns: Sequence[str] | None = None) -> list[Row]:
    """Return the rows of one partition of a partitioned table."""
    return [row for part in iterate_partition(uri, partition, columns) for row in part.to_pylist()]


def read_slices(places: Mapping[str, str], slices: Iterable[Sequence[Any]]) -> list[Row]:
    """Return the rows that `slices` name, each (unit, first row, number of rows)."""
    return [row for unit, first, count in slices for row in read_range(places[unit], first, count)]


def read_range(uri: str, first: int, count: int) -> list[Row]:
    """Return rows `first` to `first + count` of a table."""
    with storage.open_read(uri) as file:
        parts = _range(pq.ParquetFile(file), first, count)
        return [row for part in parts for row in part.to_pylist()]


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


def write_table(uri: str, table: pa.Table, group: int = 10_000) -> None:
    """Write a table with row groups of `group` rows."""
    with (
        storage.open_atomic(uri) as file,
        pq.ParquetWriter(file, table.schema, compression="zstd") as writer,
    ):
        writer.write_table(table, row_group_size=group)


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

"""The decisions of a corpus: one row per candidate, which says how far it came and why no further.

Form: parquet, rows sorted by (url, page, position), written with fixed settings so that equal rows
make equal bytes.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.corpus.manifest import NAME as MANIFEST
from data_pipeline.corpus.manifest import DecisionsRecord, read_manifest
from trawl import storage

FOLDER = "decisions"
STEPS = (
    "collect",
    "download",
    "image_filter",
    "sentences",
    "detect",
    "score",
    "aggregate",
    "write",
)
KEPT = "kept"
SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("page", pa.string()),
        ("position", pa.int32()),
        ("key", pa.string()),
        ("step", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("score", pa.float32()),
        ("scores", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
    ]
)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return `table` as parquet, the same bytes for the same table."""
    sink = io.BytesIO()
    pq.write_table(
        table, sink, compression="zstd", compression_level=3, version="2.6", store_schema=False
    )
    return sink.getvalue()


def write_decisions(uri: str, number: int, rows: Sequence[dict[str, Any]]) -> DecisionsRecord:
    """Write file `number` of the decisions of the corpus at `uri`; return the manifest's entry."""
    ordered = sorted(rows, key=lambda row: (row["url"], row["page"], row["position"]))
    data = parquet_bytes(pa.Table.from_pylist(ordered, schema=SCHEMA))
    name = f"{number:05d}.parquet"
    storage.write_bytes(storage.join(uri, FOLDER, name), data)
    return DecisionsRecord(name=name, rows=len(rows), sha256=hashlib.sha256(data).hexdigest())


def read_decisions(
    uri: str, columns: Sequence[str] | None = None, batch: int = 8192
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all decisions of the corpus at `uri`, file by file, in bounded memory."""
    for place in decision_files(uri):
        yield from read_file(place, columns, batch)


def read_file(
    place: str, columns: Sequence[str] | None = None, batch: int = 8192
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file of decisions."""
    with storage.open_read(place) as file:
        for records in pq.ParquetFile(file).iter_batches(batch, columns=columns):
            yield from records.to_pylist()


def decision_files(uri: str) -> list[str]:
    """Return the URIs of the decisions' files, in order: those of the manifest, once there is one.

    While files are rewritten, others lie beside them.
    """
    if storage.exists(storage.join(uri, MANIFEST)):
        return [storage.join(uri, FOLDER, record.name) for record in read_manifest(uri).decisions]
    files: Iterable[str] = storage.list_files(storage.join(uri, FOLDER))
    return [place for place in files if place.endswith(".parquet")]

"""Checks a corpus against its manifest: checksums, schema, counts and index, shard by shard."""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow.parquet as pq

from data_pipeline.corpus import index
from data_pipeline.corpus.decisions import FOLDER as DECISIONS_FOLDER
from data_pipeline.corpus.decisions import SCHEMA
from data_pipeline.corpus.manifest import DecisionsRecord, Manifest, ShardRecord, read_manifest
from data_pipeline.corpus.regions import Regions, decode, made_by, placements
from data_pipeline.corpus.schema import IMAGE_EXTENSIONS, is_key, key_of, parse_meta
from data_pipeline.corpus.writer import FOLDER, index_name
from trawl import storage
from trawl.errors import RequestError, WorkError


def verify(uri: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each file of the corpus at `uri` with the faults found in it, if any.

    RequestError if the corpus has no readable manifest; a fault elsewhere never stops the check.
    """
    manifest = read_manifest(uri)
    yield "manifest.json", _manifest_faults(manifest)
    for record in manifest.shards:
        yield record.name, _guarded(_shard_faults, uri, record, manifest)
        yield index_name(record.name), _guarded(_index_faults, uri, record)
    for decisions in manifest.decisions:
        yield decisions.name, _guarded(_decision_faults, uri, decisions)
    yield "folder", _stray_faults(uri, manifest)


def _guarded(check: Any, *arguments: Any) -> list[str]:
    """Run a check and turn an error that ends it into a fault."""
    try:
        return list(check(*arguments))
    except (RequestError, WorkError, OSError, tarfile.TarError, ValueError) as error:
        return [str(error)]


def _manifest_faults(manifest: Manifest) -> list[str]:
    """Compare the manifest's totals with the sums over its shards."""
    faults = []
    for name in ("samples", "captions", "regions", "bytes"):
        total = sum(getattr(shard, name) for shard in manifest.shards)
        if total != getattr(manifest, name):
            faults.append(f"{name}: {getattr(manifest, name)}, the shards add up to {total}")
    rows = sum(record.rows for record in manifest.decisions)
    if rows != sum(manifest.funnel.values()):
        faults.append(f"decisions: {rows} rows, the funnel counts {sum(manifest.funnel.values())}")
    return faults


def _shard_faults(uri: str, record: ShardRecord, manifest: Manifest) -> Iterator[str]:
    """Check one tar: size, checksum, then every sample."""
    place = storage.join(uri, FOLDER, record.name)
    if storage.size(place) != record.bytes:
        yield f"{storage.size(place)} bytes, the manifest says {record.bytes}"
    if storage.sha256_of(place) != record.sha256:
        yield "the checksum is not the manifest's"
    counts = {"samples": 0, "captions": 0, "regions": 0}
    last = ""
    for key, members, _ in read_tar(place):
        if key <= last:
            yield f"{key}: not after {last}"
        last = key
        meta = parse_meta(members["json"], key)
        regions = decode(members["regions"])
        counts["samples"] += 1
        counts["captions"] += len(meta.captions)
        counts["regions"] += len(regions)
        yield from _sample_faults(key, members, meta.sha256, regions, manifest)
    for name, found in counts.items():
        if found != getattr(record, name):
            yield f"{found} {name}, the manifest says {getattr(record, name)}"


def _sample_faults(
    key: str, members: dict[str, bytes], sha256: str, regions: Regions, manifest: Manifest
) -> Iterator[str]:
    """Check that key, image and ids of one sample agree with each other and with the manifest."""
    if not is_key(key) or not sha256.startswith(key):
        yield f"{key}: not the start of the image's sha256"
    images = [name for name in members if name not in ("json", "regions")]
    for extension in images:
        if extension not in IMAGE_EXTENSIONS.values() or len(images) > 1:
            yield f"{key}: unexpected member .{extension}"
        elif key_of(members[extension]) != key:
            yield f"{key}: the image has other content"
    detector = manifest.detector
    if (told := made_by(members["regions"])) and told != detector.stamp():
        yield f"{key}: its regions were made by {told}, the manifest says {detector.stamp()}"
    if len(regions) and int(regions.object_ids.max()) >= len(detector.objects):
        yield f"{key}: an object id beyond the manifest's names"
    if len(regions) and int(regions.attribute_ids.max()) >= len(detector.attributes):
        yield f"{key}: an attribute id beyond the manifest's names"
    if regions.features.shape[1] != detector.feature_size:
        yield f"{key}: features of {regions.features.shape[1]}, not {detector.feature_size}"


def read_tar(place: str) -> Iterator[tuple[str, dict[str, bytes], dict[str, tuple[int, int]]]]:
    """Yield key, members by extension, and their offsets and sizes, sample by sample."""
    key = ""
    members: dict[str, bytes] = {}
    spots: dict[str, tuple[int, int]] = {}
    with storage.open_read(place) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for entry in tar:
            stem, _, extension = entry.name.partition(".")
            if not entry.isreg():
                raise WorkError(f"{entry.name}: not a regular file")
            if stem != key and key:
                yield key, members, spots
                members, spots = {}, {}
            key = stem
            content = tar.extractfile(entry)
            members[extension] = content.read() if content else b""
            spots[extension] = (entry.offset_data, entry.size)
    if key:
        yield key, members, spots


def rebuild_index(place: str) -> bytes:
    """Return the index that the tar at `place` must have, made from the tar alone."""
    rows: list[npt.NDArray[Any]] = [
        index.row_of(key, spots, placements(members["regions"]))
        for key, members, spots in read_tar(place)
    ]
    return index.to_bytes(rows, storage.size(place))


def _index_faults(uri: str, record: ShardRecord) -> Iterator[str]:
    """Check an index: its checksum, and that it is the index of its tar."""
    data = storage.read_bytes(storage.join(uri, FOLDER, index_name(record.name)))
    if hashlib.sha256(data).hexdigest() != record.index_sha256:
        yield "the checksum is not the manifest's"
    if data != rebuild_index(storage.join(uri, FOLDER, record.name)):
        yield "not the index of its shard"


def _decision_faults(uri: str, record: DecisionsRecord) -> Iterator[str]:
    """Check one file of decisions: checksum, schema, count."""
    place = storage.join(uri, DECISIONS_FOLDER, record.name)
    if storage.sha256_of(place) != record.sha256:
        yield "the checksum is not the manifest's"
    with storage.open_read(place) as file:
        parquet = pq.ParquetFile(file)
        if parquet.metadata.num_rows != record.rows:
            yield f"{parquet.metadata.num_rows} rows, the manifest says {record.rows}"
        if not parquet.schema_arrow.equals(SCHEMA):
            yield "the columns are not those of decisions"


def _stray_faults(uri: str, manifest: Manifest) -> list[str]:
    """Name the files in shards/ and decisions/ that the manifest does not know."""
    return [f"{Path(name).name} is not in the manifest" for name in stray_files(uri, manifest)]


def stray_files(uri: str, manifest: Manifest) -> list[str]:
    """Return the files in shards/ and decisions/ that `manifest` does not know, as FOLDER/NAME."""
    known = {record.name for record in manifest.shards}
    known |= {index_name(record.name) for record in manifest.shards}
    known |= {record.name for record in manifest.decisions}
    return [
        f"{folder}/{Path(place).name}"
        for folder in (FOLDER, DECISIONS_FOLDER)
        for place in storage.list_files(storage.join(uri, folder))
        if Path(place).name not in known
    ]

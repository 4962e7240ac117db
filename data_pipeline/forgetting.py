"""Takes samples out of a corpus for good: rewrites only the files that hold them, and records it.

In order: the record, with hashes of all images that the list hits; new shards and decisions under
new names; the manifest, which switches over at once; then what held the old is removed, the stores
in `work/` included. Killed anywhere, the same command goes on from the record.
"""

import collections
import hashlib
from typing import Any

import pyarrow as pa

from data_pipeline.corpus import decisions
from data_pipeline.corpus.index import keys_in
from data_pipeline.corpus.manifest import (
    DecisionsRecord,
    Manifest,
    ShardRecord,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from data_pipeline.corpus.verify import read_tar, stray_files
from data_pipeline.corpus.writer import FOLDER as SHARDS
from data_pipeline.corpus.writer import PackedSample, index_name, write_shard
from data_pipeline.forgetting_stores import clear_stores
from data_pipeline.takedowns import (
    FORGOTTEN,
    Record,
    Takedowns,
    hashed,
    read_list,
    records,
    write_record,
)
from trawl import storage

_STEP = "collect"  # a candidate that is taken down is as one that was never followed


def forget(uri: str, place: str) -> Record:
    """Take down what the list at `place` names from the corpus at `uri`; return the record.

    RequestError: a line of the list is not understood, or the corpus is not complete.
    """
    entries = read_list(place)
    read_manifest(uri)
    known = records(uri)
    for record in known:
        if record.state != "done":  # killed: finish it, whatever is asked for now
            _carry_out(uri, record)
    for record in records(uri):
        if set(record.entries) == entries and record.manifest_sha256 == manifest_sha256(uri):
            return record
    record = _found(uri, entries, len(known) + 1)
    write_record(uri, record)
    return _carry_out(uri, record)


def _found(uri: str, entries: set[str], number: int) -> Record:
    """Return the record of what is to be taken down: all images that the entries hit."""
    wanted = Takedowns(entries)
    images = {
        hashed("key", row["key"])
        for row in decisions.read_decisions(uri, ["url", "page", "key", "sha256", "phash"])
        if row["key"] and _hits(row, wanted)
    }
    return Record(
        number=number,
        state="found",
        parent=manifest_sha256(uri),
        entries=sorted(entries),
        images=sorted(images),
    )


def _hits(row: dict[str, Any], taken: Takedowns) -> bool:
    """Say whether a decision is about something that is taken down."""
    return (
        taken.take_address(row["url"], row["page"])
        or taken.take_key(row["key"])
        or taken.take_image(row["sha256"], row["phash"])
    )


def _carry_out(uri: str, record: Record) -> Record:
    """Do what is left of a takedown."""
    taken = Takedowns([*record.entries, *record.images])
    manifest = read_manifest(uri)
    if manifest_sha256(uri) == record.parent:
        record, manifest = _rewritten(uri, record, manifest, taken)
        write_record(uri, record)
        write_manifest(uri, manifest)
    for name in stray_files(uri, manifest):
        storage.remove(storage.join(uri, name))
    clear_stores(uri, taken)
    done = record.model_copy(update={"state": "done", "manifest_sha256": manifest.sha256()})
    write_record(uri, done)
    return done


def _rewritten(
    uri: str, record: Record, manifest: Manifest, taken: Takedowns
) -> tuple[Record, Manifest]:
    """Write the files that change under new names; return the record and the manifest of them."""
    shards: list[ShardRecord] = []
    touched: list[str] = []
    for shard in manifest.shards:
        new = _shard(uri, f"{_stem(shard.name)}-t{record.number:04d}.tar", shard, taken)
        touched += [shard.name] if new is not shard else []
        shards += [new] if new.samples or new is shard else []
    files: list[DecisionsRecord] = []
    funnel = collections.Counter(manifest.funnel)
    candidates = 0
    for known in manifest.decisions:
        name = f"{_stem(known.name)}-t{record.number:04d}.parquet"
        new_file, lost = _decisions(uri, name, known, taken)
        files.append(new_file)
        funnel.subtract(lost)
        candidates += lost.total()
    if candidates:
        funnel[f"{_STEP}/{FORGOTTEN}"] += candidates
    after = manifest.model_copy(
        update={
            **{
                name: sum(getattr(shard, name) for shard in shards)
                for name in ("samples", "captions", "regions", "bytes")
            },
            "parents": [record.parent] if candidates or touched else manifest.parents,
            "funnel": {name: count for name, count in funnel.items() if count},
            "shards": shards,
            "decisions": files,
        }
    )
    told = {
        "candidates": candidates,
        "samples": manifest.samples - after.samples,
        "shards": touched,
    }
    return record.model_copy(update=told), after


def _stem(name: str) -> str:
    """Return the number that a file had when the corpus was built."""
    return name.partition(".")[0].partition("-t")[0]


def _shard(uri: str, name: str, known: ShardRecord, taken: Takedowns) -> ShardRecord:
    """Write a shard without what is taken down; return its record, `known` if nothing was."""
    place = storage.join(uri, SHARDS, known.name)
    table = storage.read_bytes(storage.join(uri, SHARDS, index_name(known.name)))
    if not any(taken.take_key(key) for key in keys_in(table, known.name)):
        return known
    samples = (
        PackedSample(key, members) for key, members, _ in read_tar(place) if not taken.take_key(key)
    )
    return write_shard(uri, name, samples)


def _decisions(
    uri: str, name: str, known: DecisionsRecord, taken: Takedowns
) -> tuple[DecisionsRecord, "collections.Counter[str]"]:
    """Write a file of decisions that names no more than the address of what is taken down."""
    place = storage.join(uri, decisions.FOLDER, known.name)
    rows: list[dict[str, Any]] = []
    lost: collections.Counter[str] = collections.Counter()
    for row in decisions.read_file(place):
        if row["reason"] != FORGOTTEN and _hits(row, taken):
            lost[f"{row['step']}/{row['reason']}"] += 1
            row = forgotten(row)
        rows.append(row)
    if not lost:
        return known, lost
    data = decisions.parquet_bytes(pa.Table.from_pylist(rows, schema=decisions.SCHEMA))
    storage.write_bytes(storage.join(uri, decisions.FOLDER, name), data)
    digest = hashlib.sha256(data).hexdigest()
    return DecisionsRecord(name=name, rows=len(rows), sha256=digest), lost


def forgotten(row: dict[str, Any]) -> dict[str, Any]:
    """Return a decision without anything of the content: where the candidate stood, and why not."""
    empty = {"key": "", "text": "", "source": "", "sha256": "", "phash": ""}
    numbers = {"score": 0.0, "scores": "{}", "width": 0, "height": 0}
    return {**row, **empty, **numbers, "step": _STEP, "reason": FORGOTTEN, "kept": False}

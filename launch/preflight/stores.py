"""The places that a job's recipe names, tried from one machine: written, read back, removed."""

import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path

from data_pipeline.collecting import told
from data_pipeline.corpus.manifest import read_manifest
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.recipe import locate as locate_corpus
from launch.job import Evaluation, Job
from launch.preflight.machine import existing
from launch.preflight.report import StoreProbe
from pretrain.checkpoints import manifest
from pretrain.checkpoints.shelf import resolve as newest_release
from pretrain.recipe import PretrainRecipe, locate
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError, WorkError

_PROBE_BYTES = 1 << 20
_RANGE_BYTES = 1 << 16

Try = tuple[str, str, Callable[[str], None]]


def tries(job: Job) -> list[Try]:
    """Return what is to be tried, as URI, purpose and trial; RequestError for a bad recipe."""
    if job.run.pretrain is not None:
        recipe = recipes.load(locate(job.run.pretrain), PretrainRecipe, job.run.changes)
        found: list[Try] = [(recipe.checkpoint.uri, "write", write_and_read)]
        if recipe.publish.uri:
            found.append((recipe.publish.uri, "write", write_and_read))
        corpora = [data.corpus for stage in recipe.stages for data in stage.data]
        found += [(uri, "corpus", read_corpus) for uri in dict.fromkeys(corpora)]
        return found
    if job.run.evaluate is not None:
        return _of_evaluation(job.run.evaluate)
    corpus = recipes.load(locate_corpus(str(job.run.corpus)), CorpusRecipe, job.run.changes)
    if corpus.out is None:
        raise RequestError(f"{job.run.corpus}: key out is missing; add it, or a change out=...")
    source = corpus.collect.source
    return [
        (corpus.out, "write", write_and_read),
        (
            ", ".join(getattr(source, "uris", None) or [source.kind]),
            "source",
            lambda _: _look(corpus),
        ),
    ]


def _of_evaluation(asked: Evaluation) -> list[Try]:
    from pretrain.evaluation import resolve

    release, corpus = resolve(asked.target, asked.stage, asked.corpus)
    found: list[Try] = [(release, "release", read_release), (corpus, "corpus", read_corpus)]
    if asked.out is not None:
        # Its folder, for a trial of the file itself would replace what is there.
        found.append((asked.out.rpartition("/")[0] or ".", "write", write_and_read))
    return found


def written(job: Job) -> list[Path]:
    """Return the local folders that the job's work writes to."""
    return [
        Path(uri.removeprefix("file://"))
        for uri, purpose, _ in tries(job)
        if purpose == "write" and not storage.is_remote(uri)
    ]


def probe(job: Job, patience: float) -> list[StoreProbe]:
    """Try all places at once, none for longer than `patience` seconds."""
    asked = tries(job)
    pool = ThreadPoolExecutor(max(1, len(asked)))
    began = time.monotonic()
    futures = [pool.submit(_timed, trial, uri) for uri, _, trial in asked]
    found = []
    for (uri, purpose, _), future in zip(asked, futures, strict=True):
        try:
            problem, seconds = future.result(max(0.0, began + patience - time.monotonic()))
        except TooLate:
            problem, seconds = f"no answer within {patience:g} s", patience
        found.append(StoreProbe(uri=uri, purpose=purpose, problem=problem, seconds=seconds))
    pool.shutdown(wait=False, cancel_futures=True)
    return found


def _timed(trial: Callable[[str], None], uri: str) -> tuple[str | None, float]:
    began = time.monotonic()
    problem = None
    try:
        trial(uri)
    except Exception as error:  # whatever a store's client raises is a finding
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
    return problem, time.monotonic() - began


def write_and_read(uri: str) -> None:
    """Write an object at `uri`, read it back and remove it; WorkError if it is not the same."""
    folder = uri
    if not storage.is_remote(uri):  # a run's folder is the run's to make
        folder = str(existing(Path(uri.removeprefix("file://"))))
    place = storage.join(folder, f".preflight-{secrets.token_hex(8)}")
    content = os.urandom(_PROBE_BYTES)
    try:
        storage.write_bytes(place, content)
        if storage.read_bytes(place) != content:
            raise WorkError(f"{place}: what was read is not what was written")
    finally:
        storage.remove(place)


def read_corpus(uri: str) -> None:
    """Read the manifest of a corpus and see that its first and its last shard can be read."""
    shards = read_manifest(uri).shards
    for shard in shards[:1] + shards[1:][-1:]:
        place = storage.join(uri, "shards", shard.name)
        size = storage.size(place)
        if size != shard.bytes:
            raise WorkError(f"{place}: has {size} bytes, its manifest says {shard.bytes}")
        storage.read_range(place, 0, _RANGE_BYTES)


def read_release(uri: str) -> None:
    """See that the release that `uri` means is whole: its files as long as its manifest says."""
    release = newest_release(uri)
    for name, entry in manifest.read(release)["files"].items():
        place = storage.join(release, name)
        size = storage.size(place)
        if size != entry["bytes"]:
            raise WorkError(f"{place}: has {size} bytes, its manifest says {entry['bytes']}")


def _look(recipe: CorpusRecipe) -> None:
    told(recipe.collect.source)

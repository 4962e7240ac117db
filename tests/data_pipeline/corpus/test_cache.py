"""The cache of remote shards: bounded, shared by processes, whole after kills."""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.cache import FileCache
from data_pipeline.corpus.faults import BadShardError
from data_pipeline.corpus.reader import Corpus, Reading
from tests.cluster.faulty_store import faulty_store
from tests.data_pipeline.corpus.samples import write_corpus
from trawl import retries, storage
from trawl.errors import RequestError

SIZE = 1000


def _put(place: str, number: int) -> tuple[str, str]:
    """Put a file of 1,000 bytes and return its URI and its hash."""
    content = bytes([number]) * SIZE
    uri = f"{place}/{number}.tar"
    storage.write_bytes(uri, content)
    return uri, hashlib.sha256(content).hexdigest()


def _taken(cache: FileCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.iterdir())


def test_the_least_recently_used_goes_first(tmp_path: Path, s3: str) -> None:
    cache = FileCache(tmp_path, 3 * SIZE)
    files = [_put(f"{s3}/cache-order", number) for number in range(5)]
    copies = [cache.get(*file, SIZE, check=True) for file in files[:3]]
    for age, copy in enumerate((copies[1], copies[2], copies[0])):
        os.utime(copy, (1000 + age, 1000 + age))
    fourth = cache.get(*files[3], None, check=True)
    assert [copy.exists() for copy in (*copies, fourth)] == [True, False, True, True]
    cache.get(*files[2], SIZE, check=True)
    fifth = cache.get(*files[4], SIZE, check=True)
    assert [copy.exists() for copy in (*copies, fourth, fifth)] == [False, False, True, True, True]
    assert _taken(cache) == 3 * SIZE
    with pytest.raises(RequestError, match=r"feeding\.cache_bytes"):
        FileCache(tmp_path / "small", SIZE - 1).get(*files[0], SIZE, check=True)


def test_what_is_not_as_it_should_be_does_not_stay(tmp_path: Path, s3: str) -> None:
    cache = FileCache(tmp_path, 10 * SIZE)
    uri, sha256 = _put(f"{s3}/cache-bad", 1)
    with pytest.raises(BadShardError, match="checksum"):
        cache.get(uri, "0" * 64, SIZE, check=True)
    with pytest.raises(BadShardError, match="1000 bytes, the manifest says 999"):
        cache.get(uri, sha256, 999, check=True)
    with pytest.raises(BadShardError, match="missing"):
        cache.get(f"{s3}/cache-bad/none.tar", sha256, SIZE, check=True)
    assert _taken(cache) == 0
    assert cache.get(uri, "0" * 64, SIZE, check=False).read_bytes() == b"\1" * SIZE


def test_what_a_killed_process_left_is_swept_up(tmp_path: Path, s3: str) -> None:
    cache = FileCache(tmp_path, 2 * SIZE)
    uri, sha256 = _put(f"{s3}/cache-killed", 1)
    cache.folder.mkdir(parents=True)
    dead = cache.folder / "dead.tar.part"
    dead.write_bytes(bytes(2 * SIZE))
    half = cache.path(sha256, uri).with_suffix(".tar.part")
    half.write_bytes(bytes(300))
    assert cache.get(uri, sha256, SIZE, check=True).read_bytes() == b"\1" * SIZE
    assert not dead.exists()
    assert not half.exists()
    # One that is being fetched is counted and left alone.
    alive = cache.folder / "alive.tar.part"
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(SIZE)
        cache.get(*_put(f"{s3}/cache-killed", 2), SIZE, check=True)
        assert alive.exists()
        assert not cache.path(sha256, uri).exists()


_FETCH = """
import sys
from pathlib import Path
from data_pipeline.corpus.cache import FileCache
cache = FileCache(Path(sys.argv[1]), int(sys.argv[2]))
for uri in sys.argv[4:]:
    number = int(uri.rsplit("/", 1)[1].split(".")[0])
    import hashlib
    content = bytes([number]) * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    for _ in range(int(sys.argv[3])):
        while True:
            try:
                assert cache.get(uri, sha256, 1000, check=True).read_bytes() == content
                break
            except FileNotFoundError:
                continue  # removed between the two, as one that is not mapped yet may be
    taken = sum(path.stat().st_size for path in cache.folder.iterdir() if path.exists())
    assert taken <= cache.limit, taken
"""


def test_processes_share_a_cache_within_its_bound(
    tmp_path: Path, s3: str, s3_settings: dict[str, str]
) -> None:
    uris = [_put(f"{s3}/cache-shared", number)[0] for number in range(6)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, **s3_settings, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _FETCH, str(tmp_path), str(3 * SIZE), "2"]
    running = [
        subprocess.Popen([*command, *order], env=environment) for order in (uris, uris[::-1])
    ]
    assert [process.wait() for process in running] == [0, 0]


def test_a_corpus_is_read_through_a_faulty_store_and_a_small_cache(
    tmp_path: Path, s3: str, s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write_corpus(str(tmp_path / "here"), (5, 3, 4, 6))
    write_corpus(f"{s3}/cache-corpus", (5, 3, 4, 6))
    largest = max(shard.bytes for shard in here.shards)
    with faulty_store(s3_settings["AWS_ENDPOINT_URL"], share=0.2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        before = retries.count()
        reading = Reading(cache=tmp_path / "cache", cache_bytes=2 * largest)
        corpus = Corpus(f"{s3}/cache-corpus", reading)
        for number, sample in enumerate(Corpus(tmp_path / "here")):
            corpus.release_evicted()
            assert corpus[number].key == sample.key
            found = corpus[number].regions.features
            np.testing.assert_array_equal(found, sample.regions.features)
        assert _taken(corpus.cache) <= 2 * largest
        assert proxy.faults.total() == 0 or retries.count() > before


def test_a_shard_damaged_in_the_store_is_named(tmp_path: Path, s3: str) -> None:
    write_corpus(f"{s3}/cache-damaged")
    shard = f"{s3}/cache-damaged/shards/00001.tar"
    content = bytearray(storage.read_bytes(shard))
    content[1000] ^= 1
    storage.write_bytes(shard, bytes(content))
    reading = Reading(cache=tmp_path)
    with pytest.raises(BadShardError, match=r"00001\.tar: the checksum"):
        Corpus(f"{s3}/cache-damaged", reading)[6]
    skipping = Corpus(f"{s3}/cache-damaged", Reading(cache=tmp_path, bad_shards="skip"))
    assert len({sample.key for sample in skipping}) <= 5
    assert skipping.replaced(range(8)) == 3


@pytest.mark.parametrize("suffix", [".tar", ".index"])
def test_a_copy_that_was_damaged_here_is_fetched_again(
    tmp_path: Path, s3: str, suffix: str
) -> None:
    whole = write_corpus(f"{s3}/cache-copies")
    corpus = Corpus(f"{s3}/cache-copies", Reading(cache=tmp_path))
    keys = [sample.key for sample in corpus]
    record = whole.shards[1]
    sha256 = record.sha256 if suffix == ".tar" else record.index_sha256
    copy = corpus.cache.path(sha256, f"x{suffix}")
    copy.write_bytes(copy.read_bytes()[:-512])
    again = Corpus(f"{s3}/cache-copies", Reading(cache=tmp_path))
    assert [sample.key for sample in again] == keys

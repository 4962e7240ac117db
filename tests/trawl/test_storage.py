"""Storage behaves alike on a local folder and on S3, and shows no file before it is whole."""

import threading
from pathlib import Path

import pytest

from trawl import storage
from trawl.errors import RequestError


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh folder on each kind of storage."""
    if request.param == "local":
        return str(tmp_path)
    return storage.join(request.getfixturevalue("s3"), tmp_path.name)


def test_what_is_written_is_read(folder: str) -> None:
    uri = storage.join(folder, "a", "b.json")
    assert not storage.exists(uri)
    storage.write_json(uri, {"two": 2, "one": 1})
    assert storage.exists(uri)
    assert storage.read_json(uri) == {"one": 1, "two": 2}
    assert storage.read_bytes(uri) == b'{\n "one": 1,\n "two": 2\n}\n'
    assert storage.size(uri) == len(storage.read_bytes(uri))
    assert storage.list_files(folder) == [uri]


def test_a_file_appears_only_when_its_block_ends_well(folder: str) -> None:
    uri = storage.join(folder, "file")

    def write_and_fail() -> None:
        with storage.open_atomic(uri) as file:
            file.write(b"x" * 100)
            raise KeyError("midway")

    with pytest.raises(KeyError):
        write_and_fail()
    assert not storage.exists(uri)
    assert storage.list_files(folder) == []
    with storage.open_atomic(uri) as file:
        file.write(b"x" * 100)
        assert not storage.exists(uri)
    assert storage.size(uri) == 100


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(folder: str, tmp_path: Path) -> None:
    uri = storage.join(folder, "large")
    content = bytes(range(256)) * (12 << 12)
    source = tmp_path / "source"
    source.write_bytes(content)
    storage.upload(source, uri)
    assert storage.read_bytes(uri) == content
    copy = storage.local_path(uri, tmp_path / "cache")
    assert copy.read_bytes() == content
    assert storage.sha256_of(uri) == storage.sha256_of(source)


def test_exactly_one_of_many_creates_a_file(folder: str) -> None:
    uri = storage.join(folder, "ledger", "unit-1")
    won: list[int] = []

    def create(number: int) -> None:
        if storage.create_exclusive(uri, str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(uri) == str(won[0]).encode()
    assert not storage.create_exclusive(uri, b"late")


def test_remove_takes_files_and_folders_and_minds_no_absence(folder: str) -> None:
    for name in ("a", "b/c"):
        storage.write_text(storage.join(folder, "x", name), name)
    storage.remove(storage.join(folder, "x", "a"))
    assert storage.list_files(folder) == [storage.join(folder, "x", "b/c")]
    storage.remove(storage.join(folder, "x"))
    storage.remove(storage.join(folder, "x"))
    assert storage.list_files(folder) == []


def test_a_missing_file_is_a_wrong_request_that_names_it(folder: str) -> None:
    with pytest.raises(RequestError, match="nowhere: no such file"):
        storage.read_bytes(storage.join(folder, "nowhere"))


def test_text_that_is_not_json_names_file_and_line(folder: str) -> None:
    uri = storage.join(folder, "bad.json")
    storage.write_text(uri, '{"a": 1,\n "b" 2}')
    with pytest.raises(RequestError, match=r"bad\.json: line 2: not JSON"):
        storage.read_json(uri)


def test_storage_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RequestError, match="no storage for carrier-pigeon"):
        storage.exists("carrier-pigeon://loft/egg")

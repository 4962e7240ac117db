"""S3 whose server errs, asks to slow down, hangs up and stalls: nothing is lost, retries count."""

import threading
from collections.abc import Iterator

import pytest

from tests.cluster.faulty_store import FAULTS, FaultyStore, faulty_store
from trawl import object_store, retries, storage
from trawl.errors import RequestError


@pytest.fixture
def faulty(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A store of which a third of the requests go wrong, with this process as its client."""
    with faulty_store(s3_settings["AWS_ENDPOINT_URL"], share=0.3) as proxy:
        for name, value in {**s3_settings, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        yield proxy


def test_what_is_written_through_faults_is_read_through_faults(faulty: FaultyStore) -> None:
    before = retries.count()
    folder = "s3://trawl/faulty-small"
    contents = {f"{folder}/{number}": str(number).encode() * 9999 for number in range(12)}
    for uri, content in contents.items():
        if len(uri) % 2:
            storage.write_bytes(uri, content)
        else:
            with storage.open_atomic(uri) as file:
                file.write(content)
    assert storage.list_files(folder) == sorted(contents)
    for uri, content in contents.items():
        assert storage.read_bytes(uri) == content
        assert storage.size(uri) == len(content)
    storage.remove(folder)
    assert storage.list_files(folder) == []
    assert set(faulty.faults) == set(FAULTS)
    # A connection that broke may have been tried again by aiohttp.
    answered = faulty.faults["error"] + faulty.faults["slow down"]
    assert answered <= retries.count() - before <= faulty.faults.total()


def test_a_large_file_goes_up_in_parts(faulty: FaultyStore) -> None:
    content = bytes(range(256)) * (11 << 12)
    uri = "s3://trawl/faulty-large"
    for _ in range(2):
        with storage.open_atomic(uri) as file:
            for start in range(0, len(content), 1 << 20):
                file.write(content[start : start + (1 << 20)])
        assert storage.read_bytes(uri) == content
    assert faulty.faults.total() > 0


def test_exactly_one_creates_even_when_answers_are_lost(faulty: FaultyStore) -> None:
    for unit in range(8):
        uri = f"s3://trawl/faulty-ledger/{unit}"
        won: list[int] = []

        def create(number: int, uri: str = uri, won: list[int] = won) -> None:
            if storage.create_exclusive(uri, str(number).encode()):
                won.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [str(number).encode() for number in won] == [storage.read_bytes(uri)]


def test_a_fault_that_lasts_ends_in_an_error(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "TRIES", 3)
    with faulty_store(s3_settings["AWS_ENDPOINT_URL"], share=1.0) as proxy:
        for name, value in {**s3_settings, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        before = retries.count()
        with pytest.raises(OSError, match="put_object failed 3 times"):
            storage.write_bytes("s3://trawl/never", b"")
        assert retries.count() - before == 2


def test_what_is_missing_is_not_asked_for_again(s3_settings: dict[str, str], s3: str) -> None:
    before = retries.count()
    with pytest.raises(RequestError, match="no such file"):
        storage.read_bytes(f"{s3}/nowhere")
    assert retries.count() == before


def test_a_server_that_says_nothing_is_given_up(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "READ_SECONDS", 0.5)
    with faulty_store(s3_settings["AWS_ENDPOINT_URL"], share=0.5, stall_seconds=60.0) as proxy:
        for name, value in {**s3_settings, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        number = 0
        while proxy.faults["stall"] < 1:
            storage.write_bytes(f"s3://trawl/silent/{number}", b"x")
            number += 1
        assert len(storage.list_files("s3://trawl/silent")) == number

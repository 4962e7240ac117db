"""Attempts at a place fence each other off, on disk and in a store whose answers get lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.faulty_store import faulty_store
from trawl import fence
from trawl.errors import RequestError, StaleError
from trawl.events import EventLog, read_events
from trawl.fence import Attempt


def test_a_newer_attempt_ends_the_right_of_an_older_one_to_write(tmp_path: Path) -> None:
    place = str(tmp_path / "run")
    first = fence.claim(place, Attempt("job", 1))
    first.check()
    with EventLog(tmp_path / "events.jsonl", first) as log:
        log.write("before")
        second = fence.claim(place, Attempt("job", 2))
        log.write("after")
    assert [event["kind"] for event in read_events(tmp_path / "events.jsonl")] == ["before"]
    second.check()
    with pytest.raises(StaleError, match="newer attempt is at work there"):
        first.check()


def test_an_attempt_that_starts_late_is_refused(tmp_path: Path) -> None:
    place = str(tmp_path)
    newer = fence.claim(place, Attempt("job", 4))
    with pytest.raises(StaleError, match="attempt 4 of the job has begun there"):
        fence.claim(place, Attempt("job", 3))
    newer.check()
    # A pod that is started anew has its number still; another job, or a user, knows what they do.
    for attempt in (Attempt("job", 4), Attempt("other", 1), None):
        again = fence.claim(place, attempt)
        again.check()
    assert again.number == 4


def test_of_many_that_begin_at_once_each_has_its_number_and_one_stands(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        fences = list(pool.map(lambda _: fence.claim(str(tmp_path)), range(24)))
    assert sorted(each.number for each in fences) == list(range(1, 25))
    assert [each.number for each in fences if each.stands] == [24]


def test_a_store_that_loses_answers_gives_each_attempt_one_number(
    s3: str, s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_store(s3_settings["AWS_ENDPOINT_URL"], share=0.3) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        first = fence.claim(f"{s3}/fenced", Attempt("job", 1))
        second = fence.claim(f"{s3}/fenced", Attempt("job", 2))
        assert (first.number, second.number) == (1, 2)
        assert not first.stands
        assert second.stands
    assert store.faults


@pytest.mark.parametrize("text", ["", "3", "job:", "job:x", ":3"])
def test_what_is_no_attempt_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="JOB:NUMBER"):
        Attempt.parse(text)

"""The event log survives kills and several writers, on local disk and on S3."""

import subprocess
import sys
from pathlib import Path

from trawl.events import EventLog, read_events


def test_events_come_back_in_order(tmp_path: Path) -> None:
    uri = tmp_path / "deep" / "events.jsonl"
    with EventLog(uri) as log:
        log.write("unit-done", unit="a", images=3)
    with EventLog(uri) as log:
        log.write("build-done")
    events = list(read_events(uri))
    assert [event["kind"] for event in events] == ["unit-done", "build-done"]
    assert events[0]["images"] == 3
    assert events[0]["time"] <= events[1]["time"]


def test_a_line_torn_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    uri = tmp_path / "events.jsonl"
    uri.write_text('{"time": 1, "kind": "a"}\n{"time": 2, "ki')
    assert [event["kind"] for event in read_events(uri)] == ["a"]
    assert list(read_events(tmp_path / "none.jsonl")) == []


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    uri = tmp_path / "events.jsonl"
    program = (
        "import sys; from trawl.events import EventLog\n"
        "log = EventLog(sys.argv[1])\n"
        "for n in range(200): log.write('tick', who=sys.argv[2], n=n, pad='x' * 500)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(uri), str(who)]) for who in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    events = list(read_events(uri))
    assert len(events) == 600
    for who in "012":
        assert [event["n"] for event in events if event["who"] == who] == list(range(200))


def test_on_s3_a_second_run_keeps_the_lines_of_the_first(s3: str) -> None:
    uri = f"{s3}/two-runs/events.jsonl"
    for kind in ("first", "second"):
        with EventLog(uri) as log:
            log.write(kind)
    assert [event["kind"] for event in read_events(uri)] == ["first", "second"]

"""Which machines are taken for bad ones."""

from pathlib import Path

import pytest

from launch import attempts
from launch.attempts import NodeEnding
from launch.blame import bad_hosts
from launch.job import Job, Work
from trawl.events import EventLog

HOSTS = ("a", "b", "c")


def attempt(folder: Path, code: int, *endings: NodeEnding) -> None:
    number = attempts.newest(folder) + 1
    assert attempts.begin(folder, number, 0, nodes=3, hosts=HOSTS)
    for ending in endings:
        attempts.write_ending(folder, number, ending)
    attempts.end(folder, number, code, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    attempts.submit(tmp_path, Job(name="a", run=Work(pretrain="none.yaml")))
    return tmp_path


def lost(node: int) -> NodeEnding:
    return NodeEnding(node, HOSTS[node], 1, "rank 0 lost another rank")


def test_a_machine_that_left_no_word_twice_is_bad(folder: Path) -> None:
    attempt(folder, 71, lost(0), lost(2))
    assert bad_hosts(folder) == []
    attempt(folder, 75, lost(0), lost(2))
    assert bad_hosts(folder) == []
    attempt(folder, 71, lost(0), lost(2))
    assert bad_hosts(folder) == ["b"]


def test_the_machine_that_the_watchdog_names_is_bad_and_not_those_that_tell(folder: Path) -> None:
    said = "rank 2 gave no sign of life for 120 s (c, process 4711, while computing step 812)"
    for _ in range(2):
        attempt(folder, 71, *(NodeEnding(node, HOSTS[node], 71, said) for node in range(3)))
    assert bad_hosts(folder) == ["c"]


def test_what_befell_all_machines_is_the_fault_of_none(folder: Path) -> None:
    for _ in range(2):
        attempt(folder, 71, *(NodeEnding(n, HOSTS[n], 71, "make room there") for n in range(3)))
    assert bad_hosts(folder) == []


def test_tasks_of_an_array_count_by_their_machine(folder: Path) -> None:
    with EventLog(folder / attempts.EVENTS) as events:
        for task, host, cause in ((0, "a", "bad-node"), (3, "a", "bad-node"), (3, "b", "bad-node")):
            events.write("task-ended", task=task, host=host, code=71, cause=cause, progress=0)
        events.write("task-ended", task=0, host="b", code=75, cause="preempted", progress=0)
    assert bad_hosts(folder) == ["a"]

"""What the tasks of an array decide without Slurm: who leads, and which of them come back."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launch import attempts, batch
from launch.array import ArrayTask, Leader
from launch.attempts import NodeEnding
from launch.job import Job, Retry, Work
from launch.meeting import free_port
from launch.place import Place, Slurm
from tests.pretrain import runs
from trawl import storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = tmp_path / "recipe.yaml"
    source = "{kind: captions, captions: none.json, images: none}"
    recipe.write_text(f"name: a\nout: {tmp_path}/out\ncollect: {{source: {source}}}\n")
    place = Place(backend="slurm", nodes=3, slurm=Slurm(array=True))
    job = Job(name="a", run=Work(corpus=str(recipe)), place=place, retry=Retry(bad_node=2))
    attempts.submit(tmp_path / "job", job)
    return tmp_path / "job"


def is_over_at_last(leader: Leader) -> bool:
    deadline = time.monotonic() + runs.PATIENCE
    while time.monotonic() < deadline:
        if leader.is_over():
            return True
        time.sleep(0.1)
    return False


def test_a_leader_is_over_when_its_port_has_closed(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        attempts.begin(folder, 1, 0, host="127.0.0.1", port=port)
        leader = Leader(folder, 1)
        assert not leader.is_over()
    assert is_over_at_last(leader)


def test_a_leader_is_over_when_it_said_so_or_another_leads(folder: Path) -> None:
    attempts.begin(folder, 1, 0, host="127.0.0.1", port=9)
    before, between = Leader(folder, 1), Leader(folder, 1)
    assert not before.is_over()
    attempts.write_ending(folder, 1, NodeEnding(0, "a", 71, ""))
    assert between.is_over()
    attempts.begin(folder, 2, 0, host="127.0.0.1", port=9)
    attempts.begin(folder, 3, 0, host="127.0.0.1", port=9)
    assert Leader(folder, 2).is_over()


def test_two_tasks_that_begin_at_once_do_not_end_the_job(folder: Path) -> None:
    with ThreadPoolExecutor(8) as tasks:
        for number in range(1, 21):
            begun = [tasks.submit(attempts.begin, folder, number, number) for _ in range(8)]
            assert sum(task.result() for task in begun) == 1
            attempts.write_ending(folder, number, NodeEnding(0, "a", 75, ""))
    # And one that saw none, for which the first is long under way.
    assert not attempts.begin(folder, 20, 20)
    assert not attempts.was_told(folder, "job-ended")


def test_a_leaders_wrong_request_is_not_tried_again_by_another(folder: Path) -> None:
    attempts.begin(folder, 1, 0, host="127.0.0.1", port=9)
    # It died between the one word and the other.
    attempts.write_ending(folder, 1, NodeEnding(0, "a", 2, "trawl: none.json: no such file"))
    assert ArrayTask(folder, 1, "127.0.0.1").run() == 0
    assert [each.cause for each in attempts.history(folder)] == ["user-error"]
    assert attempts.was_told(folder, "job-ended")
    assert batch.again(folder, 1, 0) != 0


def test_a_task_comes_back_as_often_as_it_may_without_progress(folder: Path) -> None:
    unit = folder.parent / "out" / "ledger" / "collect"
    assert [batch.again(folder, 0, 75) for _ in range(4)] == [0] * 4
    assert [batch.again(folder, 0, 71) for _ in range(2)] == [0, 0]
    storage.write_json(unit / "00000.json", {})
    assert [batch.again(folder, 0, 137) for _ in range(3)] == [0] * 3
    assert batch.again(folder, 0, 71) != 0
    assert batch.again(folder, 1, 71) == 0


def test_a_port_that_is_taken_is_left_to_its_owner() -> None:
    with socket.create_server(("", 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) not in (0, taken)
    assert free_port(taken) == taken

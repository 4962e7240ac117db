"""Jobs over ssh between two hosts of their own network: started, cut off, gone on with, stopped."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import attempts, ssh, state
from launch.job import Job, Retry, Work
from launch.place import Place
from tests.cluster.hosts import Hosts, missing
from tests.cluster.hosts import hosts as running_hosts
from tests.launch.watching import told, wait_until
from tests.pretrain import runs
from tests.pretrain.tiny_corpus import write

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with running_hosts(tmp_path_factory.mktemp("hosts")) as running:
        yield running


def job(two: Hosts, recipe: Path) -> Job:
    place = {
        "backend": "ssh",
        "nodes": 2,
        "least_nodes": 1,
        "python": sys.executable,
        "folder": str(ROOT),
        "setup": ["export OMP_NUM_THREADS=1"],
        "ssh": {"hosts": two.addresses, "options": two.options, "interface": "eth0"},
    }
    work = Work(pretrain=str(recipe))
    place_of_it = Place.model_validate(place)
    return Job(name="two", run=work, place=place_of_it, retry=Retry(bad_node=2), grace_seconds=60)


def agents(folder: Path, node: int) -> list[int]:
    """The agents of a machine."""
    words = f"launch.node\0{folder}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if words in said and f"--node\0{node}\0".encode() in said:
            found.append(int(process.name))
    return found


@pytest.mark.soak
def test_a_link_is_cut_and_the_job_goes_on_with_the_host_that_answers_and_then_with_both(
    two: Hosts, tmp_path: Path
) -> None:
    web = write(tmp_path / "web", "web", 48)
    content = runs.recipe(web, web, str(tmp_path / "run"))
    content["stages"][0]["steps"] = 240
    content["checkpoint"] |= {"every_steps": 20, "grace_seconds": 60.0}
    content["guards"] = {"silent_seconds": 5.0}
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    run, folder = tmp_path / "run", tmp_path / "job"
    ssh.submit(job(two, recipe), folder)
    wait_until(lambda: len(runs.lines(run)) > 25, folder)
    two.cut(1)
    wait_until(lambda: attempts.newest(folder) == 2, folder)
    before = len(runs.lines(run))
    wait_until(lambda: len(runs.lines(run)) > before + 25, folder)
    two.mend(1)
    for agent in agents(folder, 0):
        os.kill(agent, signal.SIGKILL)
    wait_until(lambda: not ssh.running(folder), folder)
    assert state.state_of(folder).now == "done", told(folder)
    causes = [attempt.cause for attempt in attempts.history(folder)]
    assert causes == ["bad-node", "bad-node", "done"]
    assert len(attempts.endings(folder, 3)) == 2
    assert [line["step"] for line in runs.lines(run)] == [*range(1, 241), *range(1, 7)]
    assert runs.ranks_of(recipe) == []


def test_a_stopped_job_saves_on_every_host_and_leaves_nothing(two: Hosts, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", 24)
    content = runs.recipe(web, web, str(tmp_path / "run"))
    content["stages"][0]["steps"] = 50_000
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    folder = tmp_path / "job"
    ssh.submit(job(two, recipe), folder)
    wait_until(lambda: len(runs.lines(tmp_path / "run")) > 3, folder)
    ssh.stop(folder)
    assert state.state_of(folder).now == "preempted", told(folder)
    assert [ending.code for ending in attempts.endings(folder, 1)] == [75, 75]
    assert runs.ranks_of(recipe) == agents(folder, 0) == agents(folder, 1) == []

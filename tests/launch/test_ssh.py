"""Jobs over ssh between two hosts of their own network: started, cut off, gone on with, stopped."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.corpus.manifest import manifest_sha256
from launch import attempts, ssh, state
from launch.job import Job, Retry, Work
from launch.place import Place
from tests.cluster.hosts import Hosts, missing
from tests.cluster.hosts import hosts as running_hosts
from tests.cluster.ray_cluster import raylets
from tests.data_pipeline import builds
from tests.launch.watching import told, wait_until
from tests.pretrain import runs
from tests.pretrain.tiny_corpus import write
from tests.trawl.demo.small_web import small_web

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


def of_cluster(folder: Path) -> list[int]:
    """The processes that know the token of the Ray cluster of the job in `folder`."""
    mark = f"RAY_AUTH_TOKEN_PATH={folder / 'ray.token'}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
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


def test_a_host_that_fails_twice_is_left_out(two: Hosts, tmp_path: Path) -> None:
    first, second = two.addresses
    # On the first host the agent of a machine ends at once, as where its Python is broken.
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nif ip -4 address | grep -q " {first}/"; then exit 9; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    folder = tmp_path / "job"
    asked = job(two, tmp_path / "none.yaml")
    place = asked.place.model_copy(update={"nodes": 1, "least_nodes": 1, "python": str(python)})
    ssh.submit(asked.model_copy(update={"place": place}), folder)
    wait_until(lambda: not ssh.running(folder), folder)
    assert state.state_of(folder).now == "user-error", told(folder)
    hosts = [attempts.hosts_of(folder, number) for number in (1, 2, 3)]
    assert hosts == [[first], [first], [second]]
    assert [each.cause for each in attempts.history(folder)] == ["bad-node"] * 2 + ["user-error"]


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


@pytest.mark.soak
def test_a_corpus_is_built_on_two_hosts_though_a_raylet_is_killed(
    two: Hosts, tmp_path: Path
) -> None:
    arguments = builds.warc_build(str(tmp_path / "alone"), small_web() / "warc" / "07.warc.gz")
    builds.trawl_corpus(*arguments)
    changes = [word for word in arguments if "=" in word and not word.startswith("compute.cpus")]
    out, folder = tmp_path / "out", tmp_path / "job"
    work = Work(corpus="web-demo", changes=[*changes, f"out={out}"])
    asked = job(two, tmp_path / "none.yaml").model_copy(update={"run": work})
    setup = [*asked.place.setup, f"export PYTHONPATH={ROOT}"]
    place = asked.place.model_copy(update={"setup": setup, "cpus": 1})
    ssh.submit(asked.model_copy(update={"place": place}), folder)
    wait_until(lambda: len(list((out / "ledger").glob("download/*.json"))) > 0, folder)
    assert of_cluster(folder)
    killed = raylets(two.addresses[1])
    for raylet in killed:
        os.kill(raylet, signal.SIGKILL)
    assert killed
    wait_until(lambda: not ssh.running(folder), folder)
    assert state.state_of(folder).now == "done", told(folder)
    assert manifest_sha256(str(out)) == manifest_sha256(str(tmp_path / "alone"))
    assert raylets(two.addresses[0]) == raylets(two.addresses[1]) == []
    wait_until(lambda: not of_cluster(folder), folder)  # workers miss their raylet in a second

"""Corpus builds on a real Slurm of two nodes: as one Ray cluster, and as an array of tasks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.corpus.manifest import manifest_sha256
from launch import attempts, logs, slurm, state
from launch.explain import explanation
from launch.job import Work
from launch.rendering import render
from tests.cluster.ports import free_ports
from tests.cluster.slurm import Slurm, missing
from tests.cluster.slurm import slurm as running_slurm
from tests.data_pipeline import builds
from tests.launch.slurm_jobs import ROOT, job, start_again_at_once, wait_for_end
from tests.launch.watching import told, wait_until
from tests.trawl.demo.small_web import small_web

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")
PLACE = {"nodes": 2, "cpus": 1, "setup": [f"export PYTHONPATH={ROOT}"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    # The path of a socket has at most 107 bytes.
    with running_slurm(tmp_path_factory.mktemp("s")) as running:
        yield running


@pytest.fixture
def here(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    for name, value in (cluster.environment | {"OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.run("scancel", "--me")  # what a test that failed has left


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The manifest's hash of a build on this machine alone."""
    out = tmp_path_factory.mktemp("alone") / "out"
    builds.trawl_corpus(*builds.warc_build(str(out), small_web() / "warc" / "07.warc.gz"))
    return manifest_sha256(str(out))


def work(out: Path) -> Work:
    arguments = builds.warc_build(str(out), small_web() / "warc" / "07.warc.gz")
    changes = [word for word in arguments if "=" in word and not word.startswith("compute.cpus")]
    return Work(corpus="web-demo", changes=[*changes, f"out={out}"])


def units(out: Path, phase: str) -> int:
    return len(list((out / "ledger" / phase).glob("*.json")))


def node_of(here: Slurm, task: str) -> str:
    return here.run("squeue", "--noheader", "--format=%N", f"--jobs={task}").strip()


def test_an_array_builds_though_the_machine_that_leads_it_dies(
    here: Slurm, alone: str, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "job"
    asked = job("array", work(out), port=free_ports(1)[0], slurm={"array": True}, **PLACE)
    slurm.submit(asked, folder)
    number = slurm.numbers_of(folder)[-1]
    wait_until(lambda: units(out, "download") > 0, folder)
    first = attempts.beginning(folder, 1)
    node = node_of(here, f"{number}_{first['task']}")
    here.kill_node(node)
    try:
        assert wait_for_end(folder) == "done", told(folder)
    finally:
        here.start_node(node)
    assert [each.cause for each in attempts.history(folder)] == ["bad-node", "done"]
    assert attempts.beginning(folder, 2)["task"] != first["task"]
    assert manifest_sha256(str(out)) == alone


@pytest.mark.parametrize("name", ["slurm", "array"])
def test_slurm_itself_takes_what_is_rendered(here: Slurm, tmp_path: Path, name: str) -> None:
    script = tmp_path / "job.sbatch"
    place = {"nodes": 2, "hours": 1.5, "cpus": 1, "exclude": []}
    place |= {"slurm": {"array": name == "array", "partition": "all", "options": ["--comment=a"]}}
    asked = job("asked", Work(corpus="web-demo"), **place)
    script.write_text(render(asked, str(tmp_path))["job.sbatch"])
    here.run("sbatch", "--test-only", str(script))


def test_a_wrong_request_ends_all_tasks_of_an_array_and_burns_no_retry(
    here: Slurm, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    wrong = Work(corpus="none.yaml")
    place = PLACE | {"nodes": 6}  # of which four wait for a machine
    slurm.submit(job("wrong", wrong, port=free_ports(1)[0], slurm={"array": True}, **place), folder)
    assert wait_for_end(folder) == "user-error", told(folder)
    assert [each.cause for each in attempts.history(folder)] == ["user-error"]
    assert "none.yaml: no such file" in explanation(folder)
    assert "none.yaml: no such file" in "".join(logs.lines(folder, None, logs.Chosen()))
    assert not attempts.was_told(folder, "task-ended")


@pytest.mark.soak
def test_tasks_of_an_array_are_preempted_come_back_and_are_stopped(
    here: Slurm, alone: str, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "job"
    asked = job("array", work(out), port=free_ports(1)[0], slurm={"array": True}, **PLACE)
    slurm.submit(asked, folder)
    (number,) = slurm.numbers_of(folder)
    wait_until(lambda: attempts.newest(folder) == 1, folder)
    task = 1 - attempts.beginning(folder, 1)["task"]
    wait_until(lambda: attempts.beat_of(folder, 1, task + 1).exists(), folder)
    here.run("scancel", "--batch", "--signal=TERM", f"{number}_{task}")
    wait_until(lambda: attempts.was_told(folder, "task-ended"), folder)
    wait_until(lambda: "PENDING" in slurm.words_for(number), folder)
    here.run("scontrol", "update", f"jobid={number}_{task}", "starttime=now+3")
    slurm.stop(folder)
    assert slurm.running(folder) is None
    assert state.state_of(folder).now in ("preempted", "done"), told(folder)
    slurm.submit(asked, folder)
    assert wait_for_end(folder) == "done", told(folder)
    assert manifest_sha256(str(out)) == alone


@pytest.mark.soak
def test_a_ray_cluster_of_two_nodes_builds_though_one_dies(
    here: Slurm, alone: str, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "job"
    asked = job("two", work(out), port=free_ports(1)[0], least_nodes=1, **PLACE)
    slurm.submit(asked, folder)
    wait_until(lambda: units(out, "download") > 0, folder)
    here.kill_node("n2")
    try:
        start_again_at_once(here, folder)
        assert wait_for_end(folder) == "done", told(folder)
    finally:
        here.start_node("n2")
    # What is left of the job is told to stop.
    assert [each.cause for each in attempts.history(folder)] == ["preempted", "done"]
    begun = [attempts.hosts_of(folder, number) for number in (1, 2)]
    assert begun == [["n1", "n2"], ["n1"]]
    assert manifest_sha256(str(out)) == alone

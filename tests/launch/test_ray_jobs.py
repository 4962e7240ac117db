"""Jobs on a real Ray cluster of two hosts through its dashboard: a raylet is killed, they go on."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.corpus.manifest import manifest_sha256
from launch import attempts, ray_jobs, state
from launch.job import Job, Retry, Work
from launch.place import Place
from launch.preflight.limits import Preflight as Limits
from launch.preflight.run import Preflight
from tests.cluster import hosts as networks
from tests.cluster import ray_cluster as clusters
from tests.cluster.ray_cluster import RayCluster
from tests.data_pipeline import builds
from tests.launch.watching import told, wait_until
from tests.pretrain import forked, runs
from tests.pretrain.tiny_corpus import write
from tests.trawl.demo.small_web import small_web
from trawl.errors import RequestError
from trawl.events import read_events

ROOT = Path(__file__).parents[2]
lacking = [*networks.missing(), *clusters.missing()]
pytestmark = pytest.mark.skipif(bool(lacking), reason=f"no {', '.join(lacking)} here")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with (
        tempfile.TemporaryDirectory(prefix="trawl-ray-jobs-") as folder,  # for short sockets
        networks.hosts(tmp_path_factory.mktemp("hosts")) as hosts,
        clusters.ray_cluster(hosts, Path(folder)) as running,
    ):
        yield running


@pytest.fixture
def cluster(two: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    for name, value in clusters.SETTINGS.items():
        monkeypatch.setenv(name, value)
    clusters.forget_token()
    yield two
    clusters.forget_token()


def job(cluster: RayCluster, work: Work, **place: object) -> Job:
    where = {
        "backend": "ray",
        "python": sys.executable,
        "folder": str(ROOT),
        "setup": ["export GLOO_SOCKET_IFNAME=eth0"],
        "ray": {"address": cluster.address},
        **place,
    }
    place_of_it = Place.model_validate(where)
    return Job(name="two", run=work, place=place_of_it, retry=Retry(bad_node=3), grace_seconds=60)


def wait_for_end(folder: Path) -> str:
    wait_until(lambda: ray_jobs.running(folder) is None, folder)
    return state.state_of(folder).now


def test_a_wrong_request_burns_no_retry_and_a_cluster_that_is_not_there_is_told(
    cluster: RayCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    ray_jobs.submit(job(cluster, Work(corpus="none.yaml")), folder)
    assert wait_for_end(folder) == "user-error", told(folder)
    assert attempts.newest(folder) == 1
    assert "none.yaml: no such file" in told(folder)
    (ending,) = attempts.endings(folder, 1)
    assert ending.message == "trawl: none.yaml: no such file"
    gone = job(cluster, Work(corpus="none.yaml"), ray={"address": "http://127.0.0.1:9"})
    with pytest.raises(RequestError, match="no dashboard of Ray takes jobs there"):
        ray_jobs.submit(gone, tmp_path / "gone")


@pytest.mark.soak
def test_preflight_is_a_job_of_the_cluster(cluster: RayCluster, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", 8)
    recipe = runs.write_recipe(tmp_path / "r.yaml", runs.recipe(web, web, str(tmp_path / "run")))
    asked = job(cluster, Work(pretrain=str(recipe)), nodes=2, port=29469)
    limits = Limits(disk_gb=0, shm_gb=0, slow_share=0.01)
    checks = Preflight(asked.model_copy(update={"preflight": limits}), tmp_path / "job").run()
    found = {check.name: check.findings for check in checks if check.findings}
    assert found == {}
    assert [check.summary for check in checks if check.name == "ports"] == ["2 connections"]


@pytest.mark.soak
def test_a_corpus_whose_raylet_is_killed_has_the_same_manifest(
    cluster: RayCluster, tmp_path: Path
) -> None:
    arguments = builds.warc_build(str(tmp_path / "alone"), small_web() / "warc" / "07.warc.gz")
    builds.trawl_corpus(*arguments)
    changes = [word for word in arguments if "=" in word and not word.startswith("compute.cpus")]
    out = tmp_path / "out"
    work = Work(corpus="web-demo", changes=[*changes, f"out={out}"])
    folder = tmp_path / "job"
    ray_jobs.submit(job(cluster, work), folder)
    wait_until(lambda: len(list((out / "ledger").glob("download/*.json"))) > 0, folder)
    cluster.kill_raylet(1)
    assert wait_for_end(folder) == "done", told(folder)
    assert manifest_sha256(str(out)) == manifest_sha256(str(tmp_path / "alone"))
    builds.trawl_corpus("verify", str(out))
    cluster.start_node(1)


@pytest.mark.soak
def test_a_training_whose_raylet_is_killed_goes_on_with_what_is_left_and_then_on_two_again(
    cluster: RayCluster, tmp_path: Path
) -> None:
    web = write(tmp_path / "web", "web", 48)
    recipes = {}
    for name in ("run", "alone"):
        content = runs.recipe(web, web, str(tmp_path / name))
        content["stages"][0]["steps"] = 240
        content["checkpoint"] |= {"every_steps": 20, "grace_seconds": 60.0}
        content["guards"] = {"silent_seconds": 10.0}
        recipes[name] = runs.write_recipe(tmp_path / f"{name}.yaml", content)
    run, folder = tmp_path / "run", tmp_path / "job"
    asked = job(cluster, Work(pretrain=str(recipes["run"])), nodes=2, least_nodes=1, port=29467)
    ray_jobs.submit(asked, folder)
    wait_until(lambda: len(runs.lines(run)) > 25, folder)
    cluster.kill_raylet(1)
    wait_until(lambda: attempts.newest(folder) == 2, folder)
    before = len(runs.lines(run))
    wait_until(lambda: len(runs.lines(run)) > before + 25, folder)
    cluster.start_node(1)
    for process in runs.ranks_of(recipes["run"]):
        os.kill(process, signal.SIGKILL)
    assert wait_for_end(folder) == "done", told(folder)
    causes = [attempt.cause for attempt in attempts.history(folder)]
    assert causes == ["bad-node", "bad-node", "done"], told(folder)
    ranks = [event["ranks"] for event in runs.events(run, "run-started")]
    assert ranks == [2, 1, 2]
    forked.run(recipes["alone"], 2)
    together, alone = runs.lines(run), runs.lines(tmp_path / "alone")
    assert [line["samples"] for line in together] == [line["samples"] for line in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert runs.ranks_of(recipes["run"]) == []


@pytest.mark.soak
def test_a_stopped_training_saves_and_leaves_nothing(cluster: RayCluster, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", 24)
    content = runs.recipe(web, web, str(tmp_path / "run"))
    content["stages"][0]["steps"] = 50_000
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    folder = tmp_path / "job"
    ray_jobs.submit(job(cluster, Work(pretrain=str(recipe)), nodes=2, port=29468), folder)
    wait_until(lambda: len(runs.lines(tmp_path / "run")) > 3, folder)
    ray_jobs.stop(folder)
    assert state.state_of(folder).now == "preempted", told(folder)
    assert runs.ranks_of(recipe) == []
    assert runs.events(tmp_path / "run", "checkpoint")
    kinds = [event["kind"] for event in read_events(folder / "events.jsonl")]
    assert kinds == ["submitted", "attempt-started", "attempt-ended", "job-ended"]

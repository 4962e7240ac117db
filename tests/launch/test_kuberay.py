"""Attempts as RayJobs, through kubectl to a server of ours; the test is KubeRay's operator."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch import attempts, ray_jobs, state
from launch.job import Job
from launch.logs import Chosen, lines
from launch.status import status_of
from pretrain.exit_codes import ExitCode
from tests.cluster.kubernetes_api import Server, missing
from tests.launch.watching import told, wait_until
from trawl.errors import RequestError

pytest.importorskip("kubernetes_validate")
pytest.importorskip("kubeflow_trainer_api")
pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")

FAILED = "Job entrypoint command failed with exit code {}, last available logs: ..."


def job(run: dict[str, Any]) -> Job:
    place = {
        "backend": "ray",
        "nodes": 2,
        "python": sys.executable,
        "container": {"image": "example.org/trawl:1"},
        "kubernetes": {"namespace": "vision"},
    }
    content = {"name": "web", "run": run, "place": place, "retry": {"bad_node": 1}}
    return Job.model_validate({**content, "grace_seconds": 0})


@pytest.fixture
def folder(api: Server, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "job"
    ray_jobs.stop(tmp_path / "job")


def has_begun(api: Server, folder: Path, number: int) -> dict[str, Any]:
    """Wait for an attempt's RayJob, and return it."""
    wait_until(lambda: ("rayjobs", f"web-{number}") in api.objects, folder)
    return api.objects["rayjobs", f"web-{number}"]


def runs(api: Server, found: dict[str, Any]) -> None:
    """Have the operator make the cluster of a RayJob and start its driver."""
    name = found["metadata"]["name"]
    labels = {"ray.io/cluster": f"{name}-abc"}
    for kind in ("worker", "head"):
        put_pod(api, f"{name}-{kind}", {**labels, "ray.io/node-type": kind}, "trawl")
    put_pod(api, f"{name}-x", {"batch.kubernetes.io/job-name": name}, "ray-job-submitter")
    found["status"] = {
        "jobStatus": "RUNNING",
        "jobDeploymentStatus": "Running",
        "rayClusterName": f"{name}-abc",
    }


def put_pod(api: Server, name: str, labels: dict[str, str], container: str) -> None:
    content = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
    containers = [{"name": container, "image": "none"}]
    where = {"nodeName": f"host-of-{name}", "containers": containers}
    api.put("pods", {**content, "spec": where, "status": {"phase": "Running"}})


def ends(found: dict[str, Any], status: str, message: str) -> None:
    found["status"] = {
        **found["status"],
        "jobStatus": status,
        "jobDeploymentStatus": "Complete" if status == "SUCCEEDED" else "Failed",
        "message": message,
    }


def test_a_lost_machine_has_another_rayjob_and_the_driver_is_told_of(
    api: Server, folder: Path
) -> None:
    ray_jobs.submit(job({"corpus": "web-demo"}), folder)
    first = has_begun(api, folder, 1)
    assert first["spec"]["backoffLimit"] == 0
    identity = attempts.identity(folder)
    assert first["spec"]["jobId"] == f"web-{identity}-1"
    assert f"--attempt {identity}:1" in first["spec"]["entrypoint"]
    runs(api, first)
    ends(first, "FAILED", FAILED.format(int(ExitCode.BAD_NODE)))
    second = has_begun(api, folder, 2)
    assert api.deleted == ["rayjobs/web-1"]
    api.logs["web-2-x"] = "2026-01-01T00:00:00.123456789Z collect: 1 of 1, 1.0/s, 1 s\n"
    runs(api, second)
    wait_until(lambda: len(status_of(folder).nodes) == 2, folder)
    assert [node.host for node in status_of(folder).nodes] == [
        "host-of-web-2-head",
        "host-of-web-2-worker",
    ]
    assert state.state_of(folder).now == "running"
    ends(second, "SUCCEEDED", "Job finished successfully.")
    wait_until(lambda: ray_jobs.running(folder) is None, folder)
    assert state.state_of(folder).now == "done", told(folder)
    (line,) = lines(folder, None, Chosen.of(grep="collect"))
    assert line.endswith("collect: 1 of 1, 1.0/s, 1 s")
    assert not [key for key in api.objects if key[0] == "rayjobs"]


def test_a_wrong_request_burns_no_retry(api: Server, folder: Path) -> None:
    ray_jobs.submit(job({"corpus": "none.yaml"}), folder)
    found = has_begun(api, folder, 1)
    api.logs["web-1-x"] = "2026-01-01T00:00:00Z trawl: none.yaml: no such file\n"
    runs(api, found)
    ends(found, "FAILED", FAILED.format(int(ExitCode.USER_ERROR)))
    wait_until(lambda: ray_jobs.running(folder) is None, folder)
    assert state.state_of(folder).now == "user-error", told(folder)
    assert attempts.newest(folder) == 1
    (ending,) = attempts.endings(folder, 1)
    assert ending.message.endswith("trawl: none.yaml: no such file")


def test_a_stopped_training_is_told_on_its_own_cluster(api: Server, folder: Path) -> None:
    ray_jobs.submit(job({"pretrain": "oscar-demo"}), folder)
    found = has_begun(api, folder, 1)
    runs(api, found)
    pid = int((folder / "pid").read_text())
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: ("rayjobs", "web-1-stop") in api.objects, folder)
    told_to = api.objects["rayjobs", "web-1-stop"]["spec"]
    assert told_to["clusterSelector"] == {"ray.io/cluster": "web-1-abc"}
    name = f"web-{attempts.identity(folder)}-1"
    assert told_to["entrypoint"].endswith(f"-m launch.ray_nodes --name {name} --stop")
    ends(found, "FAILED", FAILED.format(int(ExitCode.PREEMPTED)))
    wait_until(lambda: ray_jobs.running(folder) is None, folder)
    assert state.state_of(folder).now == "preempted", told(folder)
    assert not [key for key in api.objects if key[0] == "rayjobs"]


def test_what_a_dead_supervisor_left_is_deleted_first(api: Server, folder: Path) -> None:
    asked = job({"corpus": "web-demo"})
    ray_jobs.submit(asked, folder)
    has_begun(api, folder, 1)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    wait_until(lambda: ray_jobs.running(folder) is None, folder)
    ray_jobs.submit(asked, folder)
    has_begun(api, folder, 2)
    assert api.deleted == ["rayjobs/web-1"]
    ray_jobs.stop(folder)
    assert api.deleted == ["rayjobs/web-1", "rayjobs/web-2"]
    assert state.state_of(folder).now == "preempted", told(folder)


def test_what_the_cluster_refuses_is_told_at_once(api: Server, tmp_path: Path) -> None:
    api.refuse = lambda content: "exceeded quota: gpus"
    with pytest.raises(RequestError, match=r"kubectl apply: .*exceeded quota: gpus"):
        ray_jobs.submit(job({"corpus": "web-demo"}), tmp_path / "job")
    long = job({"corpus": "web-demo"}).model_copy(update={"name": "w" * 48})
    with pytest.raises(RequestError, match="KubeRay takes 42 characters at most; shorten it"):
        ray_jobs.submit(long, tmp_path / "job")
    assert not (tmp_path / "job").exists()

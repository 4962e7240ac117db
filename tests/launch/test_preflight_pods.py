"""A preflight on Kubernetes: the test starts what each pod would run, as a process here."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launch.job import Job
from launch.preflight.run import RESULT, Preflight
from tests.cluster.kubernetes_api import Server, missing
from tests.cluster.ports import free_port
from tests.pretrain import runs
from trawl import storage
from trawl.errors import RequestError

pytest.importorskip("kubernetes_validate")
pytest.importorskip("kubeflow_trainer_api")
pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")


def job(**kubernetes: object) -> Job:
    place = {
        "backend": "kubernetes",
        "nodes": 2,
        "python": sys.executable,
        "port": free_port(),
        "container": {"image": "example.org/trawl:1"},
        "kubernetes": {"claims": {"/var/lib/trawl": "state"}, **kubernetes},
    }
    content = {"name": "two", "run": {"pretrain": "oscar-demo"}, "place": place}
    limits = {"disk_gb": 0.001, "shm_gb": 0.001, "patience_seconds": runs.PATIENCE}
    return Job.model_validate({**content, "preflight": limits})


def run_pods(api: Server, folder: Path) -> None:
    """Do what a cluster does: run the pods of the Job, keep their logs, say that it is over."""
    while ("jobs", "two-preflight") not in api.objects:
        threading.Event().wait(0.1)
    found = api.objects["jobs", "two-preflight"]
    told = api.objects["configmaps", "two-preflight"]["data"]["job.yaml"]
    (folder / "job.yaml").write_text(told)
    container = found["spec"]["template"]["spec"]["containers"][0]
    script = container["command"][-1].replace("/etc/trawl", str(folder))
    script = script.replace("/var/lib/trawl", str(folder / "claim"))
    pods = []
    for node in range(2):
        names = {"TRAWL_NODE": str(node), "TRAWL_HOST": "127.0.0.1", "TRAWL_NAME": f"host{node}"}
        pods.append(
            subprocess.Popen(
                ["bash", "-c", script],
                env={**os.environ, **names},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for node, pod in enumerate(pods):
        said, _ = pod.communicate()
        lines = said.splitlines()
        api.logs[f"two-preflight-{node}"] = "".join(f"2026-01-01T00:00:00Z {x}\n" for x in lines)
        api.pod("two-preflight", node, {"terminated": {"exitCode": 0}}, "Succeeded")
    found["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}


def test_the_pods_try_each_other_and_are_judged_here(api: Server, tmp_path: Path) -> None:
    cluster = threading.Thread(target=run_pods, args=(api, tmp_path))
    cluster.start()
    try:
        checks = Preflight(job(), tmp_path / "job").run()
    finally:
        cluster.join()
    found = storage.read_json(tmp_path / "job" / RESULT)
    assert found["hosts"] == ["host0", "host1"]
    by_name = {check.name: check for check in checks}
    assert by_name["answers"].passed
    assert by_name["ports"].passed
    assert by_name["links"].passed, by_name["links"]
    assert "Gbit/s to one" in by_name["links"].summary
    assert api.deleted == ["jobs/two-preflight"]
    assert "host1" in api.logs["two-preflight-0"]  # the first prints the table


def test_pods_without_a_common_place_are_refused(api: Server, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"place.kubernetes.claims: none at /var/lib/trawl"):
        Preflight(job(claims={}), tmp_path / "job").run()
    assert not api.objects

"""Jobs on Kubernetes: by the published schemas, and through kubectl to a server of ours."""

import copy
from pathlib import Path

import pytest
import yaml

from launch import attempts, kubernetes, state
from launch.explain import explanation
from launch.job import Job
from launch.logs import Chosen, lines
from launch.rendering import render
from launch.status import status_of
from tests.cluster.kubernetes_api import Server, missing
from tests.launch.test_rendering import FOLDER, JOBS
from trawl.errors import RequestError

pytest.importorskip("kubernetes_validate")
pytest.importorskip("kubeflow_trainer_api")
from tests.launch.kubernetes_schemas import fault

needs_kubectl = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")


@pytest.mark.parametrize("name", ["kubernetes", "jobset", "ray"])
def test_what_is_rendered_is_what_the_schemas_have(name: str) -> None:
    text = render(Job.model_validate(JOBS[name]), FOLDER)["objects.yaml"]
    objects = list(yaml.safe_load_all(text))
    assert [fault(each) for each in objects] == [None] * len(objects)
    # The check sees a field that is not there, and one of a wrong type, however deep.
    work = objects[-1]
    for place, value in (("backoffLimit", "many"), ("noSuchField", 1)):
        wrong = copy.deepcopy(work)
        wrong["spec"][place] = value
        if work["kind"] != "JobSet" or place == "noSuchField":
            assert fault(wrong) is not None
    pod = copy.deepcopy(work)
    _first_containers(pod)[0]["imagee"] = "a"
    assert fault(pod) is not None


def _first_containers(content: object) -> list[dict[str, object]]:
    """The first `containers` below an object."""
    if isinstance(content, dict):
        if "containers" in content:
            return content["containers"]  # type: ignore[no-any-return]
        for value in content.values():
            if found := _first_containers(value):
                return found
    if isinstance(content, list) and content:
        return _first_containers(content[0])
    return []


def job(kind: str = "job") -> Job:
    return Job.model_validate(
        {
            "name": "two",
            "run": {"corpus": "web-demo"},
            "place": {
                "backend": "kubernetes",
                "nodes": 2,
                "container": {"image": "example.org/trawl:1"},
                "kubernetes": {"namespace": "vision", "kind": kind},
            },
        }
    )


@needs_kubectl
@pytest.mark.parametrize("kind", ["job", "jobset"])
def test_a_job_is_applied_watched_and_told_of(api: Server, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "job"
    plural = f"{kind}s"
    assert kubernetes.submit(job(kind), folder).startswith(plural)
    assert set(api.objects) == {("configmaps", "two"), ("services", "two"), (plural, "two")}
    assert state.state_of(folder).now == "pending"
    for node in (0, 1):
        api.pod("two", node, {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    status = status_of(folder)
    assert status.now == "running"
    assert [(node.node, node.host) for node in status.nodes] == [(0, "host0"), (1, "host1")]
    with pytest.raises(RequestError, match="job two is running; stop it first"):
        kubernetes.submit(job(kind), folder)
    api.logs["two-1"] = "2026-01-01T00:00:00.123456789Z collect: 1 of 1, 1.0/s, 1 s\n"
    (line,) = lines(folder, None, Chosen.of(node=1))
    assert line.endswith("node 1 | collect: 1 of 1, 1.0/s, 1 s")

    told = {"exitCode": 65, "reason": "Error", "message": "trawl: shard 00001.tar is damaged"}
    api.pod("two", 1, {"terminated": told}, "Failed")
    work = api.objects[plural, "two"]
    work["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    assert state.state_of(folder).now == "data-error"
    said = explanation(folder)
    assert "Shard 00001.tar is damaged (machine 1, host1)" in said
    # Its object is replaced by the next submission's.
    kubernetes.submit(job(kind), folder)
    assert api.deleted == [f"{plural}/two"]
    assert attempts.newest(folder) == 2
    work = api.objects[plural, "two"]
    work["status"] = {"conditions": [{"type": "Completed", "status": "True"}]}
    assert state.state_of(folder).now == "done"


@needs_kubectl
def test_a_stopped_job_is_deleted_and_a_refused_one_is_told(api: Server, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    kubernetes.submit(job(), folder)
    api.pod("two", 0, {"running": {}})
    kubernetes.stop(folder)
    assert api.deleted == ["jobs/two"]
    assert state.state_of(folder).now == "preempted"
    api.refuse = lambda content: "exceeded quota: gpus"
    with pytest.raises(RequestError, match=r"kubectl apply: .*exceeded quota: gpus"):
        kubernetes.submit(job(), tmp_path / "other")


def test_where_there_is_no_kubectl_the_fix_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="kubectl is not on this machine; install it, or pipe"):
        kubernetes.submit(job(), tmp_path / "job")
    assert not (tmp_path / "job").exists()

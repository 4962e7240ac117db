"""The place Kubernetes: a Job or JobSet that kubectl applies, watches and deletes.

Kubernetes itself starts pods anew, by the rules in the rendered object; so a submission is one
attempt here, whose endings are those that the pods' containers had.
"""

from pathlib import Path
from typing import Any

from launch import attempts, kubectl
from launch.attempts import NodeEnding
from launch.job import Job
from launch.rendering.kubernetes import name_of, render
from pretrain.exit_codes import ExitCode
from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog

OBJECTS = "objects.yaml"
KINDS = {"job": "jobs.batch", "jobset": "jobsets.jobset.x-k8s.io"}
_INDEX = "batch.kubernetes.io/job-completion-index"
_DONE = ("Complete", "Completed", "SuccessCriteriaMet")


def submit(job: Job, folder: Path) -> str:
    """Hand the objects of `job` to the cluster that kubectl is set up for; return their name.

    RequestError if it runs already, kubectl is missing, or the cluster refuses an object.
    """
    kubectl.require()
    if state := _known(folder) and running(folder):
        raise RequestError(f"{folder}: job {job.name} is {state}; stop it first")
    texts = render(job, str(folder))
    for name, text in texts.items():
        storage.write_text(folder / name, text)
    # What a Job is made of cannot be changed, so the one before goes first.
    namespace = job.place.kubernetes.namespace
    kubectl.ask(namespace, "delete", *_object(job), "--ignore-not-found", "--wait=true")
    kubectl.apply(namespace, texts[OBJECTS])
    attempts.submit(folder, job)
    attempts.begin(folder, attempts.newest(folder) + 1, 0, nodes=job.place.nodes)
    return "/".join(_object(job))


def running(folder: Path) -> str | None:
    """Say what the cluster is doing with the job, or None if it is over; note how pods ended."""
    job = attempts.job_of(folder)
    if attempts.was_told(folder, "job-ended"):
        return None
    found = kubectl.get(job.place.kubernetes.namespace, *_object(job))
    if not found:
        return None
    pods = _pods(job)
    _note(job, folder, pods)
    told = _conditions(found)
    if is_over(found):
        _end(folder, job, done=not told.isdisjoint(_DONE))
        return None
    if "Suspended" in told:
        return "pending"  # in a queue
    phases = {pod.get("status", {}).get("phase") for pod in pods}
    return "running" if "Running" in phases else "pending"


def stop(folder: Path) -> None:
    """Delete the job's object, whose pods are told to save and end; return when they have."""
    job = attempts.job_of(folder)
    if running(folder) is None:
        return
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("stop-asked")
    wait = ("--wait=true", "--cascade=foreground")
    kubectl.ask(job.place.kubernetes.namespace, "delete", *_object(job), *wait)
    attempts.end(folder, attempts.newest(folder), ExitCode.PREEMPTED, 0, stopped=True)


def fetch_logs(folder: Path) -> None:
    """Copy what the pods have printed into the job's folder, each machine's into its log."""
    job = attempts.job_of(folder)
    for pod in _pods(job):
        node = _node(pod)
        try:
            said = kubectl.logs(job.place.kubernetes.namespace, pod["metadata"]["name"], "trawl")
        except WorkError:
            continue  # it has not begun, or is gone
        log = attempts.log_of(folder, attempts.newest(folder), node)
        storage.write_text(log, said)


def is_over(found: dict[str, Any]) -> bool:
    """Whether a Job or JobSet, as kubectl tells of it, has ended."""
    return not _conditions(found).isdisjoint((*_DONE, "Failed"))


def _conditions(found: dict[str, Any]) -> set[str]:
    told = found.get("status", {}).get("conditions", [])
    return {each["type"] for each in told if each.get("status") == "True"}


def _known(folder: Path) -> bool:
    return (folder / "job.yaml").exists()


def _object(job: Job) -> tuple[str, str]:
    return KINDS[job.place.kubernetes.kind], name_of(job)


def _pods(job: Job) -> list[dict[str, Any]]:
    """Return the newest pod of each machine."""
    chosen = {"app.kubernetes.io/instance": name_of(job)}
    pods = kubectl.pods(job.place.kubernetes.namespace, chosen)
    return list({_node(pod): pod for pod in pods}.values())


def _node(pod: dict[str, Any]) -> int:
    return int(pod["metadata"].get("annotations", {}).get(_INDEX, 0))


def _note(job: Job, folder: Path, pods: list[dict[str, Any]]) -> None:
    """Write down which machine each pod runs on, and how its container ended."""
    number = attempts.newest(folder)
    for pod in pods:
        host = pod.get("spec", {}).get("nodeName", "")
        status = pod.get("status", {})
        ended = None
        for container in status.get("containerStatuses", []):
            ended = container.get("state", {}).get("terminated")
        if ended is not None:
            told = ended.get("message") or ended.get("reason", "")
            ending = NodeEnding(_node(pod), host, int(ended["exitCode"]), told)
            attempts.write_ending(folder, number, ending)
        elif status.get("phase") == "Running":
            attempts.beat(folder, number, _node(pod), host)


def _end(folder: Path, job: Job, *, done: bool) -> None:
    """Write that the attempt, and with it the job, is over."""
    number = attempts.newest(folder)
    told = attempts.endings(folder, number)
    code = int(ExitCode.DONE) if done else attempts.code_of(told, job.place.nodes)
    attempts.end(folder, number, code, 0, stopped=True)

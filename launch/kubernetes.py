"""The place Kubernetes: a Job or JobSet that kubectl applies, watches and deletes.

Kubernetes itself starts pods anew, by the rules in the rendered object; so a submission is one
attempt here, whose endings are those that the pods' containers had.
"""

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from launch import attempts
from launch.attempts import NodeEnding
from launch.job import Job
from launch.rendering.kubernetes import name_of, render
from pretrain.exit_codes import ExitCode
from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog

OBJECTS = "objects.yaml"
_KINDS = {"job": "jobs.batch", "jobset": "jobsets.jobset.x-k8s.io"}
_INDEX = "batch.kubernetes.io/job-completion-index"
_DONE = ("Complete", "Completed", "SuccessCriteriaMet")


def submit(job: Job, folder: Path) -> str:
    """Hand the objects of `job` to the cluster that kubectl is set up for; return their name.

    RequestError if it runs already, kubectl is missing, or the cluster refuses an object.
    """
    _version()
    if state := _known(folder) and running(folder):
        raise RequestError(f"{folder}: job {job.name} is {state}; stop it first")
    texts = render(job, str(folder))
    for name, text in texts.items():
        storage.write_text(folder / name, text)
    # What a Job is made of cannot be changed, so the one before goes first.
    _kubectl(job, "delete", *_object(job), "--ignore-not-found", "--wait=true")
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=trawl", "-f", "-")
    _kubectl(job, *apply, given=texts[OBJECTS], refused=RequestError)
    attempts.submit(folder, job)
    attempts.begin(folder, attempts.newest(folder) + 1, 0, nodes=job.place.nodes)
    return f"{_KINDS[job.place.kubernetes.kind]}/{name_of(job)}"


def running(folder: Path) -> str | None:
    """Say what the cluster is doing with the job, or None if it is over; note how pods ended."""
    job = attempts.job_of(folder)
    if attempts.was_told(folder, "job-ended"):
        return None
    found = json.loads(
        _kubectl(job, "get", *_object(job), "--ignore-not-found", "--output=json") or "{}"
    )
    if not found:
        return None
    status = found.get("status", {})
    pods = _pods(job)
    _note(job, folder, pods)
    over = [c["type"] for c in status.get("conditions", []) if c.get("status") == "True"]
    if any(kind in over for kind in (*_DONE, "Failed")):
        _end(folder, job, done=any(kind in over for kind in _DONE))
        return None
    if "Suspended" in over:
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
    _kubectl(job, "delete", *_object(job), *wait)
    attempts.end(folder, attempts.newest(folder), ExitCode.PREEMPTED, 0, stopped=True)


def fetch_logs(folder: Path) -> None:
    """Copy what the pods have printed into the job's folder, each machine's into its log."""
    job = attempts.job_of(folder)
    for pod in _pods(job):
        node = _node(pod)
        name = pod["metadata"]["name"]
        try:
            said = _kubectl(job, "logs", name, "--container=trawl", "--timestamps=true")
        except WorkError:
            continue  # it has not begun, or is gone
        log = attempts.log_of(folder, attempts.newest(folder), node)
        storage.write_text(log, "".join(_stamped(line) for line in said.splitlines()))


def _stamped(line: str) -> str:
    """Return a line whose time is in the form and the time zone of our logs."""
    head, _, text = line.partition(" ")
    try:
        moment = datetime.fromisoformat(head[:26].rstrip("Z") + "+00:00").astimezone()
    except ValueError:
        return f"{line}\n"
    return f"{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03} {text}\n"


def _known(folder: Path) -> bool:
    return (folder / "job.yaml").exists()


def _object(job: Job) -> tuple[str, str]:
    return _KINDS[job.place.kubernetes.kind], name_of(job)


def _pods(job: Job) -> list[dict[str, Any]]:
    """Return the newest pod of each machine."""
    label = f"--selector=app.kubernetes.io/instance={name_of(job)}"
    found = json.loads(_kubectl(job, "get", "pods", label, "--output=json") or "{}")
    pods = sorted(
        found.get("items", []), key=lambda pod: str(pod["metadata"].get("creationTimestamp"))
    )
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


def _version() -> None:
    """Raise RequestError where kubectl is not there."""
    try:
        subprocess.run(["kubectl", "version", "--client"], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise RequestError(
            "kubectl is not on this machine; install it, or pipe what --dry-run prints into "
            "`kubectl apply --server-side -f -` where it is"
        ) from error


def _kubectl(
    job: Job, *words: str, given: str | None = None, refused: type[Exception] = WorkError
) -> str:
    """Run kubectl in the job's namespace and return what it prints; `refused` with its last line.

    A cluster that does not answer is asked again for a while: its servers are replaced at times.
    """
    command = ["kubectl", f"--namespace={job.place.kubernetes.namespace}", *words]
    for again in (True, True, False):
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise RequestError("kubectl is not on this machine; install it") from error
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr.strip() or "no word").splitlines()[-1]
        if not again or "connection refused" not in said.lower():
            break
        time.sleep(1.0)
    raise refused(f"kubectl {words[0]}: {said}")

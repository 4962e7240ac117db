"""KubeRay: each attempt is a RayJob, which makes a Ray cluster of pods and ends with it.

A supervisor here makes the attempts, for KubeRay would try a wrong request again as readily as a
lost machine, and tells the old cluster's driver nothing of the new one.
"""

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from launch import attempts, kubectl
from launch.attempts import NodeEnding
from launch.command import Part
from launch.job import Job
from launch.ray_driver import POLL_SECONDS, ending_of, patiently
from launch.rendering.kubernetes import name_of
from launch.rendering.ray import object_name, ray_job, stop_job
from pretrain.exit_codes import ExitCode
from trawl import storage
from trawl.errors import RequestError, WorkError

T = TypeVar("T")

RAY_JOBS = "rayjobs.ray.io"
_LOG_SECONDS = 10.0
# The pods go on while the servers of Kubernetes are replaced.
_SILENT_SECONDS = 600.0
_STOP_SECONDS = 60.0
_OVER = ("Complete", "Failed")
_CODE = re.compile(r"failed with exit code (-?\d+)")
# KubeRay makes names of pods from it, which are bounded.
_LONGEST_NAME = 47


def check(job: Job) -> None:
    """Raise RequestError where the job's first attempt would be refused."""
    kubectl.require()
    if len(object_name(job, Part(attempt=9999, job="any"))) > _LONGEST_NAME:
        most = _LONGEST_NAME - len("-9999")
        raise RequestError(f"name {job.name}: KubeRay takes {most} characters at most; shorten it")
    first = ray_job(job, Part(attempt=1, job="any"))
    kubectl.apply(job.place.kubernetes.namespace, yaml.safe_dump(first), trial=True)


class KubeRayAttempt:
    """One attempt: one RayJob, which is gone when it has ended."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        self.job, self.folder, self.number = job, folder, number
        self.stopped = False
        self._namespace = job.place.kubernetes.namespace
        self._part = Part(attempt=number, job=attempts.identity(folder))
        self._name = object_name(job, self._part)
        self._stop_by: float | None = None
        self._looked_at = 0.0

    def stop(self) -> None:
        """Have the job told to save and end."""
        self.stopped = True

    def run(self) -> int:
        """Run the attempt to its end and return its code; a cluster that is gone is a bad node."""
        try:
            ending = self._run()
        except RequestError as error:  # it was taken when the job was submitted
            ending = NodeEnding(0, "cluster", ExitCode.USER_ERROR, str(error))
        except WorkError as error:
            time.sleep(POLL_SECONDS)
            ending = NodeEnding(0, "cluster", ExitCode.BAD_NODE, str(error))
        attempts.write_ending(self.folder, self.number, ending)
        return attempts.code_of([ending], 1)

    def _run(self) -> NodeEnding:
        # A supervisor that was killed leaves its attempt behind.
        self._ask(self._delete)
        asked = yaml.safe_dump(ray_job(self.job, self._part))
        self._ask(lambda: kubectl.apply(self._namespace, asked))
        try:
            while True:
                found = self._ask(lambda: kubectl.get(self._namespace, RAY_JOBS, self._name))
                status = found.get("status", {})
                over = status.get("jobDeploymentStatus") in _OVER
                if over or time.monotonic() - self._looked_at > _LOG_SECONDS:
                    self._look(status)
                if over or not found or (self.stopped and self._is_stopped(status)):
                    return self._ending(status, gone=not found)
                time.sleep(POLL_SECONDS)
        finally:
            with contextlib.suppress(WorkError):
                self._delete()

    def _ask(self, question: Callable[[], T]) -> T:
        return patiently(question, "Kubernetes", _SILENT_SECONDS)

    def _delete(self) -> None:
        """Delete all of the job's RayJobs, and with each its pods; return when they are gone."""
        chosen = f"--selector=app.kubernetes.io/instance={name_of(self.job)}"
        wait = ("--wait=true", "--cascade=foreground")
        kubectl.ask(self._namespace, "delete", RAY_JOBS, chosen, *wait)

    def _ending(self, status: dict[str, Any], *, gone: bool) -> NodeEnding:
        told = "somebody deleted its RayJob" if gone else str(status.get("message", ""))
        code = _CODE.search(told)
        return ending_of(
            str(status.get("rayClusterName") or "cluster"),
            str(status.get("jobStatus") or status.get("reason") or "lost"),
            int(code.group(1)) if code else None,
            told or str(status.get("reason", "")),
            attempts.log_of(self.folder, self.number, 0),
            stopped=self.stopped,
        )

    def _look(self, status: dict[str, Any]) -> None:
        """Note where the machines are, and copy what the driver has printed."""
        self._looked_at = time.monotonic()
        with contextlib.suppress(WorkError):
            if cluster := status.get("rayClusterName"):
                self._note_machines(kubectl.pods(self._namespace, {"ray.io/cluster": cluster}))
            # The pod that hands the driver to Ray prints what the driver does.
            chosen = {"batch.kubernetes.io/job-name": self._name}
            for pod in kubectl.pods(self._namespace, chosen)[-1:]:
                container = pod["spec"]["containers"][0]["name"]
                text = kubectl.logs(self._namespace, pod["metadata"]["name"], container)
                storage.write_text(attempts.log_of(self.folder, self.number, 0), text)

    def _note_machines(self, pods: list[dict[str, Any]]) -> None:
        """Give the pods' signs of life, that of the head first."""
        running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        running.sort(key=lambda pod: pod["metadata"]["labels"].get("ray.io/node-type") != "head")
        for node, pod in enumerate(running):
            attempts.beat(self.folder, self.number, node, pod["spec"].get("nodeName", ""))

    def _is_stopped(self, status: dict[str, Any]) -> bool:
        """Tell the driver once to save, where it has to; say whether its time is up."""
        if self.job.run.pretrain is None or status.get("jobStatus") != "RUNNING":
            return True
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self.job.grace_seconds + _STOP_SECONDS
            told = stop_job(self.job, self._part, str(status["rayClusterName"]))
            self._ask(lambda: kubectl.apply(self._namespace, yaml.safe_dump(told)))
        return time.monotonic() > self._stop_by

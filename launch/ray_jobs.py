"""The place Ray: each attempt is a Ray job on a running cluster, watched by a supervisor here."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from launch import attempts, kuberay, local
from launch.attempts import NodeEnding
from launch.command import Part
from launch.job import Job
from launch.local import running, stop
from launch.ray_driver import POLL_SECONDS, ending_of, patiently
from launch.rendering.ray import request, stop_request
from pretrain.exit_codes import ExitCode
from trawl import storage
from trawl.errors import RequestError, WorkError

__all__ = ["RayAttempt", "running", "stop", "submit"]

T = TypeVar("T")

_LOG_SECONDS = 5.0
# A dashboard that does not answer for so long is gone, and its cluster with it.
_SILENT_SECONDS = 60.0


def submit(job: Job, folder: Path) -> str:
    """Start a supervisor of `job` in the background, if its cluster, or KubeRay's, takes it."""
    if job.place.ray.address is None:
        kuberay.check(job)
    else:
        client(job)
    return local.submit(job, folder)


def client(job: Job) -> Any:
    """Return Ray's client of the cluster's dashboard; RequestError if none answers."""
    from ray.job_submission import JobSubmissionClient

    address = str(job.place.ray.address)
    try:
        return JobSubmissionClient(address)
    except Exception as error:  # ConnectionError, RuntimeError, and Ray's own for a missing token
        said = str(error).strip().splitlines()[0]
        raise RequestError(
            f"place.ray.address {address}: no dashboard of Ray takes jobs there ({said})"
        ) from error


class RayAttempt:
    """One attempt: one Ray job."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        self.job, self.folder, self.number = job, folder, number
        self.stopped = False
        self._asked_at: float | None = None
        self._part = Part(attempt=number, job=attempts.identity(folder))
        self._id = str(request(job, self._part)["submission_id"])
        self._logged_at = 0.0

    def stop(self) -> None:
        """Have the job told to save and end."""
        self.stopped = True

    def run(self) -> int:
        """Run the attempt to its end and return its code; a cluster that is gone is a bad node."""
        try:
            ending = self._run()
        except (RequestError, WorkError) as error:
            time.sleep(POLL_SECONDS)
            ending = NodeEnding(0, "cluster", ExitCode.BAD_NODE, str(error))
        attempts.write_ending(self.folder, self.number, ending)
        return attempts.code_of([ending], 1)

    def _run(self) -> NodeEnding:
        ray = client(self.job)
        self._ask(lambda: ray.submit_job(**request(self.job, self._part)))
        while True:
            found = self._ask(lambda: ray.get_job_info(self._id))
            over = found.status.is_terminal()
            if over or time.monotonic() - self._logged_at > _LOG_SECONDS:
                self._log(ray)
            if over:
                return self._ending(found)
            if self.stopped:
                self._stop(ray)
            time.sleep(POLL_SECONDS)

    def _ending(self, found: Any) -> NodeEnding:
        return ending_of(
            str(self.job.place.ray.address),
            str(found.status.value),
            found.driver_exit_code,
            str(found.message),
            attempts.log_of(self.folder, self.number, 0),
            stopped=self.stopped,
        )

    def _log(self, ray: Any) -> None:
        with contextlib.suppress(WorkError):
            text = self._ask(lambda: ray.get_job_logs(self._id))
            storage.write_text(attempts.log_of(self.folder, self.number, 0), text)
        self._logged_at = time.monotonic()

    def _stop(self, ray: Any) -> None:
        """Tell the job once, by a job of its own where it has to save; then stop it."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            if self.job.run.pretrain is not None:
                self._ask(lambda: ray.submit_job(**stop_request(self.job, self._id)))
                return
        patience = self.job.grace_seconds + _SILENT_SECONDS if self.job.run.pretrain else 0.0
        if now - self._asked_at >= patience:
            self._ask(lambda: ray.stop_job(self._id))

    def _ask(self, question: Callable[[], T]) -> T:
        return patiently(question, "the dashboard of Ray", _SILENT_SECONDS)

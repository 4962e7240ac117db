"""Runs a preflight on the machines of a job's place and judges what they report."""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from launch import kubectl, kubernetes, ray_jobs, slurm, ssh
from launch.job import Job
from launch.node import last_words
from launch.place import Place
from launch.preflight import machine
from launch.preflight.rendering import (
    MINUTES,
    SCRIPT,
    local_words,
    ray_request,
    renamed,
    render,
    ssh_command,
)
from launch.preflight.report import arrivals, keep_told, reports
from launch.preflight.verdicts import Check, Submitter, evaluate, excluded
from launch.rendering.kubernetes import STATE, name_of
from trawl import recipe, storage
from trawl.errors import RequestError, WorkError

RESULT = "preflight.json"
_POLL_SECONDS = 0.2
_KUBERNETES_SECONDS = 2.0

Hosts = list[str]


class Preflight:
    """One preflight of `job`; its files lie in a folder of its own in the job's `folder`."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.job_folder = job, folder
        self.folder = folder / "preflight" / secrets.token_hex(4)
        self.ahead: dict[int, float] = {}
        """By node, how far its clock was ahead when its word was seen here."""

    def run(self) -> list[Check]:
        """Run it to its end; write the result beside the job, and return the verdicts."""
        runners = {
            "local": self._local,
            "ssh": self._ssh,
            "slurm": self._slurm,
            "ray": self._ray if self.job.place.ray.address is not None else self._kubernetes,
            "kubernetes": self._kubernetes,
        }
        runner = runners[self.job.place.backend]
        storage.write_text(self.folder / "job.yaml", recipe.dump(self.job))
        hosts, silent = runner()
        silent += self._without_a_word(hosts)
        return judge(self.job, self.folder, hosts, silent, self.ahead, self.job_folder)

    def _without_a_word(self, hosts: Hosts) -> list[tuple[str, str]]:
        """Return the hosts that left no report, with the last that their processes said."""
        known = {report.host for report in reports(self.folder)}
        found = []
        for node, host in enumerate(hosts):
            log = self.folder / f"node-{node}.log"
            said = last_words(log) if log.exists() else ""
            if host not in known:
                found.append((host, f"left no report: {said}" if said else "left no report"))
        return found

    def _local(self) -> tuple[Hosts, list[tuple[str, str]]]:
        words = [sys.executable, "-m", *local_words(str(self.folder))]
        with self._started({0: words}) as ended:
            self._wait(ended)
        return [os.uname().nodename], []

    def _ssh(self) -> tuple[Hosts, list[tuple[str, str]]]:
        """Run it on all hosts that answer, those in reserve among them."""
        hosts = ssh.reachable(self.job)
        silent = [(h, "ssh does not answer") for h in self.job.place.hosts if h not in hosts]
        if not hosts:
            return [], silent
        first = ssh.address_of(self.job, hosts[0])
        words = {
            node: ssh_command(self.job, str(self.folder), hosts, node, first)
            for node in range(len(hosts))
        }
        with self._started(words) as ended:
            self._wait(ended)
        return hosts, silent

    def _slurm(self) -> tuple[Hosts, list[tuple[str, str]]]:
        storage.write_text(self.folder / SCRIPT, render(self.job, str(self.folder))[SCRIPT])
        number = slurm.ask("sbatch", "--parsable", str(self.folder / SCRIPT)).split(";")[0].strip()
        try:
            # It may wait in the queue for long before its minutes begin.
            self._wait(lambda: not set(slurm.LIVE) & set(slurm.words_for(number)), seconds=None)
        finally:
            with contextlib.suppress(Exception):
                slurm.ask("scancel", number)
        return self._arrived(f"see slurm-{number}.log in {self.folder}")

    def _ray(self) -> tuple[Hosts, list[tuple[str, str]]]:
        """Run it as a job of the cluster, whose machines share the job's folder."""
        client = ray_jobs.client(self.job)
        asked = ray_request(self.job, str(self.folder))
        client.submit_job(**asked)
        name = asked["submission_id"]
        try:
            self._wait(lambda: client.get_job_info(name).status.is_terminal())
        finally:
            storage.write_text(self.folder / "node-0.log", client.get_job_logs(name))
            client.stop_job(name)
        return self._arrived(f"see node-0.log in {self.folder}")

    def _kubernetes(self) -> tuple[Hosts, list[tuple[str, str]]]:
        """Run it as a Job, whose pods speak through their claim and tell their reports."""
        place = self.job.place
        if place.nodes > 1 and STATE not in place.kubernetes.claims:
            raise RequestError(
                f"place.kubernetes.claims: none at {STATE}, where the pods of a preflight leave "
                "each other word; name one that all machines can write"
            )
        kubectl.require()
        name, namespace = name_of(renamed(self.job)), place.kubernetes.namespace
        kind = kubernetes.KINDS[place.kubernetes.kind]
        delete = partial(kubectl.ask, namespace, "delete", kind, name, "--ignore-not-found")
        delete("--wait=true")
        kubectl.apply(namespace, render(self.job, str(self.folder))["objects.yaml"])
        try:
            # It may wait in a queue for long before its minutes begin.
            self._wait(lambda: self._is_over(kind, name), seconds=None)
            for pod in kubectl.pods(namespace, {"app.kubernetes.io/instance": name}):
                with contextlib.suppress(WorkError):
                    log = kubectl.logs(namespace, pod["metadata"]["name"], "trawl")
                    storage.write_text(self.folder / f"{pod['metadata']['name']}.log", log)
                    keep_told(log, self.folder)
        finally:
            delete("--wait=false")
        return self._arrived(f"see the logs in {self.folder}")

    def _is_over(self, kind: str, name: str) -> bool:
        time.sleep(_KUBERNETES_SECONDS)
        found = kubectl.get(self.job.place.kubernetes.namespace, kind, name)
        return not found or kubernetes.is_over(found)

    def _arrived(self, where: str) -> tuple[Hosts, list[tuple[str, str]]]:
        """Return the machines that arrived, who alone know their names, and those missing."""
        known = arrivals(self.folder)
        missing = set(range(self.job.place.least_nodes or self.job.place.nodes)) - known.keys()
        silent = [(f"node {node}", f"did not arrive; {where}") for node in sorted(missing)]
        return [arrival.host for _, arrival in sorted(known.items())], silent

    @contextlib.contextmanager
    def _started(self, commands: dict[int, list[str]]) -> Iterator[Callable[[], bool]]:
        """Run a command for each node, with a log each; they end with the block."""
        started = []
        try:
            for node, words in commands.items():
                started.append(ssh.connected(words, self.folder / f"node-{node}.log"))
            yield lambda: all(each.poll() is not None for each in started)
        finally:
            for each in started:
                if each.poll() is None:
                    each.kill()
                each.wait()

    def _wait(self, ended: Callable[[], bool], seconds: float | None = MINUTES * 60.0) -> None:
        """Wait until all have ended, and note the clocks of those that arrive meanwhile."""
        deadline = time.monotonic() + (seconds or float("inf"))
        over = False
        while not over and time.monotonic() < deadline:
            over = ended()
            for node, arrival in arrivals(self.folder, besides=self.ahead.keys()).items():
                self.ahead[node] = arrival.time - time.time()
            if not over:
                time.sleep(_POLL_SECONDS)


def judge(
    job: Job,
    folder: Path,
    hosts: Hosts,
    silent: list[tuple[str, str]],
    ahead: dict[int, float],
    target: Path,
) -> list[Check]:
    """Judge what `hosts` reported in `folder`, and write the result into the folder `target`."""
    found = reports(folder)
    known = {report.host for report in found}
    known |= {host for host, _ in silent}
    silent = silent + [(host, "left no report") for host in hosts if host not in known]
    every = list(dict.fromkeys([*hosts, *(host for host, _ in silent)]))
    own = Submitter(machine.versions(), ahead)
    checks = evaluate(found, silent, job.preflight, job.place.gpus, own)
    content: dict[str, Any] = {
        "format": "trawl-preflight",
        "version": 1,
        "time": round(time.time(), 3),
        "passed": all(check.passed for check in checks),
        "hosts": every,
        "exclude": excluded(checks, every),
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
        "reports": str(folder),
    }
    storage.write_json(target / RESULT, content)
    return checks


def without_unfit(job: Job, source: str, job_folder: Path) -> Job:
    """Return `job` without the hosts that a preflight excludes.

    `source` is the file of its result, or `preflight` for the job's own. Raises RequestError if
    there is none, or too few hosts are left.
    """
    place = job_folder / RESULT if source == "preflight" else Path(source)
    if not place.exists():
        raise RequestError(f"{place}: no result of a preflight; run `trawl launch preflight` first")
    content = storage.read_json(place)
    found = content.get("exclude") if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(host, str) for host in found):
        raise RequestError(f"{place}: no list `exclude` in it; name the preflight.json of a job")
    exclude = list(dict.fromkeys([*job.place.exclude, *found]))
    content = {**job.place.model_dump(), "exclude": exclude}
    place_of_it = recipe.parse(content, Place, f"{job.name}: place")
    return job.model_copy(update={"place": place_of_it})

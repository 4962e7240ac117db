"""Local jobs: rendered, started, watched, stopped, and tried again only when that may help."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import local
from launch.job import Job, Place, Retry, Work
from launch.render import local_script
from launch.supervise import allowed, cause_of
from trawl.errors import RequestError
from trawl.events import read_events


def wait_for_end(folder: Path) -> str:
    while local.status(folder)[0] == "running":
        time.sleep(0.05)
    return local.status(folder)[0]


def test_a_job_renders_to_the_command_that_a_user_would_give() -> None:
    job = Job(name="a", run=Work(pretrain="oscar-demo", changes=["seed=1"]), on=Place(processes=2))
    assert local_script(job).endswith(
        "exec trawl pretrain run oscar-demo --processes 2 --set seed=1\n"
    )


def test_a_wrong_request_burns_no_retry(tmp_path: Path) -> None:
    job = Job(name="a", run=Work(corpus="none.yaml"), retry=Retry(bug=3, bad_node=3))
    local.submit(job, tmp_path)
    assert wait_for_end(tmp_path) == "user-error"
    assert local.status(tmp_path)[1] == 1
    assert "none.yaml: no such file" in local.logs(tmp_path)


def test_a_stopped_job_leaves_no_process(tmp_path: Path) -> None:
    fifo = tmp_path / "recipe.yaml"
    subprocess.run(["mkfifo", str(fifo)], check=True)  # whoever reads it waits for ever
    folder = tmp_path / "state"
    local.submit(Job(name="a", run=Work(corpus=str(fifo)), grace_seconds=5), folder)
    assert local.status(folder)[0] == "running"
    with pytest.raises(RequestError, match="is running"):
        local.submit(Job(name="a", run=Work(corpus=str(fifo))), folder)
    local.stop(folder)
    left = subprocess.run(["pgrep", "-f", str(fifo)], capture_output=True, text=True)
    assert left.stdout == ""
    assert [event["kind"] for event in read_events(folder / "events.jsonl")][-1] == "job-ended"


def test_each_way_to_end_has_its_own_budget() -> None:
    retry = Retry(preempted="unlimited", bad_node=2, bug=1)
    assert allowed(retry, "preempted") == float("inf")
    assert (allowed(retry, "bad-node"), allowed(retry, "failure")) == (2, 1)
    for cause in ("user-error", "numerics", "data-error"):
        assert allowed(retry, cause) == 0
    assert [cause_of(code) for code in (0, 1, 2, 75, 71, 79, -9, 139)] == [
        "done",
        "failure",
        "user-error",
        "preempted",
        "bad-node",
        "numerics",
        "bad-node",
        "failure",
    ]


def test_the_command_line_drives_a_job(tmp_path: Path) -> None:
    job_file = tmp_path / "job.yaml"
    job_file.write_text("name: tiny\nrun: {corpus: none.yaml}\n")

    def trawl(verb: str, *options: str) -> str:
        command = [sys.executable, "-m", "trawl", "launch", verb, str(job_file), *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout

    assert "exec trawl corpus build none.yaml" in trawl("submit", "--dry-run")
    assert "tiny: started" in trawl("submit")
    wait_for_end(tmp_path / "jobs" / "tiny")
    assert trawl("status") == "tiny: user-error, attempts 1, last event job-ended\n"
    assert "no such file" in trawl("logs")

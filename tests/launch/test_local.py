"""Local jobs: rendered, started, watched, stopped, and tried again only when that may help."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import attempts, local, state
from launch.attempts import Attempt, allowed, cause_of, may_go_on
from launch.job import Job, Retry, Work
from tests.data_pipeline import builds
from tests.launch.watching import told, wait_until
from tests.trawl.demo.small_web import small_web
from trawl.errors import RequestError
from trawl.events import read_events


def wait_for_end(folder: Path) -> str:
    while local.running(folder):
        time.sleep(0.05)
    return state.state_of(folder).now


def test_a_wrong_request_burns_no_retry(tmp_path: Path) -> None:
    job = Job(name="a", run=Work(corpus="none.yaml"), retry=Retry(bug=3, bad_node=3))
    local.submit(job, tmp_path)
    assert wait_for_end(tmp_path) == "user-error"
    assert attempts.newest(tmp_path) == 1
    assert "none.yaml: no such file" in told(tmp_path)
    (ending,) = attempts.endings(tmp_path, 1)
    assert (ending.node, ending.code, ending.message) == (0, 2, "trawl: none.yaml: no such file")
    # Submitted again, it has all its retries, and the attempts are numbered on.
    local.submit(job, tmp_path)
    assert wait_for_end(tmp_path) == "user-error"
    assert attempts.newest(tmp_path) == 2


def drivers(out: Path) -> list[int]:
    """The processes that drive the build of the corpus at `out`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"\0corpus\0build\0" in line and f"out={out}\0".encode() in line:
            found.append(int(process.name))
    return found


def test_a_corpus_is_built_though_its_driver_is_killed(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "job"
    arguments = builds.warc_build(str(out), small_web() / "warc" / "07.warc.gz")
    changes = [word for word in arguments if "=" in word]
    work = Work(corpus="web-demo", changes=[*changes, f"out={out}"])
    local.submit(Job(name="a", run=work), folder)
    wait_until(lambda: len(list((out / "ledger").glob("download/*.json"))) > 0, folder)
    for driver in drivers(out):
        os.kill(driver, signal.SIGKILL)
    assert wait_for_end(folder) == "done", told(folder)
    assert [each.cause for each in attempts.history(folder)] == ["bad-node", "done"]
    builds.trawl_corpus("verify", str(out))


def test_a_stopped_job_leaves_no_process(tmp_path: Path) -> None:
    fifo = tmp_path / "table.tsv"
    subprocess.run(["mkfifo", str(fifo)], check=True)  # whoever reads it waits for ever
    recipe = tmp_path / "recipe.yaml"
    source = f"{{kind: table, format: cc12m, uris: [{fifo}]}}"
    recipe.write_text(f"name: a\nout: {tmp_path}/out\ncollect: {{source: {source}}}\n")
    folder = tmp_path / "state"
    local.submit(Job(name="a", run=Work(corpus=str(recipe)), grace_seconds=5), folder)
    assert state.state_of(folder).now == "running"
    with pytest.raises(RequestError, match="is running"):
        local.submit(Job(name="a", run=Work(corpus=str(recipe))), folder)
    local.stop(folder)
    assert state.state_of(folder).now == "preempted"
    left = subprocess.run(["pgrep", "-f", str(recipe)], capture_output=True, text=True)
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


def ended(*causes_and_progress: tuple[str, int]) -> list[Attempt]:
    return [Attempt(n, *how) for n, how in enumerate(causes_and_progress, 1)]


def test_an_attempt_that_got_further_costs_no_retry() -> None:
    retry = Retry(preempted=1, bad_node=2, bug=0)
    stuck = [("bad-node", 10)] * 3
    assert may_go_on(retry, ended(*stuck))
    assert not may_go_on(retry, ended(*stuck, ("bad-node", 10)))
    assert may_go_on(retry, ended(*stuck, ("bad-node", 20)))
    assert not may_go_on(retry, ended(*stuck, ("bad-node", 20), *[("bad-node", 20)] * 3))
    assert may_go_on(retry, ended(("preempted", 0), ("bad-node", 0)))
    assert not may_go_on(retry, ended(("failure", 10), ("failure", 20)))
    assert not may_go_on(retry, ended(("user-error", 20)))
    assert not may_go_on(retry, ended(("done", 20)))


def test_a_machine_that_left_no_word_is_a_bad_one() -> None:
    lost = attempts.NodeEnding(0, "a", 1, "rank 0 lost another rank")
    killed = attempts.NodeEnding(1, "b", -9, "")
    preempted = attempts.NodeEnding(1, "b", 75, "")
    assert attempts.code_of([lost], nodes=2) == 71
    assert attempts.code_of([lost, killed], nodes=2) == 71
    assert attempts.code_of([lost, preempted], nodes=2) == 1
    assert attempts.code_of([], nodes=1) == 71


def test_the_command_line_drives_a_job(tmp_path: Path) -> None:
    job_file = tmp_path / "job.yaml"
    job_file.write_text("name: tiny\nrun: {corpus: none.yaml}\n")

    def trawl(verb: str, *options: str) -> str:
        command = [sys.executable, "-m", "trawl", "launch", verb, str(job_file), *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout

    assert "exec trawl corpus build none.yaml" in trawl("submit", "--dry-run")
    assert "tiny: submitted" in trawl("submit")
    wait_for_end(tmp_path / "jobs" / "tiny")
    assert "tiny: user-error" in trawl("status")
    assert "none.yaml: no such file (machine 0, " in trawl("explain")
    assert "no such file" in trawl("logs")

"""Attempts that were stopped for a while, as a machine that was cut off: they find a newer one."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from launch import attempts
from launch.job import Job, Work
from tests.data_pipeline import builds
from tests.pretrain import runs
from tests.pretrain.tiny_corpus import write
from tests.trawl.demo.small_web import small_web
from trawl.events import read_events


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("place", ["folder", pytest.param("s3", marks=pytest.mark.soak)])
def test_a_training_that_comes_back_writes_nothing_into_the_newer_attempts_run(
    tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    web = write(tmp_path / "web", "web", 24)
    run = tmp_path / "run"
    uri = str(run) if place == "folder" else f"{request.getfixturevalue('s3')}/stale"
    content = runs.recipe(web, web, uri)
    content["stages"] = content["stages"][:1]
    content["stages"][0]["steps"] = 80
    content["checkpoint"]["every_steps"] = 10
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)

    def process(number: int) -> tuple[runs.Process, Path]:
        work = tmp_path / str(number)  # of a machine of its own, where the run is in a store
        options = ("--attempt", f"job:{number}", "--work", str(work))
        return runs.Process(recipe, *options), work

    def lines(work: Path) -> int:
        return len(runs.lines(next(work.iterdir()) if work.exists() else run))

    stale, work = process(1)
    stale.wait_for(lambda: lines(work) > 12)
    ours = runs.ranks_of(recipe)
    send(ours, signal.SIGSTOP)
    try:
        newer, newer_work = process(2)
        newer.wait_for(lambda: lines(newer_work) > 30)
    finally:
        send(ours, signal.SIGCONT)
    assert stale.wait() == 73, stale.said
    assert "a newer attempt is at work there" in stale.said
    assert newer.wait() == 0, newer.said
    home = run if place == "folder" else next(newer_work.iterdir())
    assert [line["step"] for line in runs.lines(home)] == list(range(1, 81))
    assert [event["code"] for event in runs.events(home, "run-stopped")] == []
    assert len(runs.events(home, "run-started")) == (2 if place == "folder" else 1)
    runs.release(f"{uri}/stages/out")


def test_a_corpus_driver_that_comes_back_commits_nothing(tmp_path: Path) -> None:
    warc = small_web() / "warc" / "07.warc.gz"
    out = tmp_path / "out"
    arguments = builds.warc_build(str(out), warc)
    stale = subprocess.Popen(
        builds.command(*arguments, "--attempt", "job:1"), stderr=subprocess.PIPE, text=True
    )
    while not list((out / "ledger").glob("*/*.json")):
        assert stale.poll() is None
        time.sleep(0.02)
    os.kill(stale.pid, signal.SIGSTOP)
    try:
        builds.trawl_corpus(*arguments, "--attempt", "job:2")
        ended = [event["kind"] for event in read_events(out / "events.jsonl")]
    finally:
        os.kill(stale.pid, signal.SIGCONT)
    said = stale.communicate(timeout=runs.PATIENCE)[1]
    assert stale.returncode == 73, said
    assert "a newer attempt is at work there" in said
    assert [event["kind"] for event in read_events(out / "events.jsonl")] == ended
    builds.trawl_corpus("verify", str(out))
    late = builds.trawl_corpus(*arguments, "--attempt", "job:1", code=73)
    assert "attempt 2 of the job has begun there" in late


def test_a_launcher_that_was_cut_off_ends_no_newer_attempt_and_starts_none(tmp_path: Path) -> None:
    attempts.submit(tmp_path, Job(name="a", run=Work(corpus="none.yaml")))
    assert attempts.begin(tmp_path, 1, 0)
    assert attempts.begin(tmp_path, 2, 0)  # by another, which took the first for lost
    assert not attempts.begin(tmp_path, 2, 0)
    assert not attempts.end(tmp_path, 1, 75, 0)
    assert [each.cause for each in attempts.history(tmp_path)] == ["bad-node", None]
    assert attempts.end(tmp_path, 2, 75, 0)
    (tmp_path / "attempt-3").mkdir()
    (tmp_path / "attempt-3" / "begun").touch()  # by a launcher that died before it told
    assert attempts.newest(tmp_path) == 3
    identity = attempts.identity(tmp_path)
    attempts.submit(tmp_path, Job(name="a", run=Work(corpus="none.yaml")))
    assert attempts.identity(tmp_path) == identity != ""


def test_a_stale_attempt_burns_no_retry() -> None:
    stale = [attempts.NodeEnding(0, "a", 73, ""), attempts.NodeEnding(1, "b", 1, "")]
    assert attempts.code_of(stale, 2) == 73
    assert attempts.cause_of(73) == "stale"
    job = Job(name="a", run=Work(corpus="none.yaml"))
    assert not attempts.may_go_on(job.retry, [attempts.Attempt(1, "stale", 5)])

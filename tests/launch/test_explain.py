"""`explain` is right about every exit code, and about each fault that a training may meet."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_pipeline.scheduling import Scheduler
from data_pipeline.status import EVENTS
from data_pipeline.units import Unit
from launch import attempts
from launch.explain import explanation
from launch.job import Job, Retry, Work
from launch.place import Place
from pretrain.exit_codes import ExitCode
from tests.launch import finished
from tests.pretrain import forked, runs, tiny_corpus
from trawl import storage
from trawl.events import EventLog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_corpus.write(tmp_path_factory.mktemp("corpus") / "web", "web", 48)


def recipe(web: str, run: Path, steps: int = 8) -> dict[str, Any]:
    """A recipe of one short stage."""
    content = runs.recipe(web, web, str(run))
    content["stages"] = content["stages"][:1]
    content["stages"][0]["steps"] = steps
    return content


def once_it_trains(run: Path, then: Callable[[forked.Ranks], bool | None]) -> finished.Disturbance:
    def disturb(ranks: forked.Ranks) -> bool | None:
        ranks.wait_for(lambda: bool(runs.lines(run)) and bool(runs.events(run, "checkpoint")))
        return then(ranks)

    return disturb


def test_a_done_job_and_then_one_whose_checkpoint_is_torn(web: str, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "job"
    content = recipe(web, run)
    assert finished.attempt(folder, content) == ExitCode.DONE
    assert explanation(folder) == (
        "Job job ended: done (exit code 0), attempt 1, at step 8 of 8 of stage out "
        f"(loss {runs.lines(run)[-1]['loss']:.4g}). There is nothing to do."
    )
    shutil.rmtree(run / "stages")
    newest = max((run / "checkpoints" / "out").glob("step-*"))
    file = next(newest.rglob("*optim_states.pt"))
    file.write_bytes(file.read_bytes()[:-1])
    attempts.submit(folder, attempts.job_of(folder))
    assert finished.attempt(folder, content) == ExitCode.DONE
    said = explanation(folder)
    assert f"Checkpoint {newest} is torn ({file.name}" in said
    assert "It had gone on from step 6 of stage out." in said
    assert said.endswith("There is nothing to do.")


@pytest.mark.parametrize("skips", [3, 0])
def test_a_sample_that_is_not_a_number(tmp_path: Path, skips: int) -> None:
    broken = tiny_corpus.write(tmp_path / "broken", "web", 48, broken=5)
    run, folder = tmp_path / "run", tmp_path / "job"
    content = recipe(broken, run) | {"guards": {"skips": skips, "rollbacks": 0}}
    code = finished.attempt(folder, content)
    assert code == (ExitCode.DONE if skips else ExitCode.NUMERICS)
    said = explanation(folder)
    event = runs.events(run, "bad-step")[-1]
    assert f"In step {event['step']} of stage out the loss is not finite, on rank " in said
    assert f"on rank {event['ranks'][0]} ({event['hosts'][0]})" in said
    assert ", ".join(event["keys"]) in said
    assert f"`trawl pretrain replay {run} {Path(event['file']).stem}`" in said
    assert ("nothing to do" if skips else "lower the learning rate") in said


def test_a_flipped_byte_in_a_shard(tmp_path: Path) -> None:
    broken = tiny_corpus.write(tmp_path / "broken", "web", 48)
    shard = sorted(Path(broken).glob("shards/*.tar"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    content = recipe(broken, tmp_path / "run") | {"feeding": {"check": "always"}}
    assert finished.attempt(tmp_path / "job", content) == ExitCode.DATA_ERROR
    said = explanation(tmp_path / "job")
    assert "ended: data-error (exit code 65)" in said
    assert shard.name in said
    assert f"Run `trawl corpus verify {broken}`, restore the shard" in said


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_a_rank_that_is_killed_or_stopped_or_crashes(
    web: str, tmp_path: Path, sent: signal.Signals
) -> None:
    run, folder = tmp_path / "run", tmp_path / "job"
    content = recipe(web, run, 100_000)
    if sent == signal.SIGSTOP:
        content["guards"] = {"silent_seconds": 10}
    hit = once_it_trains(run, lambda ranks: ranks.signal(sent, only=1))
    code = finished.attempt(folder, content, hit)
    said = explanation(folder)
    assert f"Safe is step {runs.events(run, 'checkpoint')[-1]['step']} of stage out." in said
    if sent == signal.SIGKILL:
        assert code == ExitCode.BAD_NODE
        assert "Rank 1 was killed from outside" in said
        assert "out-of-memory messages" in said
    elif sent == signal.SIGSTOP:
        assert code == ExitCode.BAD_NODE
        assert "Rank 1 gave no sign of life for 10 s" in said
        assert "waiting for it: rank 0 in all" in said
        assert "By the flight recorder rank 0 waits in all" in said
        assert f"The stacks are in {run}/logs/0.log." in said
        assert "in place.exclude if it repeats" in said
    else:
        assert code == ExitCode.FAILURE
        assert "Rank 1 died of SIGSEGV" in said
        assert "It is a bug" in said


def test_a_bug(web: str, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "job"
    run.mkdir()
    (run / "tensorboard").write_text("in the way")  # which nobody has foreseen
    assert finished.attempt(folder, recipe(web, run)) == ExitCode.FAILURE
    said = explanation(folder)
    assert "Rank 0: a fault of Trawl itself (" in said
    assert f"{run}/tensorboard" in said
    assert f"The traceback is in {run}/logs/0.log." in said
    assert said.endswith("starting again will likely fail again.")


def test_a_preempted_job_and_then_a_wrong_request(web: str, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "job"
    content = recipe(web, run, 100_000)

    def stop(ranks: forked.Ranks) -> bool:
        ranks.signal(signal.SIGTERM)
        return True

    assert finished.attempt(folder, content, once_it_trains(run, stop)) == ExitCode.PREEMPTED
    said = explanation(folder)
    assert "told to stop, saved step" in said
    assert "Nothing is wrong: submit again" in said
    attempts.submit(folder, attempts.job_of(folder))
    content["stages"][0]["data"] = [{"corpus": str(tmp_path / "none")}]
    assert finished.attempt(folder, content) == ExitCode.USER_ERROR
    said = explanation(folder)
    assert str(tmp_path / "none") in said
    assert "Mend what that line names and submit again; no retry was used up." in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB, which a run can begin on; the test is skipped where none can be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)])
    if made.returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(web: str, tmp_path: Path, small_disk: Path) -> None:
    run, folder = small_disk / "run", tmp_path / "job"

    def fill(ranks: forked.Ranks) -> None:
        with (small_disk / "filling").open("wb") as filling, suppress(OSError):
            while True:
                os.write(filling.fileno(), bytes(4096))

    code = finished.attempt(folder, recipe(web, run, 100_000), once_it_trains(run, fill))
    assert code == ExitCode.BAD_NODE
    said = explanation(folder)
    assert str(small_disk) in said
    assert "Free room on that disk" in said


def test_a_machine_that_left_no_word_is_named_and_a_lost_job_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    place = {"backend": "slurm", "nodes": 2, "exclude": []}
    job = Job(
        name="job",
        run=Work(corpus="web-demo"),
        place=Place.model_validate(place),
        retry=Retry(bad_node=0),
    )
    attempts.submit(folder, job)
    attempts.begin(folder, 1, 0, nodes=2)
    for node, host in enumerate(("alpha", "beta")):
        attempts.beat(folder, 1, node, host)
    attempts.write_ending(folder, 1, attempts.NodeEnding(0, "alpha", 1, "rank 0 lost another rank"))
    attempts.end(folder, 1, attempts.code_of(attempts.endings(folder, 1), 2), 0)
    said = explanation(folder)
    assert "Machine 1 left no word of its end" in said
    assert "beta" in said
    assert "Look whether beta can be reached" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            15,
            "It was told to stop, and ended before it could say so (machine 0, alpha). Nothing is",
        ),
        (
            -9,
            "Its work was killed from outside by SIGKILL (machine 0, alpha). Look for the kernel's",
        ),
        (1, "Its log ends in: collect: 3 of 9 (machine 0, alpha). It is a bug"),
    ],
)
def test_a_build_that_left_no_word_of_its_own(tmp_path: Path, code: int, said: str) -> None:
    attempts.submit(tmp_path, Job(name="job", run=Work(corpus="web-demo"), retry=Retry(bad_node=0)))
    attempts.begin(tmp_path, 1, 0)
    attempts.write_ending(tmp_path, 1, attempts.NodeEnding(0, "alpha", code, "collect: 3 of 9"))
    attempts.end(tmp_path, 1, code, 0)
    assert said in explanation(tmp_path)


def test_a_build_whose_units_fail_names_them(tmp_path: Path) -> None:
    folder, out = tmp_path / "job", tmp_path / "out"
    changes = [f"out={out}"]
    work = Work(corpus="web-demo", changes=changes)
    attempts.submit(folder, Job(name="job", run=work))
    attempts.begin(folder, 1, 0)
    with EventLog(out / EVENTS) as log:
        telling = SimpleNamespace(log=log)
        failed = {"error": "WorkerCrashedError: The worker died", "nature": "crash"}
        for _ in range(3):
            Scheduler._tell(telling, Unit("detect", "00004"), failed)  # type: ignore[arg-type]
    told = "trawl: unit detect/00004 failed 3 times: WorkerCrashedError: The worker died"
    attempts.write_ending(folder, 1, attempts.NodeEnding(0, "alpha", 1, told))
    attempts.end(folder, 1, 1, 0)
    said = explanation(folder)
    assert "Unit detect/00004 failed 3 times: WorkerCrashedError" in said
    assert "3 tries of units failed, the last of detect/00004" in said


def test_a_running_job_is_told_of_with_the_attempt_before_it(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    attempts.submit(folder, Job(name="job", run=Work(corpus="web-demo"), retry=Retry(bad_node=2)))
    attempts.begin(folder, 1, 0)
    told = "trawl: rank 3 was killed from outside; is the machine out of memory?"
    attempts.write_ending(folder, 1, attempts.NodeEnding(0, "alpha", 71, told))
    attempts.end(folder, 1, 71, 0)
    attempts.begin(folder, 2, 0)
    attempts.beat(folder, 2, 0, "alpha")
    # A process that names the job's folder, as its supervisor does.
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as supervisor:
        storage.write_text(folder / "pid", str(supervisor.pid))
        said = explanation(folder)
    assert said.startswith("Job job is running (attempt 2)")
    assert "An earlier attempt ended: 1 bad-node." in said
    assert "Attempt 1 ended: bad-node (71). Rank 3 was killed from outside" in said


def test_a_job_whose_supervisor_was_killed_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    attempts.submit(folder, Job(name="job", run=Work(corpus="web-demo")))
    attempts.begin(folder, 1, 0)
    attempts.beat(folder, 1, 0, "alpha")
    said = explanation(folder)
    assert said.startswith("Job job is lost, attempt 1")
    assert "Machine 0 (alpha) gave its last sign of life 0 s ago." in said
    assert "Submit it again" in said

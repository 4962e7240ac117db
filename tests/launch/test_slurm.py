"""Jobs on a real Slurm of two nodes: queued, watched, stopped, queued again after a node died."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import attempts, slurm, state
from launch.explain import explanation
from launch.job import Work
from launch.place import Slurm as SlurmOptions
from launch.preflight.limits import Preflight as Limits
from launch.preflight.run import Preflight
from tests.cluster.slurm import Slurm, missing
from tests.cluster.slurm import slurm as running_slurm
from tests.launch.slurm_jobs import job, start_again_at_once, wait_for_end
from tests.launch.watching import told, wait_until
from tests.pretrain import forked, runs
from tests.pretrain.tiny_corpus import write
from trawl import storage
from trawl.errors import RequestError
from trawl.events import read_events

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    # The path of a socket has at most 107 bytes.
    folder = tmp_path_factory.mktemp("s")
    with running_slurm(folder) as running:
        yield running


@pytest.fixture
def here(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    for name, value in (cluster.environment | {"OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    return cluster


def test_a_node_dies_and_the_job_goes_on_with_what_is_left_and_then_on_two_again(
    here: Slurm, tmp_path: Path
) -> None:
    web = write(tmp_path / "web", "web", 48)
    recipes = {}
    for name in ("run", "alone"):
        content = runs.recipe(web, web, str(tmp_path / name))
        content["stages"][0]["steps"] = 240
        content["checkpoint"] |= {"every_steps": 20, "grace_seconds": 60.0}
        content["publish"]["uri"] = str(tmp_path / f"{name}-releases")
        recipes[name] = runs.write_recipe(tmp_path / f"{name}.yaml", content)
    run, folder = tmp_path / "run", tmp_path / "job"
    asked = job("two", Work(pretrain=str(recipes["run"])), nodes=2, least_nodes=1, port=29417)
    assert slurm.submit(asked, folder).startswith("Slurm job ")
    with pytest.raises(RequestError, match="stop it first"):
        slurm.submit(asked, folder)

    def whole(steps: int) -> bool:
        return len(runs.lines(run)) > steps

    wait_until(lambda: whole(25), folder)
    here.kill_node("n2")
    start_again_at_once(here, folder)
    wait_until(lambda: attempts.newest(folder) == 2, folder)
    before = len(runs.lines(run))
    wait_until(lambda: len(runs.lines(run)) > before + 25, folder)
    here.start_node("n2")
    # As before the end of its time: the batch shell is told, and the job queues itself again.
    here.run("scancel", "--batch", "--signal=TERM", slurm.numbers_of(folder)[-1])
    start_again_at_once(here, folder)
    assert wait_for_end(folder) == "done", told(folder)

    begun = [e for e in read_events(folder / "events.jsonl") if e["kind"] == "attempt-started"]
    assert [event["nodes"] for event in begun] == [2, 1, 2]
    causes = [attempt.cause for attempt in attempts.history(folder)]
    assert causes == ["bad-node", "preempted", "done"]
    forked.run(recipes["alone"], 2)
    together, alone = runs.lines(run), runs.lines(tmp_path / "alone")
    assert [line["samples"] for line in together] == [line["samples"] for line in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    for stage in ("out", "in"):
        assert (run / "stages" / stage / "model.safetensors").exists()
        assert list((tmp_path / "run-releases" / stage).iterdir())


def test_a_wrong_request_burns_no_retry_and_a_refused_script_is_told(
    here: Slurm, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    slurm.submit(job("wrong", Work(corpus="none.yaml")), folder)
    assert wait_for_end(folder) == "user-error", told(folder)
    assert attempts.newest(folder) == 1
    assert "none.yaml: no such file" in told(folder)
    refused = job("refused", Work(corpus="a.yaml"), slurm=SlurmOptions(partition="none"))
    with pytest.raises(RequestError, match="partition"):
        slurm.submit(refused, tmp_path / "refused")


@pytest.mark.soak
def test_a_training_that_is_cancelled_amid_a_checkpoint_loses_nothing(
    here: Slurm, tmp_path: Path
) -> None:
    web = write(tmp_path / "web", "web", 24)
    recipes = {}
    for name in ("run", "alone"):
        content = runs.recipe(web, web, str(tmp_path / name))
        content["stages"] = content["stages"][:1]
        content["stages"][0]["steps"] = 60
        content["checkpoint"] |= {"every_steps": 1, "grace_seconds": 60.0}
        recipes[name] = runs.write_recipe(tmp_path / f"{name}.yaml", content)
    run, folder = tmp_path / "run", tmp_path / "job"
    asked = job("cancelled", Work(pretrain=str(recipes["run"])))
    for steps in (5, 20):
        slurm.submit(asked, folder)
        wait_until(lambda steps=steps: len(runs.lines(run)) > steps, folder)
        here.run("scancel", *slurm.numbers_of(folder))
        assert wait_for_end(folder) == "cancelled", told(folder)
        assert runs.ranks_of(recipes["run"]) == []
    assert attempts.newest(folder) == 2
    slurm.submit(asked, folder)
    assert wait_for_end(folder) == "done", told(folder)
    forked.run(recipes["alone"], 1)
    losses = [[line["loss"] for line in runs.lines(tmp_path / name)] for name in recipes]
    assert losses[0] == losses[1]
    assert (run / "stages" / "out" / "model.safetensors").exists()


def test_a_job_that_is_cancelled_by_hand_is_not_called_lost(here: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    held = job("held", Work(corpus="none.yaml"), slurm=SlurmOptions(options=["--hold"]))
    slurm.submit(held, folder)
    here.run("scancel", *slurm.numbers_of(folder))
    assert wait_for_end(folder) == "cancelled"
    assert "Job held ended: cancelled, no attempt yet." in explanation(folder)


def test_a_machine_that_fails_twice_is_excluded(here: Slurm, tmp_path: Path) -> None:
    # On n1 the agent of a machine ends at once, as where Python or its disk is broken.
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase "$SLURMD_NODENAME $*" in "n1 -m launch.node"*) exit 9 ;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    folder = tmp_path / "job"
    slurm.submit(job("sick", Work(corpus="none.yaml"), python=str(python)), folder)
    wait_until(lambda: attempts.was_told(folder, "attempt-ended"), folder)
    start_again_at_once(here, folder)
    assert wait_for_end(folder) == "user-error", told(folder)
    begun = [e for e in read_events(folder / "events.jsonl") if e["kind"] == "attempt-started"]
    assert [event["hosts"] for event in begun] == [["n1"], ["n1"], ["n2"]]
    assert [each.cause for each in attempts.history(folder)] == ["bad-node"] * 2 + ["user-error"]
    assert len(slurm.numbers_of(folder)) == 2
    assert "(machine 0, n2)" in explanation(folder)


def test_preflight_is_a_job_of_the_queue_and_names_what_the_nodes_lack(
    here: Slurm, tmp_path: Path
) -> None:
    web = write(tmp_path / "web", "web", 8)
    recipe = runs.write_recipe(tmp_path / "r.yaml", runs.recipe(web, web, str(tmp_path / "run")))
    asked = job("tried", Work(pretrain=str(recipe)), nodes=2, port=29431)
    asked = asked.model_copy(update={"preflight": Limits(disk_gb=1e9, shm_gb=0, slow_share=0.01)})
    checks = Preflight(asked, tmp_path / "job").run()
    found = {check.name: [f.host for f in check.findings] for check in checks if check.findings}
    assert found == {"disk, /dev/shm": ["n1", "n2"]}, found
    assert storage.read_json(tmp_path / "job" / "preflight.json")["exclude"] == []


def test_a_stopped_job_ends_and_is_not_queued_again(here: Slurm, tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", 24)
    content = runs.recipe(web, web, str(tmp_path / "run"))
    content["stages"][0]["steps"] = 5000
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    folder = tmp_path / "job"
    slurm.submit(job("long", Work(pretrain=str(recipe))), folder)
    wait_until(lambda: len(runs.lines(tmp_path / "run")) > 3, folder)
    assert state.state_of(folder).now == "running"
    slurm.stop(folder)
    assert state.state_of(folder).now == "preempted", told(folder)
    assert runs.ranks_of(recipe) == []
    assert runs.events(tmp_path / "run", "checkpoint")
    shutil.rmtree(tmp_path / "run")

"""Evaluations as jobs: of a real release, here."""

from pathlib import Path
from typing import Any

from launch import attempts, local, state
from launch.job import Evaluation, Job, Retry, Work
from launch.preflight.stores import probe
from launch.status import status_of
from launch.status_table import as_json
from tests.launch.watching import told, wait_until
from trawl import storage


def job(done_job: Path, **options: Any) -> Job:
    """Evaluate what the finished job published on what it learnt from."""
    target = str(done_job.parents[1] / "releases" / "in")
    corpus = str(done_job.parents[1] / "web")
    asked = Evaluation(**({"target": target, "corpus": corpus, "count": 4} | options))
    return Job(name="scores", run=Work(evaluate=asked), retry=Retry(bug=3))


def test_a_release_is_evaluated(done_job: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "made" / "e.json", tmp_path / "job"
    asked = job(done_job, out=str(out))
    assert [(each.purpose, each.problem) for each in probe(asked, 60.0)] == [
        ("release", None),
        ("corpus", None),
        ("write", None),
    ]
    local.submit(asked, folder)
    wait_until(lambda: local.running(folder) is None, folder)
    assert state.state_of(folder).now == "done", told(folder)
    assert storage.read_json(out)["count"] == 4
    status = status_of(folder)
    assert (status.kind, status.training, status.corpus) == ("evaluation", None, None)
    assert '"kind": "evaluation"' in as_json([status])


def test_an_evaluation_of_nothing_burns_no_retry(done_job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    asked = job(done_job, target=str(tmp_path / "none"))
    (release, *_) = probe(asked, 60.0)
    assert release.problem is not None
    assert "no such file" in release.problem
    local.submit(asked, folder)
    wait_until(lambda: local.running(folder) is None, folder)
    assert state.state_of(folder).now == "user-error", told(folder)
    assert attempts.newest(folder) == 1


def test_a_target_alone_stands_for_an_evaluation() -> None:
    content = {"name": "a", "run": {"evaluate": "recipe.yaml"}}
    work = Job.model_validate(content).run
    assert work.evaluate == Evaluation(target="recipe.yaml")

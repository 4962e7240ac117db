"""The small pure parts of the trainer: metrics, differences, exit codes, reports."""

import json
from pathlib import Path

from typer.testing import CliRunner

from pretrain import changes, metrics
from pretrain.cli import pretrain
from pretrain.exit_codes import ExitCode, worst
from pretrain.local_launch import LOST, together
from trawl.report import sections_from_json


def _line(stage: str, step: int) -> dict[str, object]:
    return {"stage": stage, "step": step}


def test_metrics_are_cut_to_the_step_that_is_resumed(tmp_path: Path) -> None:
    lines = [_line("a", 1), _line("a", 2), _line("b", 1), _line("b", 2), _line("b", 3)]
    path = tmp_path / "metrics.jsonl"
    metrics.rewrite(path, lines)
    with path.open("a") as file:
        file.write('{"stage": "b", "st')
    assert metrics.read(path) == lines
    stages = ["a", "b", "c"]
    assert metrics.upto(lines, stages, "b", 2) == lines[:4]
    assert metrics.upto(lines, stages, "b", 0) == lines[:2]
    assert metrics.upto(lines, stages, "a", 1) == lines[:1]
    assert metrics.upto(lines, stages, "b", 4) is None
    assert metrics.upto(lines, stages, "c", 0) == lines


def test_differences_are_told_by_key() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": {}}
    after = {"a": {"b": 2, "c": [1]}, "d": {}, "e": "new"}
    assert changes.between(before, after) == [
        "a.b: 1 -> 2",
        "a.c.1: 2 -> 'nothing'",
        "e: 'nothing' -> 'new'",
    ]
    assert changes.between(before, before) == []


def test_the_runs_code_is_that_of_the_rank_to_blame() -> None:
    assert worst([0, 0]) == 0
    assert worst([1, 79]) == ExitCode.NUMERICS
    assert worst([75, 75]) == ExitCode.PREEMPTED
    assert worst([75, 1]) == ExitCode.FAILURE
    assert worst([65, 1]) == ExitCode.DATA_ERROR
    assert worst([0, 42]) == ExitCode.FAILURE


def test_the_report_of_a_run(undisturbed: Path, tmp_path: Path) -> None:
    page, parts = tmp_path / "r.html", tmp_path / "r.json"
    arguments = ["report", str(undisturbed), "-o", str(page), "--sections", str(parts)]
    done = CliRunner().invoke(pretrain, arguments)
    assert done.exit_code == 0, done.output
    sections = sections_from_json(json.loads(parts.read_text()))
    assert [section.title for section in sections] == [
        "Training, stage out",
        "Training, stage in",
        "Published stages",
    ]
    assert sections[0].html.count("<svg") == 3
    assert "contrast" in page.read_text()


def test_a_rank_that_only_lost_another_is_not_the_one_that_is_told_of(tmp_path: Path) -> None:
    for rank, message, moment in ((0, "rank 0: a fault", 2.0), (1, f"rank 1 {LOST}; see", 1.0)):
        content = {"code": int(ExitCode.FAILURE), "message": message, "time": moment}
        (tmp_path / f"{rank}.json").write_text(json.dumps(content))
    assert together(tmp_path, {0: 1, 1: 1}, False).message == "rank 0: a fault"

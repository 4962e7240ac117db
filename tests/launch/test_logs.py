"""Logs of machines and ranks: merged by time, chosen, filtered, and followed."""

import time
from pathlib import Path

import pytest

from launch import attempts, local
from launch.job import Job, Work
from launch.logs import Chosen, lines
from trawl import stamped
from trawl.errors import RequestError


def test_the_lines_of_all_ranks_come_by_time(done_job: Path) -> None:
    said = list(lines(done_job, None, Chosen()))
    names = {line.split(" | ")[0][20:].strip() for line in said}
    assert names == {"node 0", "rank 0", "rank 1"}
    times = [line[:19] for line in said]
    assert times == sorted(times)
    for rank in (0, 1):
        chosen = Chosen.of(rank=rank, grep="stage-published.*'in'")
        (line,) = lines(done_job, None, chosen)
        assert f" rank {rank} | INFO pretrain stage-published" in line
    assert any("stage in: 6 of 6" in line for line in lines(done_job, 1, Chosen.of(node=0)))
    assert list(lines(done_job, None, Chosen(since=time.time() + 60))) == []
    assert list(lines(done_job, None, Chosen.of(since="1d"))) == said


@pytest.mark.parametrize("wrong", [{"grep": "("}, {"since": "soon"}])
def test_what_cannot_be_read_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=f"--{next(iter(wrong))}"):
        Chosen.of(**wrong)  # type: ignore[arg-type]


def test_a_job_is_followed_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    local.submit(Job(name="job", run=Work(corpus="none.yaml")), folder)
    said = list(lines(folder, None, Chosen(), follow=True))
    assert [line.split(" | ")[1] for line in said] == ["trawl: none.yaml: no such file"]


def test_what_only_the_batch_script_said_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    attempts.submit(folder, Job(name="job", run=Work(corpus="none.yaml")))
    (folder / "slurm-7.log").write_text("job.sbatch: line 9: module: command not found\n")
    (line,) = lines(folder, None, Chosen())
    assert line.endswith("slurm | job.sbatch: line 9: module: command not found")


def test_a_long_file_is_read_from_a_moment_on(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    begin = 1_700_000_000
    with path.open("w") as file:
        for second in range(60_000):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begin + second))
            file.write(f"{when},250 INFO step {second}\n" + "  detail\n" * (second % 3))
    moment = begin + 41_000.0
    offset = stamped.offset_of(path, moment)
    assert path.stat().st_size / 2 < offset < path.stat().st_size
    found = [text for at, text, _ in stamped.timed_lines(path, offset, 0.0) if at >= moment]
    assert found[0] == "INFO step 41000"
    assert found[-1].startswith(("INFO step 59999", "  detail"))
    assert sum(text == "  detail" for text in found) == sum(n % 3 for n in range(41_000, 60_000))

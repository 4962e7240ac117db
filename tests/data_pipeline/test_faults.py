"""Builds that are killed, workers that die, units that fail: the same corpus, or an error."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from data_pipeline import scheduling
from data_pipeline.cluster import cluster
from data_pipeline.recipe import Compute, CorpusRecipe
from data_pipeline.scheduling import PHASES, Driver, Scheduler, attempt
from data_pipeline.units import Ledger, Unit, Work, new_attempt
from tests.data_pipeline.builds import command, content, ray_processes, trawl_corpus, warc_build
from tests.trawl.demo.small_web import small_web
from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog, read_events

RECIPE = CorpusRecipe.model_validate(
    {"name": "t", "collect": {"source": {"kind": "warc", "uris": ["x"]}}, "compute": {"cpus": 2}}
)


def _kill_when(arguments: list[str], out: Path, phase: str, units: int, mark: str = "") -> bool:
    """Start a build and kill its process group when `units` of `phase` are done; False if it ended.

    The ledger is what is watched: it is what the next run goes on from.
    """
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = out / "ledger" / phase
    while process.poll() is None:
        if folder.is_dir() and len(list(folder.glob("*.json"))) >= units:
            assert not mark or ray_processes(mark)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_build_that_is_killed_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"TRAWL_TEST={tmp_path}"
    monkeypatch.setenv(*mark.split("=", 1))
    warc = small_web() / "warc" / "07.warc.gz"
    undisturbed, killed = tmp_path / "one", tmp_path / "two"
    trawl_corpus(*warc_build(str(undisturbed), warc))
    arguments = warc_build(str(killed), warc)
    for phase, units in (("gather", 1), ("detect", 1), ("shards", 1)):
        assert _kill_when(arguments, killed, phase, units, mark), f"the build ended before {phase}"
    trawl_corpus(*arguments)
    assert content(killed) == content(undisturbed)
    attempts = [e for e in read_events(killed / "events.jsonl") if e["kind"] == "build"]
    assert len(attempts) == 4
    for _ in range(100):  # the processes of a killed Ray see that their parent is gone
        if not ray_processes(mark):
            break
        time.sleep(0.1)
    assert not ray_processes(mark)


def sleepy_or_deadly(work: Work) -> dict[str, object]:
    """A unit of the tests: dies on its first attempts, as many as its inputs say."""
    mark = Path(str(work.unit.inputs["marks"])) / f"{work.unit.name}-{new_attempt()}"
    mark.touch()
    tried = len(list(mark.parent.glob(f"{work.unit.name}-*")))
    if tried <= int(work.unit.inputs.get("deaths", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    if work.unit.inputs.get("fails"):
        raise WorkError("no image at all")
    storage.write_text(work.place("result"), work.unit.name)
    return {"counts": {"done": 1}}


def _units(marks: Path, count: int = 2, **inputs: object) -> list[Unit]:
    return [Unit("test", str(n), {"marks": str(marks), **inputs}, lane="one") for n in range(count)]


def test_dead_workers_are_replaced_and_hopeless_units_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PHASES, "test", "tests.data_pipeline.test_faults:sleepy_or_deadly")
    log_place = tmp_path / "events.jsonl"
    with EventLog(log_place) as log, cluster(RECIPE.compute) as cpus:
        assert cpus == 2
        for name, inputs in (("good", {}), ("dies", {"deaths": 2})):
            out, marks = str(tmp_path / name), tmp_path / f"{name}-marks"
            marks.mkdir()
            entries = Scheduler(out, RECIPE, cpus, log).run("test", _units(marks, **inputs))
            assert sorted(entries) == ["0", "1"]
            for entry in Ledger(out).done("test").values():
                place = storage.join(out, "work", "test", entry.name, entry.attempt, "result")
                assert storage.read_text(place) == entry.name
        marks = tmp_path / "fails-marks"
        marks.mkdir()
        # As where a machine has come since.
        monkeypatch.setattr(scheduling, "_SIZE_SECONDS", 0.01)
        scheduler = Scheduler(str(tmp_path / "fails"), RECIPE, cpus - 1, log)
        with pytest.raises(WorkError, match="unit test/0 failed 3 times: no image at all"):
            scheduler.run("test", _units(marks, fails=True))
        assert len(list(marks.iterdir())) == 3
        assert scheduler.cpus == cpus
    crashes = [e for e in read_events(log_place) if e.get("nature") == "crash"]
    assert len(crashes) == 4


def test_a_cluster_that_is_not_there_is_a_wrong_request() -> None:
    with (
        pytest.raises(RequestError, match="ray_address"),
        cluster(Compute(ray_address="127.0.0.1:1")),
    ):
        pass


def test_of_two_attempts_one_counts(tmp_path: Path) -> None:
    unit = Unit("test", "0", {"a": 1})
    for tried in ("first", "second"):
        work = Work(str(tmp_path), RECIPE, unit, tried)
        storage.write_text(work.place("result"), tried)
    ledger = Ledger(str(tmp_path))
    assert ledger.commit(unit, "second", {"counts": {}}).attempt == "second"
    assert ledger.commit(unit, "first", {"counts": {}}).attempt == "second"
    assert [path.name for path in (tmp_path / "work" / "test" / "0").iterdir()] == ["second"]


def test_a_worker_that_outlives_its_driver_commits_nothing(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    child = subprocess.Popen(["sleep", "60"])
    driver = Driver(socket.gethostname(), child.pid)
    target = "tests.data_pipeline.test_faults:sleepy_or_deadly"
    unit = _units(marks, 1)[0]
    assert not driver.is_gone()
    child.kill()
    while not driver.is_gone():  # ended, though nobody has waited for it yet
        time.sleep(0.01)
    outcome = attempt(str(tmp_path / "out"), RECIPE, unit, target, driver)
    assert "driver" in outcome["error"]
    child.wait()
    assert driver.is_gone()
    assert Ledger(str(tmp_path / "out")).done("test") == {}
    outcome = attempt(str(tmp_path / "out"), RECIPE, unit, target, Driver.of_this_process())
    assert outcome["entry"].name == "0"

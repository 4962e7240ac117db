"""The launcher, an agent or a rank is killed with -9: nothing of that attempt lives on."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from launch import attempts, local, state
from launch.job import Job, Retry, Work
from launch.place import Place
from tests.cluster import hosts as networks
from tests.launch.watching import told, wait_until
from tests.pretrain import runs
from tests.pretrain.tiny_corpus import write
from trawl import chance

ROOT = Path(__file__).parents[2]
MARK = "TRAWL_TEST_OF_ORPHANS"
VICTIMS = {
    "launcher": b"\0launch.supervise\0",
    "agent": b"\0trawl\0pretrain\0run\0",
    "rank": b"\0-m\0pretrain\0run\0",
}
# Over ssh, this is the agent of a host.
NODE = b"\0launch.node\0"
# A host that is hung up on saves first, and may take its grace for that.
GRACE_SECONDS = 20.0


def marked(mark: str) -> dict[int, bytes]:
    """The processes with `mark` in their environment, with their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def job(recipe: Path, mark: str, **place: object) -> Job:
    where = {"python": sys.executable, "folder": str(ROOT), **place}
    where["setup"] = [f"export {MARK}={mark} OMP_NUM_THREADS=1"]
    return Job(
        name="a",
        run=Work(pretrain=str(recipe)),
        place=Place.model_validate(where),
        retry=Retry(bad_node=1000, bug=1000),
        grace_seconds=GRACE_SECONDS,
    )


def kill_one(asked: Job, folder: Path, mark: str, victim: str, wait: float) -> None:
    """Kill a victim of the running attempt, and see that nothing of the attempt lives on."""
    words = VICTIMS[victim]
    if victim == "agent" and asked.place.backend == "ssh":
        words = NODE

    def victims() -> list[int]:
        return sorted(pid for pid, line in marked(mark).items() if words in line)

    wait_until(lambda: len(victims()) > 0, folder)
    if wait > 4:  # half of them while it trains
        known = len(runs.lines(folder.parent / "run"))
        wait_until(lambda: len(runs.lines(folder.parent / "run")) not in (0, known), folder)
    time.sleep(wait % 4)
    number = attempts.newest(folder)
    there = marked(mark)
    found = victims() or [pid for pid, line in there.items() if VICTIMS["launcher"] in line]
    launcher = VICTIMS["launcher"] in there.get(found[-1], words)
    os.kill(found[-1], signal.SIGKILL)
    old = {pid for pid, line in there.items() if VICTIMS["launcher"] not in line}
    # A process id is not given again within this test.
    wait_until(lambda: not old & marked(mark).keys(), folder)
    if launcher:
        wait_until(lambda: not marked(mark), folder)
        assert state.state_of(folder).now == "lost"
    else:
        wait_until(lambda: attempts.newest(folder) > number, folder)


def kill_many(asked: Job, folder: Path, mark: str, order: list[str]) -> None:
    module = local  # ssh starts and stops its supervisor just so
    try:
        for number, victim in enumerate(order):
            if module.running(folder) is None:
                module.submit(asked, folder)
            draw = chance.generator("orphans", asked.place.backend, number)
            kill_one(asked, folder, mark, victim, float(draw.uniform(0, 8)) if number else 0.0)
    finally:
        module.stop(folder)
    wait_until(lambda: not marked(mark), folder)
    assert attempts.was_told(folder, "job-ended") or order[-1] == "launcher", told(folder)


def endless(folder: Path) -> Path:
    web = write(folder / "web", "web", 24)
    content = runs.recipe(web, web, str(folder / "run"))
    content["stages"][0]["steps"] = 10_000_000
    content["checkpoint"]["grace_seconds"] = GRACE_SECONDS
    content["guards"] = {"silent_seconds": 10.0}
    return runs.write_recipe(folder / "r.yaml", content)


def test_no_process_is_left_after_three_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"small-{os.getpid()}"
    monkeypatch.setenv(MARK, mark)
    asked = job(endless(tmp_path), mark)
    kill_many(asked, tmp_path / "job", mark, ["rank", "agent", "launcher"])


@pytest.mark.soak
@pytest.mark.parametrize("backend", ["local", "ssh"])
def test_no_process_is_left_after_twenty_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    mark = f"{backend}-{os.getpid()}"
    monkeypatch.setenv(MARK, mark)
    order = ["launcher", "agent", "rank"] * 6 + ["agent", "rank"]
    recipe = endless(tmp_path)
    if backend == "local":
        kill_many(job(recipe, mark, processes=2), tmp_path / "job", mark, order)
        return
    if lacking := networks.missing():
        pytest.skip(f"no {', '.join(lacking)} here")
    (tmp_path / "hosts").mkdir()
    with networks.hosts(tmp_path / "hosts") as two:
        ways = {"hosts": two.addresses, "options": two.options, "interface": "eth0"}
        asked = job(recipe, mark, backend="ssh", nodes=2, ssh=ways)
        kill_many(asked, tmp_path / "job", mark, order)

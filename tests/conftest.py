"""Fixtures that every test may use."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest in one piece: no process is left alone with it (xdist)."""

    def is_long(item: pytest.Item) -> bool:
        shared = {"small_demo", "undisturbed"} & set(getattr(item, "fixturenames", ()))
        return bool(shared) or item.path.parent.name == "docs"

    items.sort(key=lambda item: not is_long(item))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared test data beside this checkout")
    return folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server of {url} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"no server answers at {url}")


@pytest.fixture(scope="session")
def s3_settings() -> Iterator[dict[str, str]]:
    """The environment of a client of a real S3 server over HTTP with a bucket called `trawl`."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "trawl",
        "AWS_SECRET_ACCESS_KEY": "trawl-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        _wait_until_up(f"{settings['AWS_ENDPOINT_URL']}/moto-api/", process)
        put = urllib.request.Request(f"{settings['AWS_ENDPOINT_URL']}/trawl", method="PUT")
        with urllib.request.urlopen(put, timeout=30):
            pass
        yield settings
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def s3(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of the bucket of a running S3 server, with this process set up as its client."""
    from trawl.object_store import S3

    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    S3.clear_instance_cache()
    return "s3://trawl"

"""Real S3 servers for tests, each with one bucket: moto in a process, or Ceph's radosgw."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

from tests.cluster.ports import free_port

BUCKET = "trawl"
ACCESS, SECRET = "trawl", "trawl-secret"


@contextlib.contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in a process group of its own while the block lasts."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    process = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_up(url: str, process: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Wait until a server answers at `url`, whatever it says; RuntimeError if none does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server of {url} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"no server answers at {url}")


def settings_of(endpoint: str) -> dict[str, str]:
    """Return the environment of a client of the server at `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def make_bucket(endpoint: str) -> None:
    """Create the bucket, in a signed request as every server takes it."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)


@contextlib.contextmanager
def moto(address: str = "127.0.0.1") -> Iterator[str]:
    """Run moto's server at `address` while the block lasts and give its URL."""
    port = free_port()
    url = f"http://{address}:{port}"
    command = [sys.executable, "-m", "moto.server", "--host", address, "--port", str(port)]
    with running(command) as process:
        wait_until_up(f"{url}/moto-api/", process)
        make_bucket(url)
        yield url

"""Ray as this pipeline uses it: started quietly on this machine, or joined at an address."""

import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.ray_watch import watched
from data_pipeline.recipe import Compute
from trawl.errors import RequestError, WorkError
from trawl.fence import Fence

# Ray's sockets lie below its folder, and the path of a socket has at most 107 bytes.
_PREFIX = "trawl-ray-"
_STARTS = 6
_ANSWER_SECONDS = 10.0
OBJECT_STORE_BYTES = 100 << 20  # units exchange files; only their specifications go through Ray
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_metrics_collection": "0",
}


@contextlib.contextmanager
def cluster(compute: Compute, fence: Fence | None = None) -> Iterator[int]:
    """Have Ray running inside the block; yields the number of CPUs of the cluster.

    A local Ray dies with this process, even by kill -9 (its processes share our fate), and keeps
    its files in a temporary folder that the next start clears away. RequestError if no cluster
    answers at `compute.ray_address`. `fence`: the driver's right to write, which tells why Ray died
    where a newer attempt has begun.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in SETTINGS.items()})
    import ray

    if ray.is_initialized():  # a caller's own Ray, for example a notebook's: neither ours to stop
        yield cpus_of(ray)
        return
    folder = None
    try:
        if compute.ray_address is not None:
            _join(ray, compute.ray_address)
            yield cpus_of(ray)
        else:
            folder = _fresh_folder()
            _start(ray, compute, folder)
            with watched(folder, fence):
                yield cpus_of(ray)
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, compute: Compute, folder: Path) -> None:
    """Start Ray on this machine, without its dashboard, its log lines and its reports home."""
    # The workers must import what this process imports, also where it runs from a source tree.
    paths = [path for path in sys.path if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=compute.cpus or os.cpu_count() or 1,
                num_gpus=compute.gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
            )
            return
        except Exception as error:  # Ray raises plain Exception when its 30 seconds have passed
            ray.shutdown()
            if attempt == _STARTS:
                raise WorkError(
                    f"Ray did not start in {_STARTS} attempts ({error}); is the machine overloaded?"
                ) from error


def _join(ray: Any, address: str) -> None:
    """Join a running cluster; RequestError if there is none."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():  # Ray itself would try for minutes to reach a cluster that is not there
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        raise RequestError(
            f"compute.ray_address {address}: no Ray cluster answers ({error}); "
            "start one with `ray start --head`, or leave the key out"
        ) from error


def cpus_of(ray: Any) -> int:
    """Return the number of CPUs of the cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _fresh_folder() -> Path:
    """Return an empty folder for Ray's files, after clearing those of drivers that were killed."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > 30:
        parent = Path("/tmp")
    for old in parent.glob(f"{_PREFIX}*"):
        owner = old.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))

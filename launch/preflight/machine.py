"""What a machine has: versions of all that computes, GPUs, free space."""

import hashlib
import os
import platform
import re
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

from launch.preflight.report import Disk, Gpu
from trawl.errors import WorkError

_PACKAGES = ("trawl", "data_pipeline", "pretrain", "launch")
_QUERY = {
    "index": "index",
    "name": "name",
    "memory_mib": "memory.total",
    "used_mib": "memory.used",
    "ecc_errors": "ecc.errors.uncorrected.volatile.total",
    "clock_mhz": "clocks.max.sm",
}
_SLOWED = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")
# The newer name of the group, and the one that drivers before 535 know.
_GROUPS = ("clocks_event_reasons", "clocks_throttle_reasons")
_SECONDS = 60.0


def versions() -> dict[str, str]:
    """Return the versions of all that must be the same on every machine."""
    import torch

    found = {
        "python": platform.python_version(),
        "trawl's code": code_digest(),
        "CUDA": str(torch.version.cuda),
    }
    if torch.cuda.is_available():
        found["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
    said = _nvidia_smi("driver_version")
    if said:
        found["driver"] = said[0][0]
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        # The first on the path is the one that is imported.
        found.setdefault(name, distribution.version)
    return found


def code_digest() -> str:
    """Return a hash of Trawl's own code: a checkout changes without its version."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def gpus() -> list[Gpu]:
    """Return the GPUs that nvidia-smi knows, none where there is no nvidia-smi."""
    rows: list[list[str]] = []
    for group in _GROUPS:
        try:
            rows = _nvidia_smi(*_QUERY.values(), *(f"{group}.{reason}" for reason in _SLOWED))
            break
        except WorkError:
            if group == _GROUPS[-1]:
                raise
    found = []
    for row in rows:
        values = dict(zip([*_QUERY, *_SLOWED], row, strict=True))
        known = {key: values[key] for key in _QUERY if not values[key].startswith("[")}
        slowed = [reason for reason in _SLOWED if values[reason] == "Active"]
        found.append(Gpu.model_validate({**known, "slowed": slowed}))
    return found


def _nvidia_smi(*fields: str) -> list[list[str]]:
    """Return a row for each GPU; WorkError if nvidia-smi is there and fails."""
    words = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except FileNotFoundError:
        return []
    except subprocess.TimeoutExpired as error:
        raise WorkError(f"nvidia-smi did not answer within {_SECONDS:g} s") from error
    if done.returncode:
        said = (done.stdout.strip() or done.stderr.strip() or "no word").splitlines()[0]
        raise WorkError(f"nvidia-smi: {said}")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return [[value.strip() for value in line.split(",")] for line in lines]


def disks(folders: list[Path]) -> list[Disk]:
    """Return the free space of the disks of `folders`, of the caches and of shared memory."""
    cache = Path(os.environ.get("TRAWL_CACHE") or Path.home() / ".cache" / "trawl")
    found: dict[int, Disk] = {}
    for folder in [*folders, Path(tempfile.gettempdir()), cache]:
        there = existing(folder)
        known = os.statvfs(there)
        found.setdefault(
            there.stat().st_dev,
            Disk(path=str(folder), free_gb=known.f_bavail * known.f_frsize / 1e9),
        )
    memory = Path("/dev/shm")
    if memory.exists():
        known = os.statvfs(memory)
        free = known.f_bavail * known.f_frsize / 1e9
        found[-1] = Disk(path=str(memory), free_gb=free, shared_memory=True)
    return list(found.values())


def existing(folder: Path) -> Path:
    """Return `folder`, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())

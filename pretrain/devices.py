"""What the devices can do: their dense peak by name, and the memory that was used."""

import resource
import sys

import torch

# 10^12 operations a second without sparsity, from the makers' data sheets: bf16 on the matrix
# units, and fp32, which torch computes on the plain ones by default.
_PEAKS = {
    "B200": {"bf16": 2250.0, "fp32": 75.0},
    "H200": {"bf16": 989.0, "fp32": 67.0},
    "H100 PCIe": {"bf16": 756.0, "fp32": 51.0},
    "H100": {"bf16": 989.0, "fp32": 67.0},
    "A100": {"bf16": 312.0, "fp32": 19.5},
    "L40S": {"bf16": 362.0, "fp32": 91.6},
    "V100": {"fp32": 15.7},
}


def peak_tflops(name: str, precision: str) -> float | None:
    """Return the dense peak of the device called `name`, None where it is not known."""
    for known, peaks in _PEAKS.items():
        if all(word in name for word in known.split()):
            return peaks.get(precision)
    return None


_GIGABYTES = {"B200": 180.0, "H200": 141.0, "H100": 80.0, "A100": 80.0, "L40S": 48.0, "V100": 32.0}


def memory_gigabytes(name: str) -> float | None:
    """Return the memory of the device called `name`, at its largest; None if it is not known."""
    return next((size for known, size in _GIGABYTES.items() if known in name), None)


def name_of(device: torch.device) -> str:
    """Return the name of `device`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def peak_memory(device: torch.device) -> int:
    """Return the most bytes used so far: of the GPU by tensors, without one by the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

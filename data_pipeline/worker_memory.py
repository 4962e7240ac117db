"""The memory of a worker: what a unit no longer needs goes back, and each unit has its own peak.

A worker does thousands of units. Allocators keep what they were given back for whoever comes next,
and what arrow, numpy and Python keep adds up: without this a worker's memory would be the sum of
the worst of them, whatever the units need.
"""

import contextlib
import ctypes
import resource
from pathlib import Path

import pyarrow as pa

_RESET_PEAK = b"5"  # proc(5), clear_refs


def give_back() -> None:
    """Return to the machine what no object of this process uses, where its C library can."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def forget_peak() -> None:
    """Let the peak begin anew, where the kernel can do that; else it is the whole process's."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_bytes(_RESET_PEAK)


def peak_mib() -> int:
    """Return the most memory that this process had since the peak was forgotten, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

"""The exit codes of a training process, and the errors that carry them.

The numbers follow sysexits.h where it has one, so that they collide with neither a shell's codes
(126 and up) nor with a signal's. `docs/exit-codes.md` says what a launcher does about each.
"""

import errno
from enum import IntEnum

from trawl.errors import TrawlError, WorkError

# The disk is full or over quota, cannot be written any more, or fails.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class ExitCode(IntEnum):
    """Why a training process ended."""

    DONE = 0
    FAILURE = 1
    USER_ERROR = 2
    DATA_ERROR = 65
    BAD_NODE = 71
    STALE = 73
    PREEMPTED = 75
    NUMERICS = 79


# When the ranks of one run end differently, the first of these that any rank has is the run's.
BLAME = (
    ExitCode.STALE,
    ExitCode.NUMERICS,
    ExitCode.DATA_ERROR,
    ExitCode.USER_ERROR,
    ExitCode.BAD_NODE,
    ExitCode.FAILURE,
    ExitCode.PREEMPTED,
    ExitCode.DONE,
)


class PreemptionError(TrawlError):
    """The run was told to stop, saved what it had, and wants to be started again."""

    exit_code = ExitCode.PREEMPTED


class DataError(WorkError):
    """A shard or a sample could not be read. Names it."""

    exit_code = ExitCode.DATA_ERROR


class NumericsError(WorkError):
    """A loss or a gradient is not finite. Names the stage, the step and the samples."""

    exit_code = ExitCode.NUMERICS


class NodeError(WorkError):
    """The machine is at fault: a device that fails or a disk that is full. Names it."""

    exit_code = ExitCode.BAD_NODE


def disk_fault(error: BaseException) -> OSError | None:
    """Return the fault of a disk that `error` is or was raised for, None if it has another cause.

    What a disk's fault keeps from being written says so in an error of its own, as trawl.storage's.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause if isinstance(cause, OSError) and cause.errno in DISK_FAULTS else None


def worst(codes: list[int]) -> int:
    """Return the code of a run whose ranks ended with `codes`; an unknown code is a failure."""
    known = {ExitCode(code) if code in set(ExitCode) else ExitCode.FAILURE for code in codes}
    return int(next((code for code in BLAME if code in known), ExitCode.FAILURE))

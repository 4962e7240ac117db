"""How a run ends: what its error means in the contract of exit codes, or at once, with a word."""

import logging
import os

from pretrain.exit_codes import ExitCode, NodeError, PreemptionError, disk_fault
from pretrain.local_launch import Ending, endings_are_read, leave_ending
from pretrain.run_folder import RunFolder
from trawl.errors import StaleError, TrawlError, WorkError
from trawl.events import EventLog

_LOG = logging.getLogger("pretrain")


def meaning(error: Exception, folder: RunFolder, stopped: bool) -> Exception:
    """Return what `error` means for the run at `folder`: itself, or what lies behind it.

    A fault of the disk is the machine's, whoever met it; and once the run was told to stop, what
    fails for want of ranks that left already is no fault. Whatever failed beside a newer attempt
    failed for that.
    """
    try:
        folder.check()
    except StaleError as stale:
        return stale
    except Exception:  # the store may be what is at fault
        _LOG.exception("whether a newer attempt has begun is not known")
    fault = disk_fault(error)
    if fault is error:
        return NodeError(f"{fault.filename or folder.local}: {fault.strerror}; make room there")
    if fault is not None and type(error) is WorkError:
        return NodeError(f"{error}; make room there")
    if isinstance(error, TrawlError) or not stopped:
        return error
    _LOG.exception("after the signal to stop")
    return PreemptionError(
        "told to stop, and the other ranks left first; the run goes on from the last checkpoint"
    )


def leave_at_once(folder: RunFolder, stderr: int, reason: str) -> None:
    """End this process as preempted, whatever its main thread does.

    stderr: a descriptor of our own, from the start of the process. The main thread may have sent
    its own elsewhere for a moment, as DeepSpeed does while it tries compilers.
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        leave_ending(rank, Ending(ExitCode.PREEMPTED, reason))
        if rank == 0 and not endings_are_read():
            os.write(stderr, f"trawl: {reason}\n".encode())
        if rank == 0 and folder.events.parent.exists():
            with EventLog(folder.events, folder.fence) as log:
                log.write("run-stopped", code=int(ExitCode.PREEMPTED), message=reason)
    finally:
        os._exit(ExitCode.PREEMPTED)

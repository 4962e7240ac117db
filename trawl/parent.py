"""Processes that must not outlive the one that started them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, Any

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies, however that dies.

    parent: the process that has to be the parent; if another is by now, this one dies at once.
    Linux alone can do it; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def start(
    words: Sequence[str], output: int | IO[Any], environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a process, in a group of its own, that dies with this one.

    output: where all goes that it prints. environment: variables beside those of this process.
    """
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
        preexec_fn=partial(die_with_parent, os.getpid()),
    )

"""How the driver of a Ray job ended, and patience with those who tell of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from launch.attempts import NodeEnding
from pretrain.exit_codes import ExitCode
from trawl.errors import RequestError, WorkError

T = TypeVar("T")

POLL_SECONDS = 1.0


def ending_of(
    host: str, status: str, code: int | None, told: str, log: Path, *, stopped: bool
) -> NodeEnding:
    """Return the ending of a driver: without an exit code it was lost, or stopped.

    status: Ray's word for how the job is. told: Ray's own message, where `log` has none of ours.
    """
    if status == "SUCCEEDED":
        code = 0
    elif code is None or code < 0 or code > 128:
        code = ExitCode.PREEMPTED if stopped else ExitCode.BAD_NODE
    lines = log.read_text(encoding="utf-8").strip().splitlines() if log.exists() else []
    said = next((line for line in reversed(lines) if "trawl: " in line), "")
    said = said or (told.strip().splitlines() or [status])[0]
    return NodeEnding(0, host, int(code), said[:1000])


def patiently(question: Callable[[], T], who: str, seconds: float) -> T:
    """Return the answer to `question`, asked again for so long; WorkError if there is none.

    A RequestError is an answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return question()
        except RequestError:
            raise
        except Exception as error:  # of requests, of kubectl, or RuntimeError with a server's text
            if time.monotonic() > deadline:
                said = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise WorkError(f"{who} does not answer ({said})") from error
            time.sleep(POLL_SECONDS)

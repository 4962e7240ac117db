"""Ways in which a fetch fails, each with a reason code and what may be done about it."""

import asyncio
import socket
from dataclasses import dataclass

from data_pipeline.crawl.body import BodyError
from data_pipeline.crawl.guard import RefusedError

_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_LASTING_LOOKUPS = (socket.EAI_NONAME, socket.EAI_FAIL, getattr(socket, "EAI_NODATA", -5))


class TransferError(OSError):
    """A transfer of libcurl that failed; `lasting`: it would fail in the same way at once again."""

    def __init__(self, detail: str, lasting: bool) -> None:
        super().__init__(detail)
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing.

    `transient`: the same fetch may succeed on another day. `retry`: it may succeed in a moment;
    never so for a timeout, which has cost its full share of time already.
    """

    reason: str
    detail: str
    transient: bool = False
    retry: bool = False


def failure_of_status(status: int) -> Failure:
    """Return the failure that an HTTP status outside 2xx is."""
    passing = status in _PASSING_STATUS
    return Failure("http-error", str(status), passing, passing)


def failure_of(error: BaseException, answered: bool) -> Failure:
    """Return the failure behind an exception; `answered` says that headers had come already."""
    for cause in _causes(error):
        if isinstance(cause, RefusedError | BodyError):
            cut = cause.reason == "truncated"
            return Failure(cause.reason, cause.detail, cut, cut)
        if isinstance(cause, socket.gaierror):
            lasting = cause.errno in _LASTING_LOOKUPS
            return Failure("connection", f"dns: {cause.strerror}", True, not lasting)
    detail = f"{type(error).__name__}: {error}"[:200]
    if isinstance(error, asyncio.TimeoutError):
        return Failure("timeout", "the deadline passed", True)
    if isinstance(error, TransferError) and error.lasting:
        return Failure("connection", detail, True)
    if isinstance(error, OSError):
        return Failure("truncated" if answered else "connection", detail, True, True)
    return Failure("connection", f"unexpected {detail}", True)


def _causes(error: BaseException) -> list[BaseException]:
    """Return `error` and what it was raised from, down to the first of all."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain and len(chain) < 10:
        chain.append(following)
        following = following.__cause__
    return chain

"""Fencing: of two attempts at the same work the older one writes no more, should it come back.

    PLACE/attempts/00000001.json     who began there first, and so on

A number is created once, on the condition that there is none of it, which local disks and every S3
server keep; the newest number holds the place, and an older one finds that out before it commits.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass

from trawl import storage
from trawl.errors import RequestError, StaleError

FOLDER = "attempts"
_DIGITS = 8


@dataclass(frozen=True)
class Attempt:
    """An attempt as its launcher numbers it: JOB:NUMBER, where JOB is the same for all of a job."""

    job: str
    number: int

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """Read JOB:NUMBER; RequestError if it is not that."""
        job, _, number = text.rpartition(":")
        if not job or not number.isdigit():
            raise RequestError(f"--attempt {text}: give JOB:NUMBER, as launchers do")
        return cls(job, int(number))


@dataclass(frozen=True)
class Claim:
    """One beginning at a place."""

    number: int
    job: str | None
    attempt: int
    worker: str
    time: float


@dataclass(frozen=True)
class Fence:
    """The right to write at `place`, which ends when a newer attempt begins there."""

    place: str
    number: int

    @property
    def stands(self) -> bool:
        """Whether no newer attempt has begun."""
        return not storage.exists(_file(self.place, self.number + 1))

    def check(self) -> None:
        """Raise StaleError if a newer attempt has begun; called before each commit."""
        if not self.stands:
            newer = Claim(**storage.read_json(_file(self.place, self.number + 1)))
            raise StaleError(
                f"{self.place}: a newer attempt is at work there ({newer.worker}); this one, "
                f"number {self.number}, writes no more"
            )


def takes_over(place: str, attempt: Attempt | None) -> bool:
    """Say whether `attempt` follows one of the same job; StaleError if a newer one has begun."""
    last = newest(place)
    if attempt is None or last is None or last.job != attempt.job:
        return False
    if last.attempt > attempt.number:
        raise StaleError(
            f"{place}: attempt {last.attempt} of the job has begun there ({last.worker}); this "
            f"one, attempt {attempt.number}, is over"
        )
    return True


def claim(place: str, attempt: Attempt | None = None) -> Fence:
    """Begin at `place`: from now on older attempts write no more there.

    Raises StaleError if a newer attempt of the same job has begun.
    """
    while True:
        takes_over(place, attempt)
        last = newest(place)
        mine = Claim(
            number=last.number + 1 if last else 1,
            job=attempt.job if attempt else None,
            attempt=attempt.number if attempt else 0,
            worker=f"{socket.gethostname()}/{os.getpid()}",
            time=round(time.time(), 3),
        )
        content = (json.dumps(asdict(mine)) + "\n").encode()
        if storage.create_exclusive(_file(place, mine.number), content):
            return Fence(place, mine.number)


def newest(place: str) -> Claim | None:
    """Return the newest claim of `place`, None if nobody has begun there."""
    files = storage.list_files(storage.join(place, FOLDER))
    return Claim(**storage.read_json(files[-1])) if files else None


def _file(place: str, number: int) -> str:
    return storage.join(place, FOLDER, f"{number:0{_DIGITS}d}.json")

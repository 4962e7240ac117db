"""One task of a job array: it leads the build if nobody does, and else lends it its machine.

    python -m launch.array FOLDER --task 3 --host ADDRESS

FOLDER is the job's, which the machines share. Whoever begins an attempt leads it: its machine is
the head of a Ray cluster, as number 0, and runs the build; task K that joins is number K + 1. When
the leader ends or falls silent, another task leads the next attempt, which goes on from the ledger.
"""

import argparse
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from launch import attempts
from launch.command import Part
from launch.meeting import free_port
from launch.node import NodeWork
from launch.progress import progress_of
from pretrain.exit_codes import ExitCode

_LOOK_SECONDS = 2.0
# So long a leader may give no sign of life, of which there is one every ten seconds.
_SILENT_SECONDS = 120.0
# So many times in a row the port of a leader that once answered is closed, if it has died.
_REFUSALS = 3


class Leader:
    """The task that leads an attempt, as another sees it."""

    def __init__(self, folder: Path, number: int) -> None:
        told = attempts.beginning(folder, number)
        self.host, self.port = str(told["host"]), int(told["port"])
        self._folder, self._number = folder, number
        self._looked_at = -_LOOK_SECONDS
        self._heard_at = time.monotonic()
        self._beat = 0
        self._answered, self._refusals = False, 0
        self._over = False

    def is_over(self) -> bool:
        """Say whether it has ended, is gone, or was followed by another."""
        now = time.monotonic()
        if not self._over and now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._over = self._has_ended() or self._is_gone(now)
        return self._over

    def _has_ended(self) -> bool:
        ended = attempts.ending_of(self._folder, self._number, 0).exists()
        return ended or attempts.newest(self._folder) > self._number

    def _is_gone(self, now: float) -> bool:
        beat = _changed(attempts.beat_of(self._folder, self._number, 0))
        if beat != self._beat:
            self._beat, self._heard_at = beat, now
        try:
            socket.create_connection((self.host, self.port), _LOOK_SECONDS).close()
            self._answered, self._refusals = True, 0
        except ConnectionRefusedError:
            self._refusals += self._answered
        except OSError:
            pass  # it may be cut off for a moment: its silence decides
        return self._refusals >= _REFUSALS or now - self._heard_at > _SILENT_SECONDS


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


class ArrayTask:
    """Takes part in attempts, until the job is over or this task has to end."""

    def __init__(self, folder: Path, task: int, host: str) -> None:
        self.job, self.folder, self.task, self.host = attempts.job_of(folder), folder, task, host
        self._stopped = False
        self._work: NodeWork | None = None
        self._over = 0  # the newest attempt whose leader is known to be over

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Tell the part to end; may be bound as a signal handler."""
        self._stopped = True
        if self._work is not None:
            self._work.stop()

    def run(self) -> int:
        """Return the exit code: of the attempt that ended the job, if this task led it."""
        code: int = ExitCode.DONE
        while not self._stopped:
            if any(attempts.was_told(self.folder, kind) for kind in ("job-ended", "stop-asked")):
                return code
            number = attempts.newest(self.folder)
            if self._is_led(number):
                code = self._lend(number)
                if code != ExitCode.DONE:
                    return code
                self._over = number
            else:
                code = self._lead(number + 1)
                if code == ExitCode.BAD_NODE:
                    return code  # on another machine it may do better, and another task leads
        return ExitCode.PREEMPTED

    def _is_led(self, number: int) -> bool:
        if number <= self._over:
            return False
        if not attempts.beginning(self.folder, number):
            time.sleep(_LOOK_SECONDS)  # for whoever begins it to say where it is
        open_ones = [each.number for each in attempts.history(self.folder) if each.cause is None]
        return number in open_ones

    def _lend(self, number: int) -> int:
        """Be a machine of attempt `number` until its leader is done with it."""
        leader = Leader(self.folder, number)
        return self._do(leader.port, self._part(number, self.task + 1, leader.host), leader)

    def _lead(self, number: int) -> int:
        """Begin attempt `number`, unless another has, and run the build."""
        port = free_port(self.job.place.port)  # of several tasks on a machine each may lead a job
        meet = {"host": self.host, "port": port, "task": self.task}
        if not attempts.begin(self.folder, number, progress_of(self.job), **meet):
            return ExitCode.DONE
        self._do(port, self._part(number, 0, self.host))
        code = attempts.code_told(self.folder, number, 1)
        stopped = attempts.was_told(self.folder, "stop-asked")
        attempts.end(self.folder, number, code, progress_of(self.job), stopped=stopped)
        return code

    def _part(self, number: int, node: int, first: str) -> Part:
        identity = attempts.identity(self.folder)
        return Part(number, self.job.place.nodes, node, first, identity)

    def _do(self, port: int, part: Part, leader: Leader | None = None) -> int:
        place = self.job.place.model_copy(update={"port": port})
        job = self.job.model_copy(update={"place": place})
        self._work = NodeWork(job, self.folder, part, leader.is_over if leader else None)
        if self._stopped:
            self._work.stop()
        return self._work.run().code


def main(arguments: list[str] | None = None) -> int:
    """Do the task that the command line names; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.array", description=__doc__)
    parser.add_argument("folder", type=Path, help="the job's folder")
    parser.add_argument("--task", type=int, required=True)
    parser.add_argument("--host", required=True, help="where the others reach this machine")
    asked = parser.parse_args(arguments)
    task = ArrayTask(asked.folder, asked.task, asked.host)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, task.stop)
    code = task.run()
    return ExitCode.BAD_NODE if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())

"""The wish to stop: what a signal leads to in each phase of a run.

While a stage trains, all ranks agree between two steps, save, and end. In all other phases (start,
compilation, evaluation, publishing) nothing would be lost, so each rank ends at once, whatever its
main thread is in. And whatever it waits for, no rank outlives its grace.
"""

import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

# Kept of the grace for the end itself.
_MARGIN = 0.1
_MOST_MARGIN_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Remembers that SIGTERM or SIGINT came; a second one ends the process as it would have.

    `leave` is called in another thread, with the reason, to end the process.
    """

    def __init__(self, leave: Callable[[str], None], grace_seconds: float = 600.0) -> None:
        self.came = False
        self.training = False
        """Whether steps may have been taken since the last checkpoint was begun."""
        self._leave = leave
        self._grace = grace_seconds
        self._over = threading.Event()
        self._at = 0.0
        # Python runs a handler when the main thread comes back to it, and one that waits for a rank
        # that is gone never does. Of this the thread below hears at once.
        self._bell, rung = socket.socketpair()
        for end in (self._bell, rung):
            end.setblocking(False)
        self._rung = rung
        self._rung_before = signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
        # All known before the first is replaced: a signal may come between the two.
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            signal.signal(number, self._note)
        self._thread = threading.Thread(target=self._watch, name="stop-signal", daemon=True)
        self._thread.start()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._has_come()
        signal.signal(number, self._before[signal.Signals(number)])

    def _has_come(self) -> None:
        if not self.came:
            self.came, self._at = True, time.monotonic()

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            if not set(_SIGNALS).isdisjoint(self._bell.recv(64)):
                self._has_come()

    def close(self) -> None:
        """Call nobody any more: the run has come to its own end."""
        self._over.set()
        self._thread.join()
        signal.set_wakeup_fd(self._rung_before)
        self._bell.close()
        self._rung.close()

    @property
    def usable_seconds(self) -> float:
        """Seconds from the signal in which the work must be done."""
        return self._grace - min(_MOST_MARGIN_SECONDS, _MARGIN * self._grace)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._listen()
            if not self.came:
                continue
            if not self.training:
                return self._leave("told to stop; nothing was unsaved")
            if time.monotonic() - self._at > self.usable_seconds:
                return self._leave(
                    f"told to stop, and {self.usable_seconds:g} s were not enough to end the step "
                    "and save it; the run goes on from the checkpoint before"
                )
        return None


class Budget:
    """Whether a step and a checkpoint, as measured, fit into the grace; says so once if not."""

    def __init__(self, usable_seconds: float, say: Callable[[str], None]) -> None:
        self._usable, self._say = usable_seconds, say
        self._step = 0.0
        self._told = False

    def step(self, seconds: float) -> None:
        """Take in how long a step took; long ones count for more than short ones."""
        self._step = max(seconds, 0.9 * self._step)

    def saved(self, seconds: float) -> None:
        """Take in how long a checkpoint took, from its snapshot to its last byte."""
        if self._told or self._step + seconds <= self._usable:
            return
        self._told = True
        self._say(
            f"a step takes {self._step:.1f} s and a checkpoint {seconds:.1f} s, more than the "
            f"{self._usable:.0f} s that checkpoint.grace_seconds leaves after a SIGTERM: the steps "
            "since the last checkpoint would be lost; raise it, or lower checkpoint.every_steps"
        )

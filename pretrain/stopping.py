"""The wish to stop: a signal sets a flag that the training loop looks at between two steps."""

import signal
from types import FrameType


class StopSignal:
    """Remembers that SIGTERM or SIGINT came; a second one ends the process as it would have."""

    def __init__(self) -> None:
        self.came = False
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(number, self._before[signal.Signals(number)])

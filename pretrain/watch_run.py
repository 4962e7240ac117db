"""The watchdog of a whole run: what a rank does when it gives up for another one's sake."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pretrain.exit_codes import ExitCode
from pretrain.local_launch import Ending, endings_are_read, leave_ending
from pretrain.ranks import Ranks
from pretrain.run_folder import RunFolder
from pretrain.watchdog import Beat, Watchdog, end_process, is_sibling
from trawl.events import EventLog


@contextmanager
def watching(folder: RunFolder, ranks: Ranks, silent_seconds: float) -> Iterator[Watchdog]:
    """Watch this run's ranks; when one hangs, each of the others ends with the code "bad node"."""

    def give_up(cause: str, silent: list[Beat], speaks: bool) -> None:
        ending = Ending(ExitCode.BAD_NODE, cause)
        if speaks:
            with EventLog(folder.events, folder.fence) as log:
                log.write("run-stopped", code=ending.code, message=cause)
            if not endings_are_read():
                print(f"trawl: {cause}", file=sys.stderr, flush=True)
        leave_ending(ranks.rank, ending)
        for beat in filter(is_sibling, silent):
            # In its name first: a process that is killed leaves no word.
            leave_ending(beat.rank, ending)
            end_process(beat)
        # The main thread is in a call that does not return, so no exception reaches it.
        os._exit(ending.code)

    watchdog = Watchdog(ranks, silent_seconds, folder.logs(ranks.rank), give_up)
    try:
        yield watchdog
    finally:
        watchdog.close()

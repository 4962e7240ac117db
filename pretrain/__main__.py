"""One rank of a run: `torchrun ... -m pretrain run RECIPE`, as `trawl pretrain run` starts it."""

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from pretrain.exit_codes import ExitCode
from pretrain.local_launch import LOST, Ending, endings_are_read, leave_ending
from pretrain.ranks import die_with_launcher
from trawl.errors import TrawlError
from trawl.fence import Attempt


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of one rank; they are those of `trawl pretrain run`."""
    parser = argparse.ArgumentParser(prog="python -m pretrain", description=__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("recipe", help="the recipe's file, or the name of a shipped one")
    parser.add_argument("--stage", help="run this stage alone")
    parser.add_argument("--resume", default="auto", help="auto, never, or a checkpoint's folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, help="local folder for runs in an object store")
    parser.add_argument("--attempt", metavar="JOB:N", help="which attempt this is, for launchers")
    # DeepSpeed's launcher says the rank in the environment and, besides, so.
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one rank and return its exit code; an error becomes one line for the launcher."""
    options = parse(arguments)
    die_with_launcher()
    rank = int(os.environ.get("RANK", "0"))
    try:
        from pretrain import stages
        from pretrain.recipe import locate

        stages.run(
            stages.Options(
                locate(options.recipe),
                options.stage,
                options.resume,
                options.set,
                options.work,
                Attempt.parse(options.attempt) if options.attempt else None,
            )
        )
        ending = Ending(ExitCode.DONE)
    except TrawlError as error:
        logging.getLogger("pretrain").error("%s", traceback.format_exc())
        ending = Ending(int(error.exit_code), str(error))
    except Exception as error:
        logging.getLogger("pretrain").error("%s", traceback.format_exc())
        ending = unforeseen(rank, error)
    leave_ending(rank, ending)
    if ending.message and not endings_are_read():
        print(f"trawl: {ending.message}", file=sys.stderr, flush=True)
    if ending.code == ExitCode.PREEMPTED:
        # Python would wait for its threads, and one of them may hang in a read.
        os._exit(ending.code)
    return ending.code


# What gloo and NCCL say when a rank that they talk to is gone.
_GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


def unforeseen(rank: int, error: Exception) -> Ending:
    """Return the ending of a rank that `error` ended, which no part of ours had put into words."""
    if any(words in str(error) for words in _GONE):
        # The one that is gone has left its own word, or its exit code tells.
        return Ending(ExitCode.FAILURE, f"rank {rank} {LOST}; see what became of that")
    return Ending(
        ExitCode.FAILURE,
        f"rank {rank}: a fault of Trawl itself ({type(error).__name__}: {error}); "
        "the traceback is in the run's logs",
    )


if __name__ == "__main__":
    sys.exit(main())

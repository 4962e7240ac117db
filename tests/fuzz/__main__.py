"""Spoil inputs for a while and let them in: nothing may get out, hang, or take the memory.

    python -m tests.fuzz [--seconds 600] [--seed N] [html] [warc] [image]

Ends with 1 if anything was found.
"""

import argparse
import sys
import time

from tests.fuzz.entrances import ENTRANCES
from tests.fuzz.running import watched


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("entrances", nargs="*", choices=[*ENTRANCES, []], help="all by default")
    parser.add_argument("--seconds", type=float, default=600, help="time for each entrance")
    parser.add_argument("--seed", type=int, help="where to begin; another one every day")
    options = parser.parse_args()
    seed = int(time.time()) // 86_400 * 1_000_000 if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:.0f} s for each entrance")
    results = [watched(name, options.seconds, seed) for name in options.entrances or ENTRANCES]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

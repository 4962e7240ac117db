"""A small web of the demo's kind, planned and written once for all tests that look at it."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from trawl.demo.truth import Row, read_truth
from trawl.demo.web import Web, plan_web, write_web

SEED, SCENES, SITES = 0, 60, 32


@cache
def small_plan() -> Web:
    """The plan of the small web."""
    return plan_web(SEED, SCENES, SITES)


@cache
def small_web() -> Path:
    """The folder of the small web; it is gone when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="trawl-small-web-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_web(folder / "web", SEED, SCENES, SITES, workers=2)
    return folder / "web"


@cache
def small_truth() -> list[Row]:
    """The truth about the small web."""
    return read_truth(small_web())

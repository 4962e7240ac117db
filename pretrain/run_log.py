"""The log of one rank: RUN/logs/RANK.log takes what DeepSpeed and torch print, and ours."""

import logging
import os
import sys
from pathlib import Path

from transformers.utils import logging as transformers_logging


def open_log(path: Path) -> None:
    """Send stdout, warnings and our own log lines of this process to `path`.

    stderr stays where it is, for progress and for a crash of the interpreter itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.stdout.flush()
    # On the file descriptor, since gloo and DeepSpeed's C++ parts print past Python.
    os.dup2(file, 1)
    os.close(file)
    # A disk that is full ends the run in one line; that its log is lost too needs no traceback.
    logging.raiseExceptions = False
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.captureWarnings(True)
    # Its bars would stand between ours on the terminal.
    transformers_logging.disable_progress_bar()
    for name in ("pretrain", "py.warnings"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False

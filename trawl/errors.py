"""The ways in which work ends badly, and the exit code of each."""


class TrawlError(Exception):
    """Base of every error that is shown to the user as one line, without a traceback."""

    exit_code = 1


class RequestError(TrawlError):
    """The request was wrong: bad recipe, missing file, unknown key. Names file, key and fix."""

    exit_code = 2


class WorkError(TrawlError):
    """The request was right and the work failed. Names the unit, file or sample."""

    exit_code = 1


class StaleError(TrawlError):
    """A newer attempt at the same work has begun; this one writes no more, and is not repeated."""

    exit_code = 73

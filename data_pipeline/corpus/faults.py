"""What is said of a shard that cannot be trained on, and where it lies."""

from trawl.errors import WorkError


class BadShardError(WorkError):
    """A shard that is missing or not what the manifest says: a verdict, never a passing trouble.

    Whoever reads the same corpus comes to the same verdict, so a reader may pass such a shard over
    (`Reading.bad_shards`) and still see the same samples on every rank and on every restart.
    """

    def __init__(self, place: str, fault: str) -> None:
        super().__init__(
            f"{place}: {fault}; run `trawl corpus verify`, bring the file back, or set "
            "feeding.bad_shards to skip"
        )
        self.place = place
        self.fault = fault

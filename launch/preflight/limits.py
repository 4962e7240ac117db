"""What preflight asks of a machine: the part `preflight` of a job file."""

from pydantic import Field

from trawl.recipe import Recipe


class Preflight(Recipe):
    """Bounds beyond which a machine is unfit."""

    clock_seconds: float = Field(default=1.0, gt=0)
    """By so much its clock may differ from the others'."""
    disk_gb: float = Field(default=5.0, ge=0)
    """Free on every disk that the work writes to."""
    shm_gb: float = Field(default=1.0, ge=0)
    """Free in /dev/shm, where processes hand each other batches."""
    slow_share: float = Field(default=0.5, gt=0, lt=1)
    """A link below this share of the median link is slow."""
    gbit_per_second: float = Field(default=0.0, ge=0)
    """A link below this is slow whatever the others do."""
    partners: int = Field(default=16, ge=1)
    """With so many others each machine measures its link; all, if there are no more."""
    patience_seconds: float = Field(default=60.0, gt=0)
    """A machine, a store or a link that takes longer to answer does not work."""

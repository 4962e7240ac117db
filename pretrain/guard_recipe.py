"""What a recipe says of the guards: when a step is bad, and what is done about it."""

from pydantic import Field

from trawl.recipe import Recipe


class SpikeRecipe(Recipe):
    """When a loss or a gradient norm is a spike: far above the median of the last good steps.

    The distance is counted in robust deviations, 1.4826 times the median absolute deviation, which
    is the standard deviation of a normal distribution and which single spikes do not move.
    """

    deviations: float = Field(default=20.0, gt=0)
    """Robust deviations above the median from which a value is a spike."""
    window: int = Field(default=200, ge=8)
    """Good steps that the median is taken over."""
    least_steps: int = Field(default=50, ge=8)
    """Good steps that must be known before any value is called a spike."""


class GuardRecipe(Recipe):
    """What is done about bad steps: those whose loss or gradient is not finite, or a spike.

    No hash of a stage covers these keys: they say how a run goes on, and may change between two
    starts of it. What was skipped stands in the run's events and in the release's manifest.
    """

    spike: SpikeRecipe | None = None
    """When to call a value a spike; nothing: only what is not finite is bad."""
    skips: int = Field(default=3, ge=0)
    """Bad steps among the last hundred that are passed over without an update. One more, and the
    run goes back to the last checkpoint and trains past the samples of all of them."""
    rollbacks: int = Field(default=2, ge=0)
    """Times that a stage may go back; after them a run ends with the code "numerics"."""
    hang_seconds: float = Field(default=1800.0, gt=0)
    """A rank that makes no progress in training for this long ends the run."""
    silent_seconds: float = Field(default=120.0, ge=1)
    """A rank that gives no sign of life for this long (stopped, its machine gone) ends the run."""

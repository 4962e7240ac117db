"""The job file: what to run, where, and what to do about each way in which it can end."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trawl.recipe import Recipe


class Work(Recipe):
    """What to run; exactly one key, naming a recipe's file or a recipe that ships."""

    pretrain: str | None = None
    """A pretraining."""
    corpus: str | None = None
    """A corpus build."""
    changes: list[str] = []
    """Changes to the recipe, as `KEY=VALUE`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.pretrain is None) == (self.corpus is None):
            raise ValueError("give exactly one of pretrain and corpus")
        return self


class Place(Recipe):
    """Where to run it."""

    backend: Literal["local"] = "local"
    """The kind of place: this machine."""
    processes: int = Field(default=1, ge=1)
    """Ranks of a pretraining."""


class Retry(Recipe):
    """How often to start again, by the way in which an attempt ended (docs/exit-codes.md)."""

    preempted: int | Literal["unlimited"] = "unlimited"
    """After it was told to stop and saved."""
    bad_node: int = Field(default=5, ge=0)
    """After a fault of the machine, or a kill from outside."""
    bug: int = Field(default=0, ge=0)
    """After any other failure. A wrong request is never tried again."""


class Job(Recipe):
    """One job."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name; it names the folder that holds its state."""
    run: Work
    on: Place = Place()
    retry: Retry = Retry()
    grace_seconds: float = Field(default=60.0, ge=0)
    """How long an attempt may take to save and end once it is told to stop."""

"""The job file: what to run, where, and what to do about each way in which it can end."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from launch.place import Place
from launch.preflight.limits import Preflight
from trawl.recipe import Recipe

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


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


class Retry(Recipe):
    """How often to start again, by the way in which an attempt ended (docs/exit-codes.md).

    An attempt that got further than the ones before it is not counted.
    """

    preempted: int | Literal["unlimited"] = "unlimited"
    """After it was told to stop and saved."""
    bad_node: int = Field(default=5, ge=0)
    """After a fault of the machine, or a kill from outside."""
    bug: int = Field(default=0, ge=0)
    """After any other failure. A wrong request is never tried again."""


class Secret(Recipe):
    """A value that the work finds in its environment, by reference: no file of ours holds it."""

    variable: str
    """Name of the environment variable."""
    file: str | None = None
    """File on each machine whose content it is (local, ssh, slurm)."""
    kubernetes: str | None = None
    """`SECRET/KEY` of the namespace (kubernetes, ray)."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if not _VARIABLE.match(self.variable):
            raise ValueError(f"variable {self.variable!r} is no name of an environment variable")
        if (self.file is None) == (self.kubernetes is None):
            raise ValueError("give exactly one of file and kubernetes")
        if self.kubernetes is not None and len(self.kubernetes.split("/")) != 2:
            raise ValueError(f"kubernetes {self.kubernetes!r}: give SECRET/KEY")
        return self


class Job(Recipe):
    """One job."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Its name; it names the folder that holds its state."""
    run: Work
    place: Place = Place()
    retry: Retry = Retry()
    preflight: Preflight = Preflight()
    secrets: list[Secret] = []
    grace_seconds: float = Field(default=60.0, ge=0)
    """How long an attempt may take to save and end once it is told to stop."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.place.is_array and self.run.corpus is None:
            raise ValueError(
                "place.slurm.array: is for corpus builds; the ranks of a pretraining begin together"
            )
        return self

    @model_validator(mode="after")
    def _secrets_can_be_reached(self) -> Self:
        in_pods = self.place.backend in ("kubernetes", "ray")
        for secret in self.secrets:
            if in_pods and secret.kubernetes is None:
                raise ValueError(
                    f"secrets: {secret.variable}: {self.place.backend} takes kubernetes:"
                )
            if not in_pods and secret.file is None:
                raise ValueError(f"secrets: {secret.variable}: {self.place.backend} takes file:")
        return self

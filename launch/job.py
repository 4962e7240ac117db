"""The job file: what to run, where, and what to do about each way in which it can end."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from launch.place import Place
from launch.preflight.limits import Preflight
from trawl.recipe import Recipe

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Evaluation(Recipe):
    """An evaluation, with the options of `trawl evaluate`."""

    task: Literal["retrieval"] = "retrieval"
    target: str
    """A published stage's folder or URI, or a recipe's file."""
    stage: str | None = None
    """Stage of the recipe; None: the last one."""
    corpus: str | None = None
    """Held-out pairs; None: the recipe's `evaluation.corpus`."""
    count: int = Field(default=200, ge=2)
    """Images, and as many texts."""
    out: str | None = None
    """Where the scores are written, as JSON."""


class Work(Recipe):
    """What to run; exactly one of `pretrain`, `corpus` and `evaluate`.

    The first two name a recipe's file or a recipe that ships.
    """

    pretrain: str | None = None
    """A pretraining."""
    corpus: str | None = None
    """A corpus build."""
    evaluate: Evaluation | None = None
    """An evaluation; its target alone may stand for it."""
    changes: list[str] = []
    """Changes to the recipe, as `KEY=VALUE`."""

    @field_validator("evaluate", mode="before")
    @classmethod
    def _target(cls, value: object) -> object:
        return {"target": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.pretrain, self.corpus, self.evaluate]
        if len(given) - given.count(None) != 1:
            raise ValueError("give exactly one of pretrain, corpus and evaluate")
        if self.evaluate is not None and self.changes:
            raise ValueError("changes: an evaluation takes none; change the keys of evaluate")
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
        if self.run.evaluate is not None and self.place.nodes > 1:
            raise ValueError(
                f"place.nodes {self.place.nodes}: one machine does an evaluation; set it to 1"
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

"""Whether a step may change the model: a pure function of what came before it in the stage.

All ranks hold the same numbers when they ask, so all come to the same verdict without a word.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pretrain.exit_codes import NumericsError
from pretrain.guard_recipe import GuardRecipe, SpikeRecipe

# Steps over which bad ones are counted.
WINDOW = 100
# Of a normal distribution, the standard deviation by the median absolute deviation.
_ROBUST = 1.4826

PASSED = "rolled past"
"""Why a step is skipped that a rollback left out: it was not computed again."""


class RollbackError(Exception):
    """Too many steps are bad: the stage goes back to its last checkpoint, and past their samples.

    first, last: the steps, from 1, that are left out where they lie behind that checkpoint. The
    hundred before the first bad one are among them, since what they taught led there (as PaLM did:
    Chowdhery et al., 2022, section 5.1); to repeat them would lead there again.
    """

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"going back, and past the steps {first} to {last}")
        self.first, self.last = first, last


@dataclass
class Guard:
    """The guard of one stage."""

    recipe: GuardRecipe
    stage: str
    rollbacks: int = 0
    """Times that the stage went back already."""
    passed: list[range] = field(default_factory=list)
    """Steps, from 1, that earlier rollbacks left out."""
    last_good: int = 0
    """The last step that changed the model; 0: none did."""
    _values: dict[str, deque[float]] = field(default_factory=dict)
    _bad: list[int] = field(default_factory=list)

    def restore(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in what the metrics of the stage say of the steps that are done."""
        for line in lines:
            if line.get("skipped") is None:
                self.accept(line["step"], line["loss"], line["grad_norm"])
            elif line["skipped"] != PASSED:
                self._bad.append(line["step"])

    def left_out(self, step: int) -> bool:
        """Return whether an earlier rollback left out `step`."""
        return any(step in steps for steps in self.passed)

    def problem(self, finite: bool, loss: float, grad_norm: float | None) -> str | None:
        """Return what is wrong with a step, None if it may be taken.

        finite: whether every micro-batch's loss is, on every rank; grad_norm: NaN if it is not
        finite, None where nothing is known of it before the step.
        """
        if not finite:
            return "the loss is not finite"
        if grad_norm is not None and not math.isfinite(grad_norm):
            return "the gradient is not finite"
        bounds = self.bounds()
        for name, value in (("loss", loss), ("gradient norm", grad_norm)):
            if value is not None and value > bounds.get(name, math.inf):
                return f"the {name} {value:.4g} is a spike, above {bounds[name]:.4g}"
        return None

    def bounds(self) -> dict[str, float]:
        """Return the loss and the gradient norm above which the next ones are spikes, if known."""
        spike = self.recipe.spike
        if spike is None:
            return {}
        found = {name: _bound(values, spike) for name, values in self._values.items()}
        return {name: bound for name, bound in found.items() if math.isfinite(bound)}

    def accept(self, step: int, loss: float, grad_norm: float | None) -> None:
        """Take in a good step."""
        spike, self.last_good = self.recipe.spike, step
        if spike is None:
            return
        for name, value in (("loss", loss), ("gradient norm", grad_norm)):
            if value is not None:
                self._values.setdefault(name, deque(maxlen=spike.window)).append(value)

    def skip(self, step: int, problem: str) -> None:
        """Take in a bad step.

        Raises RollbackError when there were too many of them, NumericsError when the stage went
        back too often already.
        """
        self._bad = [bad for bad in self._bad if bad > step - WINDOW] + [step]
        if len(self._bad) <= self.recipe.skips:
            return
        if self.rollbacks < self.recipe.rollbacks:
            raise RollbackError(max(1, self._bad[0] - WINDOW), step)
        tried = f" and {self.rollbacks} rollbacks" if self.rollbacks else ""
        raise NumericsError(
            f"stage {self.stage}, step {step}: {problem}, after {len(self._bad) - 1} skipped steps "
            f"of the last {WINDOW}{tried}; lower the learning rate, or look at the samples with "
            "`trawl pretrain replay`"
        )


def _bound(values: "deque[float]", spike: SpikeRecipe) -> float:
    """Return the value above which a further one is a spike."""
    if len(values) < spike.least_steps:
        return math.inf
    middle = statistics.median(values)
    deviation = _ROBUST * statistics.median(abs(value - middle) for value in values)
    # Values that are all alike have no deviation, and then nothing is far from them.
    return middle + spike.deviations * max(deviation, 1e-3 * abs(middle))

"""Learning rates as pure functions of the step.

Steps count from 0. A stage has `steps` of them; over the first `warmup` the rate rises to `peak`.
"""

from collections.abc import Sequence


def linear(step: int, peak: float, warmup: int, steps: int) -> float:
    """Return peak / warmup in the first step, `peak` at the warm-up's end, then fall to 0 linearly.

    BERT's schedule (Devlin et al., NAACL 2019, appendix A.2), no step of which has a rate of 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (steps - step) / max(1, steps - warmup)


def linear_from_zero(step: int, peak: float, warmup: int, steps: int) -> float:
    """Return Hugging Face's linear schedule (Oscar, X-VLM): 0 in the first step of a warm-up.

    The share of the peak is step / warmup, then (steps - step) / (steps - warmup), at least 0.
    """
    if step < warmup:
        return peak * (step / warmup)
    return peak * max(0.0, (steps - step) / max(1, steps - warmup))


def triangle(step: int, peak: float, warmup: int, steps: int) -> float:
    """Return the schedule inside BertAdam (LXMERT, ViLBERT): 0 in the first step of a warm-up.

    The triangle of `linear_from_zero`, reckoned in shares of the stage as the releases do.
    """
    done, share = step / steps, warmup / steps
    if done < share:
        return peak * (done / share)
    return peak * max((done - 1) / (share - 1), 0.0) if share < 1 else 0.0


def constant(step: int, peak: float, warmup: int) -> float:
    """Return `peak` after a warm-up as in `linear`."""
    return peak * (step + 1) / warmup if step < warmup else peak


def multistep(
    step: int, peak: float, warmup: int, milestones: Sequence[int], gamma: float
) -> float:
    """Return `constant`, times `gamma` for each milestone that is reached (ViLBERT's tasks)."""
    reached = sum(step >= milestone for milestone in milestones)
    return constant(step, peak, warmup) * gamma**reached


def learning_rate(
    step: int,
    peak: float,
    warmup_steps: int,
    steps: int,
    decay: str,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> float:
    """Return the rate of step `step` of a stage by the schedule that `decay` names.

    decay: linear, linear-from-zero, triangle, constant or multistep; ValueError for another.
    """
    match decay:
        case "linear":
            return linear(step, peak, warmup_steps, steps)
        case "linear-from-zero":
            return linear_from_zero(step, peak, warmup_steps, steps)
        case "triangle":
            return triangle(step, peak, warmup_steps, steps)
        case "constant":
            return constant(step, peak, warmup_steps)
        case "multistep":
            return multistep(step, peak, warmup_steps, milestones, gamma)
    raise ValueError(f"no schedule is called {decay}")

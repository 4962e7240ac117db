"""Learning rates as pure functions of the step."""


def learning_rate(step: int, peak: float, warmup_steps: int, steps: int, decay: str) -> float:
    """Return the rate of step `step` (0-based) of a stage of `steps` steps.

    Rises linearly to `peak` over `warmup_steps`, then stays (`constant`) or falls linearly to zero
    at the end (`linear`), as BERT and Oscar do (Devlin et al., NAACL 2019, appendix A.2).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if decay == "constant":
        return peak
    return peak * (steps - step) / max(1, steps - warmup_steps)

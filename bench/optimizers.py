"""A step of AdamW by each implementation that can be had here, on a model's worth of numbers.

    python bench/optimizers.py [--parameters 20000000] [--steps 10] [--threads 1]

Least milliseconds of a step, by the clock and in CPU time of all threads, each in turn so that
other work on the machine meets all of them. Bytes of a step are 28 a parameter: parameter,
gradient and both moments read, three of them written, in float32. On a GPU apex's and DeepSpeed's
kernels are tried as well. DeepSpeed's operators are compiled at the first run.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from pretrain.kernels import selection
from pretrain.optimizers.fused_adamw import FusedAdamW, distances, update_by

BYTES = 28


def optimizers(device: str, count: int) -> dict[str, Optimizer | str]:
    """Return each implementation's optimizer over `count` numbers, or why there is none."""
    chance = torch.Generator().manual_seed(0)
    start = torch.randn(count, generator=chance)
    made: dict[str, Optimizer | str] = {}
    for name, build in _builders(device).items():
        parameter = start.clone().to(device).requires_grad_()
        parameter.grad = (start * 1e-3).to(device)
        groups = [{"params": [parameter], "weight_decay": 0.01}]
        made[name] = build if isinstance(build, str) else build(groups)
    return made


def _builders(device: str) -> dict[str, Callable[..., Optimizer] | str]:
    builders: dict[str, Callable[..., Optimizer] | str] = {
        "torch, foreach": lambda groups: AdamW(groups, lr=1e-4, foreach=True),
        "torch, fused": lambda groups: AdamW(groups, lr=1e-4, fused=True),
    }
    for each in selection.TABLE["adamw"]:
        if not each.proven or device not in each.devices:
            continue
        problem = each.obstacle(device, "float32", asked=True)
        builders[each.name] = problem or _fused(each.name)
    return builders


def _fused(name: str) -> Callable[..., Optimizer]:
    return lambda groups: FusedAdamW(groups, update_by(name), lr=1e-4)


def measure(step: Callable[[], Any], device: str) -> tuple[float, float]:
    """Return the milliseconds of one step, by the clock and of CPU."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    clock, cpu = time.perf_counter(), time.process_time()
    step()
    wait()
    return (time.perf_counter() - clock) * 1e3, (time.process_time() - cpu) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=20_000_000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = optimizers(device, asked.parameters)
    least = dict.fromkeys(made, (math.inf, math.inf))
    for turn in range(asked.steps + 1):
        for name, optimizer in made.items():
            if isinstance(optimizer, str):
                continue
            found = measure(optimizer.step, device)
            if turn > 0:  # the first makes the states
                least[name] = (min(least[name][0], found[0]), min(least[name][1], found[1]))
    size = BYTES * asked.parameters
    print(
        f"{asked.parameters} parameters, {size / 1e9:.2f} GB a step, {device}, "
        f"torch {torch.__version__}"
    )
    for name, optimizer in made.items():
        if isinstance(optimizer, str):
            print(f"  {name:16} {optimizer}")
            continue
        clock, cpu = least[name]
        print(f"  {name:16} {clock:8.1f} ms, CPU {cpu:8.1f} ms")
        if isinstance(optimizer, FusedAdamW):
            apart = distances(update_by(name), device)
            told = ", ".join(f"{part} {share:.1e}" for part, share in apart.items())
            print(f"  {'':16} from torch's numbers: {told}")
    if device == "cpu":
        print("  apex, deepspeed  no GPU here")


if __name__ == "__main__":
    main()

"""The fused kernels beside eager torch, torch.compile and the nearest library, in one run.

    python bench/kernels.py [--rows 136] [--steps 20]

For each operation first its bytes and operations by formula: T places of the packed stream, R of
them regions, P predicted tokens, V words, H width, F numbers of a feature, L places of a row, s
bytes of a number. Then, on a GPU, forward and backward pass together in bfloat16: milliseconds, and
those bytes or operations as a share of what a plain copy or a large product of matrices reaches on
the same GPU in the same run. Last a whole training step of Oscar-base with packed rows, as a share
of the GPU's peak by its data sheet (`pretrain.devices`). Without a GPU a row says so: nothing here
is an estimate.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from parts.kernel_cases import CASES, Case, Sizes
from step.samples import WORDS, write
from transformers import BertTokenizer

from pretrain import devices, flops, objectives, optimizers
from pretrain.batches.row_batches import SAMPLE_NUMBERS
from pretrain.batches.stored import placed
from pretrain.batches.tokenise import SPECIAL_TOKENS
from pretrain.kernels import selection
from pretrain.kernels.counter_dropout import CountedDropout, number_sites
from pretrain.measured import Measured
from pretrain.models.families import family
from pretrain.recipe import OptimizerRecipe

NO_GPU = "no GPU here"
COPIED = 1 << 30
"""Bytes of the copy that the bandwidth is measured by: beyond any cache."""
SIDE = 8192
"""Side of the square matrices that the rate is measured by."""


def milliseconds(step: Callable[[], Any]) -> float:
    """Return the median of a GPU's time for `step`, with the cache emptied before each."""
    from triton.testing import do_bench

    return float(do_bench(step, warmup=100, rep=400, return_mode="median"))


def rates(device: torch.device) -> dict[str, float]:
    """Return what a copy moves in bytes a second, and what a product computes in operations."""
    source = torch.empty(COPIED, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy = 2 * COPIED / (milliseconds(lambda: target.copy_(source)) / 1e3)
    one = torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16)
    matrix = 2 * SIDE**3 / (milliseconds(lambda: one @ one) / 1e3)
    return {"copy": copy, "matrix": matrix}


def show_formulas(case: Case) -> None:
    print(
        f"{case.name}: {case.bytes / 1e6:.1f} MB and {case.operations / 1e9:.2f} GFLOP"
        f" = {case.formula}"
    )


def show_times(case: Case, limits: dict[str, float] | None) -> None:
    """Print a row for each who computes the case, or that nobody can."""
    for name, step in case.steps.items():
        if limits is None:
            print(f"  {name:16} {NO_GPU}")
            continue
        found = milliseconds(step)
        amount = case.bytes if case.limit == "copy" else case.operations
        share = amount / (found / 1e3) / limits[case.limit]
        print(f"  {name:16} {found:8.3f} ms  {100 * share:5.1f} % of the {case.limit} rate")
    for name, why in case.missing.items():
        print(f"  {name:16} {why if limits is not None else NO_GPU}")


def show_step(rows: int, steps: int, device: torch.device | None) -> None:
    """Print the share of the peak that a whole step of Oscar-base gets, packed, in bfloat16.

    Dropout as in the recipe but on shares of attention; once with the kernels, once without.
    """
    plain = {name: "plain" for name in selection.TABLE if name != "adamw"}
    for name, wanted in (("kernels", {}), ("plain", plain)):
        if device is None:
            print(f"Oscar-base, {rows} packed rows, {name}: {NO_GPU}")
            continue
        selection.override(wanted)
        seconds, work = measured_step(rows, steps, device)
        peak = devices.peak_tflops(devices.name_of(device), "bf16")
        share = "peak not known" if peak is None else f"{work / seconds / peak / 1e10:.1f} % MFU"
        print(
            f"Oscar-base, {rows} packed rows, {name}: {1e3 * seconds:.1f} ms, "
            f"{work / seconds / 1e12:.0f} TFLOP/s, {share}"
        )


def measured_step(rows: int, steps: int, device: torch.device) -> tuple[float, float]:
    """Return the seconds of a step of Oscar-base, and its operations."""
    config = family("oscar").configuration.of_size("base", attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    network: Any = family("oscar").pretraining(config).to(device, torch.bfloat16)
    number_sites(network)
    weights = {"mlm": 1.0, "contrast": 1.0}
    tokenizer = BertTokenizer(vocab={w: n for n, w in enumerate([*SPECIAL_TOKENS, *WORDS])})
    with tempfile.TemporaryDirectory() as folder:
        corpus = write(Path(folder), rows)
        maker: Any = family("oscar").batches(
            [corpus], tokenizer, config, weights, 0, "s", packed=True
        )
        maker.numbered = True
        stored = maker.make_stored([(0, number, 0, number) for number in range(rows)])
    counts = Measured([])
    counts.count(stored)
    lengths = {name: count / rows for name, count in counts.counts.items()}
    batch, optimizer = placed(stored, device), optimizers.build(network, OptimizerRecipe())
    counted = CountedDropout.of(batch.pop(SAMPLE_NUMBERS), 0)

    def step() -> None:
        network.zero_grad()
        outputs = network(**batch, counted=counted)
        objectives.compute(outputs, batch, weights)[0].backward()
        optimizer.step()

    for _ in range(3):
        step()
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(steps):
        step()
    ended.record()
    torch.cuda.synchronize()
    seconds = began.elapsed_time(ended) / 1e3 / steps
    return seconds, flops.arithmetic(network).training(lengths) * rows


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--rows", type=int, default=Sizes.rows)
    options.add_argument("--steps", type=int, default=20)
    asked = options.parse_args()
    device = torch.device("cuda") if torch.cuda.is_available() else None
    limits = None if device is None else rates(device)
    if device is not None and limits is not None:
        print(
            f"{devices.name_of(device)}, torch {torch.__version__}: copies "
            f"{limits['copy'] / 1e12:.2f} TB/s, multiplies {limits['matrix'] / 1e12:.0f} TFLOP/s"
        )
    torch.manual_seed(0)
    sizes = Sizes(rows=asked.rows)
    for make in CASES:
        # Without a GPU nothing is computed: shapes alone are.
        case = make(sizes, device or torch.device("meta"))
        show_formulas(case)
        show_times(case, limits)
    show_step(asked.rows, asked.steps, device)


if __name__ == "__main__":
    main()

"""Seconds an image of a published detector, by stage: ours against the straightforward composition.

    python bench/detector.py [--family butd|vinvl] [--height 600 --width 1000] [--threads 2]

The composition is `c4_plain`: one image, float32, normalisation unfolded, torchvision's operators,
one suppression a class in a loop, the regressor and the attributes for every proposal. Ours is
`c4_inference` twice: in float32 (folded, channels last, own pooling and suppression) and with
convolutions in bfloat16, where the processor has that. All see the same images and weights (random:
nobody may publish the trained ones), take turns image by image, and must agree: the features of the
composition's own proposals have a cosine of at least 0.999 in bfloat16, else the benchmark fails.
With random weights nearly all class probabilities are under the threshold, so that suppression
enters every pair: its slowest case. Where other work runs on the machine, seconds of the wall clock
are upper bounds and their ratio is chance; the CPU time of all threads, which waits asleep, holds
better. With a GPU the rate and the share of the measured matrix rate are printed too.
"""

import argparse
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import numpy as np
import torch

from data_pipeline.detector import kernels, roi_pool, roi_pool_cuda
from data_pipeline.detector.arithmetic import is_imitated
from data_pipeline.detector.buckets import plan, waste
from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.c4_inference import C4Detector, Computing
from data_pipeline.detector.c4_plain import PlainC4
from data_pipeline.detector.c4_preprocessing import RULES, target
from data_pipeline.detector.c4_weights import C4Weights
from data_pipeline.detector.extraction_stream import in_order
from data_pipeline.detector.flops import stage_flops
from data_pipeline.detector.random_weights import random_weights

STAGES = ("prepare", "maps_of", "proposals_of", "pooled", "features_of", "chosen")
NAMES = ("resize", "backbone", "proposals", "RoI pooling", "res5", "scores, NMS, attributes")
SELECTION = {"butd": "butd-10-100", "vinvl": "vinvl-filter1"}
LEAST_COSINE = 0.999
LANES, ROUNDS = 2, 8  # on a GPU: batches at once, as in an extraction, and batches measured
# Photographs as COCO has them: this share has the commonest sizes, the others any short side.
COMMON = [(480, 640)] * 8 + [(427, 640)] * 5 + [(640, 480)] * 3 + [(640, 427)] * 2
COMMON_SHARE = 0.6


def drawn_image(height: int, width: int, number: int) -> np.ndarray:
    """Coloured blocks, the same for the same number."""
    chance = np.random.default_rng(number)
    coarse = chance.integers(0, 256, (-(-height // 25), -(-width // 25), 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((25, 25, 1), np.uint8))[:height, :width]


class Clock:
    """Seconds, and CPU seconds, of the stages of a detector whose methods it wraps."""

    def __init__(self, detector: Any) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        for stage in STAGES:
            if hasattr(detector, stage):
                setattr(detector, stage, self.timed(stage, getattr(detector, stage)))

    def timed(self, stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start, cpu = _now(), time.process_time()
            result = method(*arguments)
            self.seconds[stage] += _now() - start
            self.cpu[stage] += time.process_time() - cpu
            return result

        return run


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def check(paths: dict[str, Any], weights: C4Weights, image: np.ndarray) -> dict[str, float]:
    """Least cosine of each path's features with the composition's, at the same boxes."""
    height, width = image.shape[:2]
    chance = np.random.default_rng(1)
    corner = chance.random((36, 2)) * [width - 40, height - 40]
    reach = 32 + chance.random((36, 2)) * [width, height]
    boxes = np.concatenate([corner, np.minimum(corner + reach, [width - 1, height - 1])], axis=1)
    boxes = boxes.astype(np.float32)
    plain = paths["straightforward"].features_at(image, boxes)
    cosines = {}
    for name, detector in paths.items():
        if isinstance(detector, C4Detector):
            ours = torch.from_numpy(detector.features_at([image], [boxes])[0])
            cosines[name] = float(torch.nn.functional.cosine_similarity(ours, plain.cpu()).min())
            assert cosines[name] >= LEAST_COSINE, f"{name}: cosine {cosines[name]}"
    return cosines


Times = dict[str, dict[str, float]]


def measure(paths: dict[str, Any], images: list[np.ndarray], selection: str) -> tuple[Times, Times]:
    """Least seconds and least CPU seconds of every path and stage over the images, each in turn."""
    clocks = {name: Clock(detector) for name, detector in paths.items()}
    least: tuple[Times, Times] = ({name: {} for name in paths}, {name: {} for name in paths})
    for image in images:
        for name, detector in paths.items():
            clock = clocks[name]
            clock.seconds.clear()
            clock.cpu.clear()
            one = isinstance(detector, C4Detector)
            detector.detect([image] if one else image, selection)
            for times, spent in zip(least, (clock.seconds, clock.cpu), strict=True):
                for stage, seconds in spent.items():
                    times[name][stage] = min(seconds, times[name].get(stage, math.inf))
    return least


def print_stages(title: str, least: Times) -> None:
    print(f"{title:26}" + "".join(f"{name:>18}" for name in least))
    for stage, label in zip(STAGES, NAMES, strict=True):
        print(f"{label:26}" + "".join(f"{times[stage]:18.3f}" for times in least.values()))
    totals = {name: sum(times.values()) for name, times in least.items()}
    print(f"{'total':26}" + "".join(f"{total:18.3f}" for total in totals.values()))
    first = next(iter(totals.values()))
    print(f"{'times faster':26}" + "".join(f"{first / total:18.2f}" for total in totals.values()))


def print_flops() -> None:
    """The work of an image by stage, in 10^9 operations, two for a multiplication and addition."""
    print(f"\n{'GFLOP at 600 x 1000':26}" + "".join(f"{family:>18}" for family in SELECTION))
    tables = [stage_flops(family_config(family), 600, 1000, 300) for family in SELECTION]
    stages = ("backbone", "proposal_head", "res5", "classifier", "regressor", "attributes", "total")
    for stage in stages:
        row = "".join(f"{getattr(table, stage) / 1e9:18.1f}" for table in tables)
        print(f"{stage.replace('_', ' '):26}{row}")


def print_waste(rule_name: str) -> None:
    """Padding of batches of 16 over 1,600 photographs, drawn."""
    chance = np.random.default_rng(2)
    sizes = []
    for _ in range(1600):
        own = COMMON[chance.integers(len(COMMON))]
        if chance.random() > COMMON_SHARE:
            short = int(chance.integers(320, 641))
            own = (short, 640) if chance.random() < 0.7 else (640, short)
        sizes.append(target(*own, RULES[rule_name])[:2])
    everything = plan([(1000, 1000)] * len(sizes), 16)
    print(
        f"\npadding in batches of 16: {waste(sizes, plan(sizes, 16)):.1%} of the pixels, "
        f"{waste(sizes, plan(sizes, 16, fixed=True)):.1%} with fixed shapes, "
        f"{waste(sizes, everything):.1%} without buckets"
    )


def print_pooling(device: str) -> None:
    """Milliseconds of 300 regions of one image: Triton or torchvision beside our CUDA C++."""
    for name, cut in (("pool", roi_pool.pool), ("align", roi_pool.align)):
        for number in (torch.float32, torch.bfloat16):
            label = f"RoI {name}, {str(number).removeprefix('torch.')}"
            if device != "cuda":
                print(f"{label:26}no GPU here")
                continue
            cells = torch.randn(1, 1024, 38, 63, device=device, dtype=number)
            cells = cells.contiguous(memory_format=torch.channels_last)[0]
            corner = torch.rand(300, 2, device=device) * torch.tensor([800, 450], device=device)
            boxes = torch.cat([corner, corner + 40 + torch.rand_like(corner) * 300], dim=1)
            other = f"{'triton' if name == 'pool' else 'torchvision'} "
            other += f"{_milliseconds(partial(cut, cells, boxes, 14, 16)):.3f} ms"
            ours = "not built: make cuda-kernels"
            if roi_pool_cuda.loaded() is not None:
                kernels.override({f"roi_{name}": "cuda-c++"}, device)
                ours = f"{_milliseconds(partial(cut, cells, boxes, 14, 16)):.3f} ms"
                kernels.override({}, device)
            print(f"{label:26}{other}, CUDA C++ {ours}")


def _milliseconds(work: Callable[[], Any], repeats: int = 50) -> float:
    work()
    start = _now()
    for _ in range(repeats):
        work()
    return (_now() - start) * 1000 / repeats


def run_gpu(family: str, weights: C4Weights, height: int, width: int, plain_seconds: float) -> None:
    """Print images/s with everything on, its share of the measured matrix rate, and the ratio."""
    side, repeats, count = 8192, 20, 16
    left = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    left @ left
    start = _now()
    for _ in range(repeats):
        left @ left
    rate = 2 * side**3 * repeats / (_now() - start)
    computing = Computing("cuda", "bfloat16", compiled=True, images=count)
    detector = C4Detector(family, weights, computing)
    images = [drawn_image(height, width, number) for number in range(count)]

    def work(batch: list[np.ndarray]) -> object:
        return detector.detect(batch, SELECTION[family])

    for _ in in_order([images] * 4, work, LANES, LANES):
        pass
    start = _now()
    for _ in in_order([images] * ROUNDS, work, LANES, LANES):
        pass
    per_second = ROUNDS * count / (_now() - start)
    work = stage_flops(family_config(family), 600, 1000, 300).total
    print(
        f"\nGPU, bfloat16, compiled, batches of {count}: {per_second:.1f} images/s, "
        f"{per_second * work / rate:.1%} of {rate / 1e12:.0f} TFLOP/s measured, "
        f"{per_second * plain_seconds:.1f} times the composition on the same GPU"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=list(SELECTION), default="butd")
    parser.add_argument("--height", type=int, default=600)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    family, size = options.family, (options.height, options.width)
    weights = random_weights(family, 0)
    paths: dict[str, Any] = {
        "straightforward": PlainC4(weights, device),
        "ours, float32": C4Detector(family, weights, Computing(device, images=1)),
    }
    if is_imitated("bfloat16", device):
        print("this CPU only imitates bfloat16: no such path; elsewhere it is the fastest")
    else:
        computing = Computing(device, "bfloat16", images=1)
        paths["ours, bfloat16"] = C4Detector(family, weights, computing)
    cosines = check(paths, weights, drawn_image(*size, 0))
    images = [drawn_image(*size, number) for number in range(options.rounds)]
    print(f"{family}, {size[0]} x {size[1]}, {options.threads} threads, {device}, batch 1")
    least, cpu = measure(paths, images, SELECTION[family])
    print_stages("seconds an image", least)
    print_stages("CPU seconds an image", cpu)
    for name, cosine in cosines.items():
        print(
            f"{name}: least cosine with the composition's features at the same boxes {cosine:.7f}"
        )
    print_flops()
    print_waste(family)
    print_pooling(device)
    if device == "cuda":
        run_gpu(family, weights, *size, sum(least["straightforward"].values()))


if __name__ == "__main__":
    main()

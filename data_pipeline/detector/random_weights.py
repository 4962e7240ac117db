"""Detectors with random weights, to try the road from images to features without a weights file.

What they find means nothing; that it is the same every time, and the same by every path of the
code, is what they are for.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from data_pipeline.detector.c4_anchors import cell_anchors
from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.c4_weights import C4Weights, canonical_shapes
from trawl.errors import RequestError

FAMILIES = ("butd", "butd-d2", "vinvl")
_LAYOUTS = {"butd": "milvlg", "butd-d2": "hf", "vinvl": "vinvl"}
_POOL = 1 << 20
_STRIDE = 7919
"""Where the next tensor begins in the pool of draws: far from where the last one did."""


def random_weights(family: str, seed: int) -> C4Weights:
    """Return weights of a published family whose activations stay of order one.

    The tensors are cut from one pool of normal draws, for fresh ones would take a minute.
    RequestError for a detector that has no published family.
    """
    if family not in FAMILIES:
        raise RequestError(f"--random-weights: {family} has none; choose {', '.join(FAMILIES)}")
    config = family_config(family)
    pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(seed))
    tensors = {
        name: _tensor(name, shape, pool, number)
        for number, (name, shape) in enumerate(canonical_shapes(config).items())
    }
    tensors["cell_anchors"] = cell_anchors(config.anchors)
    checksum = hashlib.sha256(f"random {family} {seed}".encode()).hexdigest()
    return C4Weights(
        config=config,
        tensors=tensors,
        originals={},
        aliases=(),
        prefix="",
        layout=_LAYOUTS[family],
        sha256=checksum,
        source_sha256=checksum,
        anchors=config.anchors,
        objects=tuple(f"object {number}" for number in range(1, config.classes)),
        attributes=tuple(f"attribute {number}" for number in range(1, config.attributes)),
    )


def _tensor(name: str, shape: tuple[int, ...], pool: Tensor, number: int) -> Tensor:
    """Return one tensor, scaled by what it is: kernels keep the variance of what goes through."""
    count = math.prod(shape)
    start = number * _STRIDE % (_POOL // 2)
    normal = pool[start:].repeat(-(-count // (_POOL - start)))[:count].reshape(shape).clone()
    if name.endswith("running_var"):
        return 0.5 + torch.special.ndtr(normal)
    if name.endswith("normalisation.weight"):
        # The last layer of a residual branch adds little, else fifty of them would explode.
        return (0.2 if "conv3" in name else 0.8) * (0.5 + torch.special.ndtr(normal))
    if name.endswith(("bias", "running_mean")):
        return 0.2 * normal
    if name in ("proposal_head.deltas.weight", "regressor.weight"):
        return 0.01 * normal
    if name in ("classifier.weight", "attributes.score.weight"):
        return 0.1 * normal
    fan_in = math.prod(shape[1:]) or 1
    pixels = 64 if name.startswith("stem") else 1  # the input is in grey levels, not of order one
    return math.sqrt(2 / fan_in) / pixels * normal

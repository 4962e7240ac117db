"""The arithmetic of X-VLM, which reads a text twice and fuses it with images four times.

The text is read as it is and masked. It is fused with its image, with a wrong image, and as the
wrong text of an image; of these three the last layer computes [CLS] alone. The masked text's fusion
is whole.
"""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

Rows = Callable[[Mapping[str, float]], float]
# Fusions of which the state of [CLS] alone is needed.
_FIRST = 3.0


def patches(config: Any) -> int:
    """Return the states of an image that texts look at: its patches, and their mean before them."""
    return 1 + int(config.patch_grid) ** 2


def passes(config: Any) -> tuple[Callable[[str], Rows], Callable[[str], Rows]]:
    """Return, by a layer's name, the rows that it reads, and its pairs of queries and keys."""
    seen = float(patches(config))
    last = config.num_hidden_layers - 1

    def place(name: str) -> int | None:
        found = re.search(r"^text_encoder\.bert\.encoder\.layer\.(\d+)\.", name)
        return int(found[1]) if found else None

    def queries(layer: int) -> Rows:
        if layer < config.fusion_layer:
            return lambda n: 2 * n["text"]
        if layer == last:
            return lambda n: _FIRST + n["text"]
        return lambda n: (_FIRST + 1) * n["text"]

    def read(name: str) -> Rows:
        layer = place(name)
        if name.startswith("vision_encoder"):
            return lambda n: 0.0
        if layer is None:
            if ".cls." in name:
                return lambda n: n["masked"]
            return lambda n: _FIRST if name.startswith("itm_head") else 1.0
        if re.search(r"crossattention\.self\.(key|value)", name):
            return lambda n: (_FIRST + 1) * seen
        if layer == last and re.search(r"attention\.self\.(key|value)", name):
            return lambda n: (_FIRST + 1) * n["text"]
        return queries(layer)

    def looked_at(name: str) -> Rows:
        layer = place(name)
        assert layer is not None
        rows = queries(layer)
        if "crossattention" in name:
            return lambda n: rows(n) * seen
        return lambda n: rows(n) * n["text"]

    return read, looked_at


def image_encoder(model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    """Return the vision encoder of X-VLM on the meta device, and an image that it reads there.

    Its images have one size, so that what it does is the same for each.
    """
    config: Any = model.config
    encoder: nn.Module = copy.deepcopy(model.get_submodule("vision_encoder"))
    nn.Module.to(encoder, "meta")
    return encoder, torch.empty(1, 3, config.image_size, config.image_size, device="meta")


def image_operations(model: nn.Module) -> float:
    """Return the operations of the vision encoder for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    encoder, image = image_encoder(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(image)
    return float(counter.get_total_flops())

"""A start for small networks without BERT: attention that finds equal words before it has learned.

BERT's weights bring along heads that match a word with the same word elsewhere. A small network
that starts from nothing takes thousands of steps to find out that equal words in a caption and in
tags belong together; with these heads, and words that stand out from positions and segments, it
takes two hundred (compare Trockman and Kolter, "Mimetic initialization of self-attention layers",
ICML 2023).
"""

from collections.abc import Iterable

import torch
from torch import nn

from pretrain.models.blocks import SelfAttention

# Segments may be told apart, but must not outweigh that two words are equal.
_FAINT_SEGMENTS = 0.4
_FAINT_REGIONS = 0.1


@torch.no_grad()
def start_comparing(embeddings: nn.Module, layers: nn.Module, heads: int) -> None:
    """Let `heads` heads of each of `layers` compare words; 0 leaves everything as it was drawn.

    `embeddings` has BERT's tables of positions and segments.
    """
    if not heads:
        return
    embeddings.get_submodule("position_embeddings").get_parameter("weight").zero_()
    embeddings.get_submodule("token_type_embeddings").get_parameter("weight").mul_(_FAINT_SEGMENTS)
    for module in layers.modules():
        if isinstance(module, SelfAttention):
            module.start_comparing(heads)


@torch.no_grad()
def start_faint(layers: Iterable[nn.Module]) -> None:
    """Let what `layers` add to the text from regions be faint at first, so that words stand out."""
    for layer in layers:
        layer.get_parameter("weight").mul_(_FAINT_REGIONS)

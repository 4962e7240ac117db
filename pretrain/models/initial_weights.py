"""How BERT's weights are drawn (Devlin et al., 2019), in the way that transformers asks for it."""

from torch import Tensor, nn
from transformers import initialization as init


def draw_as_bert(module: nn.Module, deviation: float) -> None:
    """Draw what `module` itself holds: weights from N(0, deviation), biases 0, gains 1.

    The row of the padding token is drawn too, as published; transformers itself makes it zero.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        init.normal_(module.weight, std=deviation)
    elif isinstance(module, nn.LayerNorm):
        init.ones_(module.weight)
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        init.zeros_(bias)

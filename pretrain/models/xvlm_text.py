"""X-VLM's text encoder and cross encoder: one BERT whose upper layers also look at the image."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.models.blocks import (
    Attention,
    BlockShape,
    Intermediate,
    Layer,
    ResidualOutput,
    TextEmbeddings,
)
from pretrain.models.heads import MaskedTokenHead
from pretrain.models.packing import Asked, Between, Rows, Sight
from pretrain.models.xvlm_config import XvlmConfig


def cross_attention(shape: BlockShape, source_width: int) -> Attention:
    """Return an attention whose keys and values are made of vectors of another width.

    The original divides the query by the root of its size before the product where it trains in
    float16; the fused kernels do so always, and the plain attention gives the same in float32.
    """
    attention = Attention(shape)
    attention.self.key = nn.Linear(source_width, shape.hidden)
    attention.self.value = nn.Linear(source_width, shape.hidden)
    return attention


class FusionLayer(nn.Module):
    """A layer of the cross encoder: text looks at itself, then at the image, then widens."""

    def __init__(self, shape: BlockShape, vision_width: int) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.crossattention = cross_attention(shape, vision_width)
        self.intermediate = Intermediate(shape)
        self.output = ResidualOutput(shape, shape.intermediate)

    def forward(
        self,
        states: Tensor,
        bias: Sight,
        image: Tensor,
        image_bias: Sight,
        source: Tensor | None = None,
    ) -> Tensor:
        """Return [batch, queries, hidden]; the text that is looked at is `source`, else `states`.

        image [batch, patches, vision width]; biases [batch, 1, 1, keys] are added to the scores, or
        say where packed rows lie.
        """
        mixed = self.attention(states, bias, states if source is None else source)
        fused = self.crossattention(mixed, image_bias, image)
        deep: Tensor = self.output(self.intermediate(fused), fused)
        return deep


class FusionEncoder(nn.Module):
    """The stack of both encoders: the first `fusion_layer` layers read text, the rest fuse."""

    gradient_checkpointing = False

    def __init__(self, config: XvlmConfig) -> None:
        super().__init__()
        shape, width = config.block_shape(), config.vision_width
        self.fusion_layer = config.fusion_layer
        self.layer = nn.ModuleList(
            FusionLayer(shape, width) if number >= config.fusion_layer else Layer(shape)
            for number in range(config.num_hidden_layers)
        )

    def _run(
        self, layers: Iterable[nn.Module], states: Tensor, *rest: Tensor | Sight
    ) -> list[Tensor]:
        """Return `states` and the output of each of `layers`, which also take the `rest`."""
        reached = [states]
        for layer in layers:
            if self.gradient_checkpointing and self.training:
                reached.append(checkpoint(layer, reached[-1], *rest, use_reentrant=False))
            else:
                reached.append(layer(reached[-1], *rest))
        return reached

    def read(self, states: Tensor, bias: Sight) -> list[Tensor]:
        """Return embedded text [batch, length, hidden] and what each text layer makes of it."""
        return self._run(self.layer[: self.fusion_layer], states, bias)

    def fuse(
        self, states: Tensor, bias: Tensor | None, image: Tensor, image_bias: Tensor | None
    ) -> list[Tensor]:
        """Return text states and what each fusion layer makes of them and the image."""
        return self._run(self.layer[self.fusion_layer :], states, bias, image, image_bias)

    def fuse_first(
        self, states: Tensor, bias: Tensor | None, image: Tensor, image_bias: Tensor | None
    ) -> Tensor:
        """Return the last state of position 0 alone [batch, hidden].

        The same numbers as `fuse`, but the last layer computes one query instead of all.
        """
        *lower, last = self.layer[self.fusion_layer :]
        states = self._run(lower, states, bias, image, image_bias)[-1]
        first: Tensor = last(states[:, :1], bias, image, image_bias, states)
        return first[:, 0]

    def fuse_at(
        self, states: Tensor, rows: Rows, image: Tensor, looking: Between, asked: Asked
    ) -> Tensor:
        """Return the last states of packed text at the places `asked`, rising: [1, asked, hidden].

        states [1, text, hidden] of `rows`; image [1, patches, vision width], packed as well;
        looking: which text looks at which patches.
        """
        *lower, last = self.layer[self.fusion_layer :]
        states = self._run(lower, states, rows, image, looking)[-1]
        asking, sight, source = asked.of(rows, states)
        seen = Between(looking.asking.part(asked.places), looking.offering)
        return self._run([last], asking, sight, image, seen, source)[-1]


class FusionBert(nn.Module):
    """Embeddings and encoder, as in a BERT without pooler."""

    def __init__(self, config: XvlmConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(
            config.block_shape(),
            config.vocab_size,
            config.max_position_embeddings,
            config.type_vocab_size,
        )
        self.encoder = FusionEncoder(config)


class PredictionHeads(nn.Module):
    """The heads of BERT's pretraining: masked tokens alone."""

    def __init__(self, config: XvlmConfig) -> None:
        super().__init__()
        self.predictions = MaskedTokenHead(config.block_shape(), config.vocab_size)


class XvlmTextEncoder(nn.Module):
    """`FusionBert`, and the masked-token head where it is wanted: a BERT for masked tokens."""

    cls: PredictionHeads | None

    def __init__(self, config: XvlmConfig, heads: bool) -> None:
        super().__init__()
        self.bert = FusionBert(config)
        self.cls = PredictionHeads(config) if heads else None


def patch_bias(mask: Tensor | None, score: float, dtype: torch.dtype) -> Tensor | None:
    """Return what is added to the scores of patches: 0 where `mask` is 1, `score` where it is 0.

    mask [batch, patches]; returns [batch, 1, 1, patches], or nothing for nothing. A score below the
    least number of `dtype` becomes that.
    """
    if mask is None:
        return None
    least = max(score, torch.finfo(dtype).min)
    return (1.0 - mask[:, None, None, :].to(dtype)) * least

"""Image-text contrast: of all texts of all ranks, which is the image's, and the other way round?

X-VLM (Zeng et al., ICML 2022, section 3.2), after CLIP (Radford et al., ICML 2021).
"""

import torch
from torch import Tensor
from torch.nn import functional

from pretrain.objectives.gathering import gather_rows, place


def loss(
    images: Tensor, texts: Tensor, temperature: Tensor, groups: Tensor | None = None
) -> Tensor:
    """Return the mean of both directions' cross-entropies over the rows of all ranks.

    images, texts [batch, width] of unit length, as many rows on every rank; temperature []; groups
    int64 [batch], not negative: rows of one group, on whichever rank, are right answers to each
    other in equal shares. Nothing: only a row's own. W ranks learn what one process learns from
    their common batch.
    """
    return _loss(images, texts, temperature, groups, whole_gradient=True)


def published_loss(
    images: Tensor, texts: Tensor, temperature: Tensor, groups: Tensor | None = None
) -> Tensor:
    """Return `loss` with the gradient that X-VLM released: 1/W of the whole for what W ranks embed.

    Each rank keeps only its own slice of the gathered gradient, and the ranks' gradients are then
    averaged. The temperature, which is not gathered, gets its whole gradient in both forms.
    """
    return _loss(images, texts, temperature, groups, whole_gradient=False)


def _loss(
    images: Tensor,
    texts: Tensor,
    temperature: Tensor,
    groups: Tensor | None,
    whole_gradient: bool,
) -> Tensor:
    rows = images.shape[0]
    images = gather_rows(images.float(), whole_gradient)
    texts = gather_rows(texts.float(), whole_gradient)
    logits = images @ texts.t() / temperature.float()  # [all rows, all rows]
    if logits.shape[0] == 0:
        return logits.sum()
    answers = _answers(groups, rows, images.device)
    to_text = functional.cross_entropy(logits, answers)
    to_image = functional.cross_entropy(logits.t(), answers)
    return (to_text + to_image) / 2


def _answers(groups: Tensor | None, rows: int, device: torch.device) -> Tensor:
    """Return what is right for the rows of all ranks: a place each, or shares [rows, rows].

    A rank without groups still takes part in gathering them, for another may have some.
    """
    rank, ranks = place()
    if groups is None and ranks == 1:
        return torch.arange(rows, device=device)
    if groups is None:
        # Numbers of its own for each row; those of real groups are not negative.
        groups = -1 - torch.arange(rank * rows, (rank + 1) * rows, device=device)
    together = gather_rows(groups.long(), whole_gradient=False)
    same = (together[:, None] == together[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)

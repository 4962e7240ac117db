"""Oscar's contrast: is the pair clean (0), are the tags another image's (1), or the caption (2)?

In the two-way form class 1 is all that is not clean. Mind the polarity: a matching pair is class 0.
"""

from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [batch, classes] and labels [batch], 0 of no rows."""
    if logits.shape[0] == 0:
        return logits.float().sum()
    return functional.cross_entropy(logits.float(), labels)


def clean_scores(logits: Tensor) -> Tensor:
    """Return the log-odds that a caption is the image's own, given that the tags are [...].

    logits [..., classes]. Class 0 is weighed against the last one, "another caption"; with three
    classes "other tags" is left out, since in retrieval an image always comes with its own tags.
    """
    return logits[..., 0].float() - logits[..., -1].float()

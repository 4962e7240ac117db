"""Question answering: which entry of the answer table answers the question?"""

from torch import Tensor
from torch.nn import functional

IGNORED = -1


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the rows that ask something, 0 where none does.

    logits [batch, answers]; labels [batch], -1 for a row without a question, without a known
    answer, or with another image's sentence (LXMERT, Tan and Bansal, EMNLP 2019).
    """
    total = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def soft_loss(logits: Tensor, scores: Tensor) -> Tensor:
    """Return the binary cross-entropy of all answers, summed over them, mean over the rows.

    logits, scores [batch, answers]; a score is the share of annotators who gave the answer. It is
    the mean times the count of answers by which Oscar, LXMERT and ViLBERT fine-tune on VQA.
    """
    total = functional.binary_cross_entropy_with_logits(
        logits.float(), scores.float(), reduction="sum"
    )
    return total / max(1, logits.shape[0])

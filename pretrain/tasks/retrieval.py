"""Zero-shot image-text retrieval: each caption is weighed against all images, by a pretrained head.

One caption an image, its first. Every pair passes through the network; nothing is trained.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.checks import check_captions
from pretrain.batches.pairs import first_caption
from pretrain.tasks.pair_scores import Scores, score_matrix
from trawl.errors import RequestError

RANKS = (1, 5, 10)
EXAMPLES = 12
_EXAMPLE_DEPTH = 5


def evaluate_retrieval(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    count: int = 200,
) -> dict[str, Any]:
    """Return R@1, 5 and 10 in both directions over the first `count` samples, and examples.

    Keys: t2i_r1, t2i_r5, t2i_r10 (the image of a caption), i2t_r1 ... (the caption of an image),
    each a share of 1; count; and examples, each with direction, query, rank and ranking. Raises
    RequestError if the corpus has fewer than two samples, or fewer captions than samples.
    """
    count = min(count, len(corpus))
    if count < 2:
        raise RequestError(f"{corpus.uri}: {count} samples; retrieval needs two at least")
    check_captions(corpus)
    keys = [corpus[number].key for number in range(count)]
    texts = [first_caption(corpus[number]) for number in range(count)]
    scores = score_matrix(model, tokenizer, corpus, texts, count)
    return {
        **recalls(scores),
        "count": count,
        "examples": _examples(scores, keys, texts) + _examples(scores.T, keys, texts, True),
    }


def recalls(scores: Scores) -> dict[str, float]:
    """Return R@k in both directions from scores [captions, images], pairs on the diagonal."""
    found: dict[str, float] = {}
    for direction, matrix in (("t2i", scores), ("i2t", scores.T)):
        places = ranks(matrix)
        found.update({f"{direction}_r{k}": round(float((places <= k).mean()), 4) for k in RANKS})
    return found


def ranks(scores: Scores) -> npt.NDArray[np.int64]:
    """Return the rank, from 1, of the diagonal entry in each row [queries].

    An entry that ties stands before the right one, so that a constant score earns nothing.
    """
    return (scores >= np.diagonal(scores)[:, None]).sum(axis=1)


def _examples(
    scores: Scores, keys: Sequence[str], texts: Sequence[str], by_image: bool = False
) -> list[dict[str, Any]]:
    """Return the first queries, each with the answers ranked highest; scores [queries, answers]."""
    places = ranks(scores)
    examples = []
    for query in range(min(EXAMPLES, len(scores))):
        best = np.argsort(-scores[query], kind="stable")[:_EXAMPLE_DEPTH]
        examples.append(
            {
                "direction": "i2t" if by_image else "t2i",
                "query": keys[query] if by_image else texts[query],
                "key": keys[query],
                "rank": int(places[query]),
                "ranking": [
                    {
                        "key": keys[answer],
                        "text": texts[answer],
                        "score": round(_probability(float(scores[query, answer])), 6),
                        "right": bool(answer == query),
                    }
                    for answer in best
                ],
            }
        )
    return examples


def _probability(odds: float) -> float:
    """Return the probability that has these log-odds."""
    return float(1.0 / (1.0 + np.exp(-odds)))

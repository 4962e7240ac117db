"""X-VLM's corruption of tokens: a quarter of them, in whole words and now and then in short spans.

Zeng et al. (ICML 2022), section 3.2; the details are those of the released code.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pretrain.batches.mask_tokens import MASK_SHARE

# Of what does not become [MASK], half becomes any word.
_RANDOM_REST = 0.5

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SpanRule:
    """How many tokens are masked, and how often together.

    probability: share of the tokens, [CLS] counted; most: of a text; span_probability: chance that
    a visited place starts a span; span_size: most tokens of one; at least two.
    """

    probability: float
    most: int
    span_probability: float
    span_size: int

    def count(self, tokens: int) -> int:
        """Return how many of `tokens` tokens, [CLS] not counted, are masked at most."""
        return min(self.most, max(1, round(self.probability * (tokens + 1))))


def mask_spans(
    ids: Ids,
    continues: npt.NDArray[np.bool_],
    chance: np.random.Generator,
    rule: SpanRule,
    mask: int,
    words: int,
) -> tuple[Ids, npt.NDArray[np.intp]]:
    """Return `ids` [tokens] corrupted, and which places were chosen, in rising order.

    `ids` holds no special tokens; `continues` [tokens]: true for a piece that goes on with the
    word before it. Places are visited in random order until enough are chosen; a surplus is cut
    at random, so that a word can end up partly masked. Of the chosen, 80% become `mask`, 10% any
    of the `words` of the vocabulary, special ones included, 10% stay.
    """
    count = rule.count(len(ids))
    chosen: set[int] = set()
    for place in chance.permutation(len(ids)):
        if len(chosen) >= count:
            break
        if place not in chosen:
            chosen.update(span_at(int(place), continues, chance, rule))
    places = np.array(sorted(chosen), dtype=np.intp)
    if len(places) > count:
        places = np.sort(chance.choice(places, count, replace=False))
    corrupted = ids.copy()
    first, second = chance.random((2, len(places)))
    corrupted[places[first < MASK_SHARE]] = mask
    swapped = places[(first >= MASK_SHARE) & (second < _RANDOM_REST)]
    corrupted[swapped] = chance.integers(words, size=len(swapped))
    return corrupted, places


def span_at(
    place: int, continues: npt.NDArray[np.bool_], chance: np.random.Generator, rule: SpanRule
) -> range:
    """Return the places of a visit to `place`: one token or a span, extended to whole words."""
    size = 1
    if rule.span_size >= 2 and chance.random() < rule.span_probability:
        size = int(chance.integers(2, rule.span_size + 1))
    start, end = place, place + size
    while start > 0 and continues[start]:
        start -= 1
    while end < len(continues) and continues[end]:
        end += 1
    return range(start, min(end, len(continues)))

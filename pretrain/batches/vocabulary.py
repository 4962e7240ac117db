"""Learns a WordPiece vocabulary by merging frequent pairs of pieces, the same one every time.

The trainers of `tokenizers` break ties by the order of a hash table, so two runs over the same
texts give different ids; here ties go to the spelling that sorts first.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable

from tokenizers import normalizers, pre_tokenizers

CONTINUED = "##"

Pair = tuple[str, str]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Return how often each word occurs in `texts`, cleaned, lower-cased and split as BERT does."""
    normaliser = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        parts = splitter.pre_tokenize_str(normaliser.normalize_str(text))
        words.update(word for word, _ in parts)
    return words


def learn_pieces(words: Counter[str], size: int, least: int = 2) -> list[str]:
    """Return at most `size` pieces: the letters of `words`, the frequent first, then merged pairs.

    A pair must occur `least` times to be merged, so with room enough each word that does becomes
    one piece. Pieces inside a word begin with "##".
    """
    learner = _Merger(words)
    pieces = learner.letters()[:size]
    known = set(pieces)
    while len(pieces) < size:
        pair = learner.best(least)
        if pair is None:
            break
        merged = learner.merge(pair)
        if merged not in known:
            known.add(merged)
            pieces.append(merged)
    return pieces


class _Merger:
    """Words as rows of pieces, with the count of each pair of neighbours kept up to date."""

    def __init__(self, words: Counter[str]) -> None:
        ordered = sorted(words.items())
        self._counts = [count for _, count in ordered]
        self._rows = [
            [word[0], *(CONTINUED + letter for letter in word[1:])] for word, _ in ordered
        ]
        self._pairs: Counter[Pair] = Counter()
        self._holders: defaultdict[Pair, set[int]] = defaultdict(set)
        for number in range(len(self._rows)):
            self._count(number, 1)
        self._queue = [(-count, pair) for pair, count in self._pairs.items()]
        heapq.heapify(self._queue)

    def letters(self) -> list[str]:
        """Return the single letters, the most frequent first."""
        found: Counter[str] = Counter()
        for row, count in zip(self._rows, self._counts, strict=True):
            for piece in row:
                found[piece] += count
        return sorted(found, key=lambda piece: (-found[piece], piece))

    def _count(self, number: int, sign: int) -> set[Pair]:
        """Add (or with sign -1 take away) the pairs of one word; return them."""
        row = self._rows[number]
        pairs = list(itertools.pairwise(row))
        for pair in pairs:
            self._pairs[pair] += sign * self._counts[number]
            if sign > 0:
                self._holders[pair].add(number)
        return set(pairs)

    def best(self, least: int) -> Pair | None:
        """Return the most frequent pair, None if none occurs `least` times."""
        while self._queue:
            count, pair = heapq.heappop(self._queue)
            if -count == self._pairs[pair]:
                return pair if -count >= least else None
        return None

    def merge(self, pair: Pair) -> str:
        """Join `pair` wherever it stands; return the new piece."""
        merged = pair[0] + pair[1].removeprefix(CONTINUED)
        touched: set[Pair] = set()
        for number in sorted(self._holders.pop(pair)):
            touched |= self._count(number, -1)
            row, joined, place = self._rows[number], [], 0
            while place < len(row):
                if tuple(row[place : place + 2]) == pair:
                    joined.append(merged)
                    place += 2
                else:
                    joined.append(row[place])
                    place += 1
            self._rows[number] = joined
            touched |= self._count(number, 1)
        for other in touched - {pair}:
            heapq.heappush(self._queue, (-self._pairs[other], other))
        return merged

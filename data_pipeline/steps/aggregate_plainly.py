"""The aggregation in one process and in memory: the plain twin of the steps that work by bucket.

Whatever the order in which pairs arrive, the outcome is the same: every choice is made by score,
then key, then address. The tests compare the two.
"""

from collections.abc import Iterable

from data_pipeline.recipe import Aggregate
from data_pipeline.steps.near_duplicates import group
from data_pipeline.steps.pair import SAME_BYTES, SAME_LOOK, TOO_COMMON, Outcome, Pair, text_key


def decide(pairs: Iterable[Pair], settings: Aggregate, single: bool) -> list[Outcome]:
    """Return the outcome of every pair; `single`: of its captions a kept pair keeps the best.

    First texts that stand with too many images go, wherever they stand; a pair falls back on its
    next best text. Then, of the pairs of one image, of equal bytes or near looks, the best stays.
    """
    everything = sorted(pairs, key=Pair.rank)
    outcomes: list[Outcome] = []
    left = everything
    if settings.enabled:
        common = common_texts(everything, settings.max_images_per_text)
        left = []
        for pair in everything:
            rest = tuple(c for c in pair.captions if text_key(c[0]) not in common)
            if rest or not pair.captions:
                left.append(pair.with_captions(rest))
            else:
                outcomes.append(Outcome(pair, TOO_COMMON))
        left.sort(key=Pair.rank)
    best: dict[str, Pair] = {}
    for pair in left:
        if pair.sha256 in best:
            outcomes.append(Outcome(pair, SAME_BYTES, best[pair.sha256].sha256))
            if not single:
                best[pair.sha256] = best[pair.sha256].joined([pair.captions])
        else:
            best[pair.sha256] = pair
    chosen = list(best.values())
    same_as = _near_duplicates(chosen, settings) if settings.enabled else {}
    for pair in chosen:
        kept = pair.with_captions(pair.captions[:1]) if single else pair
        other = same_as.get(pair.sha256, "")
        outcomes.append(Outcome(kept, SAME_LOOK if other else "", other))
    return outcomes


def common_texts(pairs: list[Pair], most: int) -> set[str]:
    """Return the keys of the texts that stand with more than `most` different images."""
    images: dict[str, set[str]] = {}
    for pair in pairs:
        for text, _, _ in pair.captions:
            images.setdefault(text_key(text), set()).add(pair.sha256)
    return {key for key, found in images.items() if len(found) > most}


def _near_duplicates(chosen: list[Pair], settings: Aggregate) -> dict[str, str]:
    """Return, for each image that another one stands for, the hash of that other.

    Images near each other form a group, by chains too; the best pair of a group stands for it.
    """
    hashes = [int(pair.phash or "0", 16) for pair in chosen]
    groups = group(hashes, settings.near_duplicate_bits)
    first: dict[int, int] = {}
    order = sorted(range(len(chosen)), key=lambda number: chosen[number].rank())
    same_as: dict[str, str] = {}
    for number in order:
        leader = first.setdefault(groups[number], number)
        if leader != number:
            same_as[chosen[number].sha256] = chosen[leader].sha256
    return same_as

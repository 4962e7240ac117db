"""A pair on its way through the aggregation: an image with the texts that agree with it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from data_pipeline.steps.tables import Row
from data_pipeline.steps.text_rules import words_of

TOO_COMMON = "text-too-common"
SAME_BYTES = "duplicate"
SAME_LOOK = "near-duplicate"

Captions = tuple[tuple[str, str, float], ...]  # text, source, score; best first


@dataclass(frozen=True)
class Pair:
    """A candidate whose text passed the score."""

    partition: int
    row: int
    url: str
    page: str
    position: int
    sha256: str
    phash: str
    captions: Captions

    def rank(self) -> tuple[Any, ...]:
        """Return what puts the best pair first: score, then key, then address."""
        return (-self.score, self.sha256, self.url, self.page, self.position)

    @property
    def score(self) -> float:
        """The score of the best text, 0 for an image that nobody described."""
        return self.captions[0][2] if self.captions else 0.0

    def with_captions(self, captions: Captions) -> "Pair":
        """Return the pair with other captions."""
        return self if captions == self.captions else replace(self, captions=captions)

    def joined(self, others: Iterable[Captions]) -> "Pair":
        """Return the pair with the captions of other pairs of its image behind its own."""
        captions = list(self.captions)
        known = {text for text, _, _ in captions}
        for other in others:
            captions += [caption for caption in other if caption[0] not in known]
            known.update(text for text, _, _ in other)
        return self.with_captions(tuple(captions))


@dataclass(frozen=True)
class Outcome:
    """What became of a pair: `reason` "" if it is kept; `same_as` names the image kept instead."""

    pair: Pair
    reason: str
    same_as: str = ""

    def to_row(self) -> Row:
        """Return the row of the table of outcomes."""
        return {
            "row": self.pair.row,
            "reason": self.reason,
            "captions": captions_to_json(self.pair.captions),
            "same_as": self.same_as,
        }


def captions_to_json(captions: Captions) -> str:
    """Return captions as the tables hold them."""
    content = [{"text": text, "source": src, "score": score} for text, src, score in captions]
    return json.dumps(content, ensure_ascii=False)


def text_key(text: str) -> str:
    """Return what makes two texts the same: their words in lower case."""
    return " ".join(words_of(text)).lower()

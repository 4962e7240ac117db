"""The texts of ViLBERT's samples: a caption, tags if wanted, and one of them another image's."""

from dataclasses import dataclass

import numpy as np

from data_pipeline.corpus.reader import Corpus, Sample
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import RETRIES, Change, change_for
from pretrain.models.vilbert_config import ViLBertConfig


@dataclass(frozen=True)
class Drawn:
    """What is said about an image, and what of it is another image's."""

    caption: str
    tags: str
    change: Change


class ViLBertTexts:
    """Draws the texts of samples; `caption_share` of them get another's caption if it `pollutes`.

    Others get another's tags, so that half of all are polluted.
    """

    def __init__(
        self, source: PairSource, config: ViLBertConfig, pollutes: bool, caption_share: float
    ) -> None:
        self._source = source
        self._config = config
        self._pollutes = pollutes
        self._caption_share = caption_share

    def at(self, place: Place, sample: Sample) -> Drawn:
        """Return the texts of `sample`, at `place`."""
        source = self._source
        caption = source.caption(sample, source.chance(place, "caption").random())
        tags = self.tags(place, sample)
        if not self._pollutes:
            return Drawn(caption, tags, "nothing")
        chance = source.chance(place, "pollution")
        change = change_for(chance.random(), self._caption_share, bool(tags))
        return self._exchanged(place, sample, Drawn(caption, tags, change), chance)

    def tags(self, of: Place | Corpus, sample: Sample) -> str:
        """Return the tags of `sample` as text, nothing where the model reads none."""
        config = self._config
        if not config.tags:
            return ""
        return self._source.tags(of, sample, config.tag_confidence, config.tag_attributes)

    def _exchanged(
        self, place: Place, sample: Sample, own: Drawn, chance: np.random.Generator
    ) -> Drawn:
        """Return `own` with caption or tags of another sample of the same corpus, by its change.

        Draws again, ten times at most, while the other text is empty or one of the sample's own;
        but captions once and from all samples with `random_caption` "as_published".
        """
        source, caption, tags, change = self._source, own.caption, own.tags, own.change
        if change == "nothing":
            return own
        if change == "caption" and self._config.random_caption == "as_published":
            corpus = source.corpus(place)
            number, which = chance.random(2)
            return Drawn(source.caption(corpus[int(number * len(corpus))], which), tags, change)
        barred = {"", *(entry["text"] for entry in sample.meta["captions"])}
        for number, which in chance.random((RETRIES, 2)):
            other = source.other(place, number)
            if change == "caption":
                caption = source.caption(other, which)
                if caption not in barred:
                    break
            else:
                found = self.tags(place, other)
                tags = found or own.tags
                if found not in ("", own.tags):
                    break
        return Drawn(caption, tags, change)

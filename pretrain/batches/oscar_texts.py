"""Which caption and which tags an Oscar sample reads, and whether one of them is another's.

A sample's pairs are its captions, each with the tags, and, where questions are used, its questions,
each with its answer; Oscar's released corpora hold both kinds as lines of their own.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from data_pipeline.corpus.reader import Corpus, Sample
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, RETRIES, Change, change_for
from pretrain.models.oscar_config import OscarConfig


@dataclass(frozen=True)
class Texts:
    """One sample with the texts it is read with, and what was done to them."""

    sample: Sample
    caption: str
    tags: str
    change: Change = "nothing"


class OscarTexts:
    """Draws the texts of samples for the objectives of one stage."""

    def __init__(
        self, source: PairSource, config: OscarConfig, objectives: Collection[str]
    ) -> None:
        self._source = source
        self._config = config
        self.pollutes = "contrast" in objectives or "itm" in objectives
        # Without the contrast there are two kinds of pairs alone, half and half.
        both = "contrast" in objectives
        self._caption_share = float(config.texta_false_prob) if both else CLEAN_ABOVE

    def tags(self, of: Place | Corpus, sample: Sample) -> str:
        """Return the tags of `sample`, a sample of the corpus `of`, from where they come from."""
        config = self._config
        if config.tag_source == "none":
            return ""
        phrases = sample.meta.get("regions_text", [])
        if config.tag_source == "annotated" and phrases:
            return " ".join(dict.fromkeys(phrase["phrase"] for phrase in phrases))
        return self._source.tags(of, sample, config.tag_confidence, config.tag_attributes)

    def _pair(self, place: Place, sample: Sample, draw: float) -> tuple[str, str]:
        """Return caption and tags, or question and answer, of `sample`; `draw` chooses evenly."""
        captions = sample.meta["captions"]
        questions = self._questions(sample) if self._config.use_questions else []
        number = int(draw * (len(captions) + len(questions)))
        if number < len(captions):
            return captions[number]["text"], self.tags(place, sample)
        pair = questions[number - len(captions)]
        return pair["question"], pair["answer"]

    @staticmethod
    def _questions(sample: Sample) -> list[dict[str, str]]:
        found: list[dict[str, str]] = sample.meta.get("questions", [])
        return found

    def at(self, place: Place, sample: Sample) -> Texts:
        """Return `sample`, which is at `place`, with its texts, one of them exchanged or none."""
        draw = self._source.chance(place, "caption").random()
        caption, tags = self._pair(place, sample, draw)
        if not self.pollutes:
            return Texts(sample, caption, tags)
        chance = self._source.chance(place, "pollution")
        change = change_for(chance.random(), self._caption_share, bool(tags))
        if change == "caption":
            caption = self._foreign(place, chance, change, caption)
        elif change == "tags":
            tags = self._foreign(place, chance, change, tags)
        return Texts(sample, caption, tags, change)

    def _foreign(self, place: Place, chance: np.random.Generator, change: Change, own: str) -> str:
        """Return a caption, or tags, from another sample of the same corpus.

        Draws again, ten times at most, while what is found is empty or equal to `own`: it would be
        a pair called wrong that is right.
        """
        text = own
        for draw, which in chance.random((RETRIES, 2)):
            other = self._source.other(place, draw)
            if change == "caption":
                found = self._pair(place, other, which)[0]
            else:
                found = self._foreign_tags(place, other, which)
            text = found or text
            if found not in ("", own):
                break
        return text

    def _foreign_tags(self, place: Place, other: Sample, which: float) -> str:
        """Return what stands for wrong tags of `other`, by the mode; empty if it has none."""
        mode = self._config.textb_sample_mode
        if mode == 2:
            questions = self._questions(other)
            return questions[int(which * len(questions))]["answer"] if questions else ""
        if mode == 0:
            side, rest = divmod(2 * which, 1.0)
            return self._pair(place, other, rest)[int(side)]
        return self._pair(place, other, which)[1]

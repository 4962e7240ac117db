"""Which sentence, tags and answers stand beside an image in LXMERT's batches.

A sample's captions and questions are its sentences, all equally likely; half of the samples get
one of another image instead. With Oscar's contrast, some get another image's tags.
"""

from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.corpus.reader import Corpus, Sample
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import RETRIES, Change, change_for
from pretrain.models.lxmert_config import LxmertConfig


@dataclass(frozen=True)
class Sentence:
    """One sentence: its text, the tags behind it, and the answers if it is a question."""

    text: str
    tags: str = ""
    answers: tuple[str, ...] = ()
    change: Change = "nothing"


def sentences(sample: Sample, questions: bool = True) -> list[Sentence]:
    """Return the captions of `sample` and, each once with all of its answers, its questions."""
    found = [Sentence(caption["text"]) for caption in sample.meta["captions"]]
    answers: dict[str, tuple[str, ...]] = {}
    for entry in sample.meta.get("questions", []) if questions else []:
        answers[entry["question"]] = (*answers.get(entry["question"], ()), entry["answer"])
    return found + [Sentence(text, answers=given) for text, given in answers.items()]


class SentenceSource:
    """Draws the sentences of one stage; `caption_share` of the samples get another image's.

    pollutes: whether anything is exchanged at all.
    """

    def __init__(
        self, source: PairSource, config: LxmertConfig, pollutes: bool, caption_share: float
    ) -> None:
        self._source = source
        self._config = config
        self._pollutes = pollutes
        self._caption_share = caption_share

    def tags(self, of: Place | Corpus, sample: Sample) -> str:
        """Return the tags of `sample` as text, nothing where the model reads none."""
        config = self._config
        if not config.tags:
            return ""
        return self._source.tags(of, sample, config.tag_confidence, config.tag_attributes)

    def draw(self, place: Place, sample: Sample) -> Sentence:
        """Return what stands beside the image of `sample`, the sample at `place`."""
        own = self._one_of(sample, self._source.chance(place, "caption").random())
        own = replace(own, tags=self.tags(place, sample))
        if not self._pollutes:
            return own
        chance = self._source.chance(place, "pollution")
        change = change_for(chance.random(), self._caption_share, bool(own.tags))
        if change == "caption":
            return self._other_sentence(place, sample, own, chance)
        if change == "tags":
            return self._other_tags(place, own, chance)
        return own

    def _one_of(self, sample: Sample, draw: float) -> Sentence:
        """Return one of the sentences of `sample`, chosen evenly by `draw` in [0, 1)."""
        found = sentences(sample, self._config.questions)
        return found[int(draw * len(found))]

    def _other_sentence(
        self, place: Place, sample: Sample, own: Sentence, chance: np.random.Generator
    ) -> Sentence:
        """Return another image's sentence with the own tags.

        The published code looks at nothing but that it is another image. The sound form draws again
        while this image has the same sentence, and keeps the own one if ten draws bring no other.
        """
        sound = self._config.random_sentence == "sound"
        texts = {sentence.text for sentence in sentences(sample, self._config.questions)}
        for number, which in chance.random((RETRIES, 2)):
            found = self._one_of(self._source.other(place, number), which)
            if not sound or found.text not in texts:
                return Sentence(found.text, own.tags, change="caption")
        return own

    def _other_tags(self, place: Place, own: Sentence, chance: np.random.Generator) -> Sentence:
        """Return the own sentence with another image's tags, its own if ten draws bring no other.

        Sets of tags are compared, not their order.
        """
        for number in chance.random(RETRIES):
            found = self.tags(place, self._source.other(place, number))
            if found and set(found.split()) != set(own.tags.split()):
                return replace(own, tags=found, change="tags")
        return own

"""Image and text of a sample, and those of others: what every family's batches draw from corpora.

Each draw has a key of its own (seed, stage, epoch, corpus, sample, purpose), so that nothing that
happens to a sample depends on the batch it is in, on workers or on restarts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.corpus.regions import Regions
from pretrain.batches.checks import CAPTIONS_FIX, check_captions
from pretrain.batches.order import Place as Place
from pretrain.batches.pollute import other_sample
from pretrain.batches.tags import tag_text
from trawl.chance import generator
from trawl.errors import WorkError


class PairSource:
    """The corpora of one stage, and the chances of its samples.

    Raises RequestError for a corpus with fewer captions than samples.
    """

    def __init__(self, corpora: Sequence[Corpus], seed: int, stage: str) -> None:
        for corpus in corpora:
            check_captions(corpus)
        self.corpora = list(corpora)
        self._key = (seed, stage)

    def chance(self, place: Place, purpose: str) -> np.random.Generator:
        """Return the generator of one sample in one epoch for one purpose."""
        corpus, sample, epoch, _ = place
        return generator(*self._key, epoch, corpus, sample, purpose)

    def corpus(self, place: Place) -> Corpus:
        """Return the corpus that holds the sample at `place`."""
        return self.corpora[place[0]]

    def sample(self, place: Place) -> Sample:
        """Return the sample at `place`."""
        return self.corpora[place[0]][place[1]]

    def samples(self, places: Sequence[Place]) -> list[Sample]:
        """Return the samples at `places`, those of a corpus located together."""
        found: dict[int, Sample] = {}
        for number, corpus in enumerate(self.corpora):
            own = [row for row, place in enumerate(places) if place[0] == number]
            found.update(zip(own, corpus.samples([places[row][1] for row in own]), strict=True))
        return [found[row] for row in range(len(places))]

    def other(self, place: Place, draw: float) -> Sample:
        """Return another sample of the same corpus, chosen evenly by `draw` in [0, 1).

        Raises WorkError if the corpus has one sample alone.
        """
        corpus = self.corpora[place[0]]
        return corpus[other_sample(draw, place[1], len(corpus))]

    def caption(self, sample: Sample, draw: float) -> str:
        """Return one of the captions of `sample`, chosen evenly by `draw` in [0, 1).

        Raises WorkError if it has none.
        """
        captions = _captions(sample)
        text: str = captions[int(draw * len(captions))]["text"]
        return text

    def tags(
        self, of: Place | Corpus, sample: Sample, confidence: float, attributes: bool = False
    ) -> str:
        """Return the tags of `sample`, a sample of the corpus `of`, as text; see `tag_text`."""
        corpus = of if isinstance(of, Corpus) else self.corpora[of[0]]
        return tag_text(sample, corpus.manifest.detector, confidence, attributes)

    def region(self, place: Place, draw: float) -> Regions:
        """Return one region, alone, of any sample of the same corpus, `draw` in [0, 1).

        Samples are equally likely, and the regions of one too; a sample without regions passes the
        question on to the next. Raises WorkError if no sample has any.
        """
        corpus = self.corpora[place[0]]
        number, rest = divmod(draw * len(corpus), 1.0)
        for step in range(len(corpus)):
            regions = corpus.regions((int(number) + step) % len(corpus))
            if len(regions):
                row = int(rest * len(regions))
                return regions.part(slice(row, row + 1))
        raise WorkError(f"{corpus.uri}: no sample has regions")


def first_caption(sample: Sample) -> str:
    """Return the first caption of `sample`; WorkError if it has none."""
    text: str = _captions(sample)[0]["text"]
    return text


def _captions(sample: Sample) -> list[dict[str, Any]]:
    captions: list[dict[str, Any]] = sample.meta["captions"]
    if not captions:
        raise WorkError(f"sample {sample.key} has no caption; {CAPTIONS_FIX}")
    return captions

"""The cosines of CLIP for the pairs of one bucket: each image and each text is embedded once."""

import itertools
import json

from data_pipeline.images import decode
from data_pipeline.steps.clip import Embedding, cosine, load_clip
from data_pipeline.steps.detect import read_spots
from data_pipeline.steps.tables import Row
from data_pipeline.units import Work


class ClipScores:
    """Scores the pairs of one unit, and keeps the embeddings of its images: 2 KB each."""

    def __init__(self, work: Work) -> None:
        settings = work.recipe.score
        self._clip = load_clip(settings.model, settings.batch)
        self._bins = work.earlier("download", "images.bin")
        self._max_pixels = work.recipe.image_filter.max_pixels
        self._images: dict[str, Embedding] = {}

    def of(self, pairs: list[Row]) -> list[dict[str, float]]:
        """Return for each pair the cosines of its texts with its image, by text."""
        self._embed_images(pairs)
        texts = [[text for _, text, _ in json.loads(pair["texts"])] for pair in pairs]
        distinct = list(dict.fromkeys(itertools.chain.from_iterable(texts)))
        embedded = dict(zip(distinct, self._clip.texts(distinct), strict=True))
        return [
            {text: cosine(self._images[pair["sha256"]], embedded[text]) for text in found}
            for pair, found in zip(pairs, texts, strict=True)
        ]

    def _embed_images(self, pairs: list[Row]) -> None:
        """Embed the images that are not known yet, in the order in which their bytes lie."""
        fresh = {pair["sha256"]: pair for pair in pairs if pair["sha256"] not in self._images}
        order = sorted(fresh, key=lambda digest: (fresh[digest]["unit"], fresh[digest]["offset"]))
        spots = ({**fresh[digest], "uri": self._bins[fresh[digest]["unit"]]} for digest in order)
        pictures = (decode(data, self._max_pixels) for data in read_spots(spots))
        self._images.update(zip(order, self._clip.images(pictures), strict=True))

"""Step 4, score: how well each text that is left agrees with its image.

The score of a text with words that the model knows is the probability that it belongs to the
image; that of any other text is half the trust in its source, for nothing speaks against it.
With `score.model: text` no image is looked at, and what trust a text has was found out with the
sentences: see `caption_evidence`.
"""

import collections
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline.corpus.schema import Caption
from data_pipeline.plugged_in import fingerprint, is_clip
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps import caption_evidence
from data_pipeline.steps.agreement import (
    NEUTRAL,
    AgreementModel,
    Seen,
    agreement,
    load_model,
    model_sha256,
    seen_in,
)
from data_pipeline.steps.buckets import digest_of_text
from data_pipeline.steps.clip_scores import ClipScores
from data_pipeline.steps.decontaminate import EVALUATION_SET, of_evaluation_sets
from data_pipeline.steps.pair import text_key
from data_pipeline.steps.tables import SCORED, Row, iterate_partition, iterate_rows, partitioned
from data_pipeline.units import Result, Work
from trawl import storage

LOW = "low-score"
_KEPT = ("partition", "row", "url", "page", "position", "sha256", "phash")
_NEEDED = ("texts", "unit", "offset", "size")


def run(work: Work) -> Result:
    """Score the texts of the pairs of one bucket; those of evaluation sets are dropped."""
    seen = _seen_images(work, work.unit.inputs["groups"])
    counts: collections.Counter[str] = collections.Counter()
    scorer = Scorer(work.recipe)
    clip = ClipScores(work) if is_clip(work.recipe) else None
    with partitioned(work.place("scored.parquet"), SCORED) as table:
        for pairs in _routed(work):
            held_out = of_evaluation_sets(pairs, work.recipe)
            cosines = clip.of(pairs) if clip else [None] * len(pairs)
            for pair, found in zip(pairs, cosines, strict=True):
                captions = scorer.captions(json.loads(pair["texts"]), seen[pair["sha256"]], found)
                row = _scored(pair, *captions, work.recipe.score.threshold)
                if pair["sha256"] in held_out:
                    row["reason"] = EVALUATION_SET
                counts[row["reason"] or "passed"] += 1
                table.add(pair["partition"], row)
    return {"counts": dict(counts)}


def _routed(work: Work) -> Iterator[list[Row]]:
    """Yield the pairs of the bucket, some at a time."""
    bucket = int(work.unit.inputs["bucket"])
    for place in work.earlier("route", "routed.parquet").values():
        for part in iterate_partition(place, bucket, (*_KEPT, *_NEEDED)):
            yield part.to_pylist()


def _scored(pair: Row, captions: list[Row], evidence: list[float | None], threshold: float) -> Row:
    """Return the row of a pair whose texts are scored."""
    best = captions[0]["score"] if captions else 1.0  # nobody described it: nothing to doubt
    return {
        **{name: pair[name] for name in _KEPT},
        "reason": "" if best >= threshold else LOW,
        "captions": json.dumps(captions, ensure_ascii=False),
        "evidence": json.dumps(evidence),
        "text_digests": [digest_of_text(text_key(caption["text"])) for caption in captions],
        "text_scores": [caption["score"] for caption in captions],
    }


def _seen_images(work: Work, groups: list[str]) -> dict[str, Seen]:
    """Return what was detected in the images of some groups."""
    detector = detector_of(work)
    places = work.earlier("detect", "detections.parquet")
    return {
        row["sha256"]: seen_in(row, detector["objects"], detector["attributes"])
        for group in groups
        for row in iterate_rows(places[group])
    }


def detector_of(work: Work) -> dict[str, Any]:
    """Return what the detection units said of their detector."""
    record: dict[str, Any] = storage.read_json(work.earlier("detect", "detector.json")["00000"])
    return record


class Scorer:
    """Scores texts by one recipe."""

    def __init__(self, recipe: CorpusRecipe) -> None:
        self._enabled = recipe.score.enabled
        by_words = recipe.score.model != caption_evidence.NAME and not is_clip(recipe)
        self._model: AgreementModel | None = (
            load_model(recipe.score.model) if self._enabled and by_words else None
        )

    def captions(
        self, texts: list[Any], seen: Seen, cosines: Mapping[str, float] | None = None
    ) -> tuple[list[Row], list[float | None]]:
        """Return scored captions, best first, and the agreement found for each (None: unknown).

        texts are (source, text, trust); with `cosines` of CLIP, by text, these are the scores. Of
        equal scores the more trusted source comes first, then the longer text, then the alphabet.
        """
        scored = []
        for source, text, trust in texts:
            known = self._agreement(text, seen) if cosines is None else cosines[text]
            score = NEUTRAL * trust if known is None else known
            caption = Caption(text=text, source=source, score=round(score, 4)).model_dump()
            scored.append((caption, known, trust))
        if self._enabled:
            scored.sort(key=lambda entry: _rank(entry[0], entry[2]))
        return [entry[0] for entry in scored], [
            None if entry[1] is None else round(entry[1], 4) for entry in scored
        ]

    def _agreement(self, text: str, seen: Seen) -> float | None:
        if self._model is not None:
            return agreement(text, seen, self._model)
        return None if self._enabled else 1.0


def _rank(caption: Row, trust: float) -> tuple[Any, ...]:
    return (-caption["score"], -trust, -len(caption["text"]), caption["text"])


def scorer_sha256(recipe: CorpusRecipe) -> str:
    """Return the hash that names what scores the texts, "" if nothing does."""
    if not recipe.score.enabled:
        return ""
    if recipe.score.model == caption_evidence.NAME:
        return hashlib.sha256(caption_evidence.VERSION.encode()).hexdigest()
    if is_clip(recipe):
        return fingerprint(recipe.score.model)
    return model_sha256(load_model(recipe.score.model))

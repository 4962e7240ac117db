"""Step 4, score: how well each text that is left agrees with its image.

The score of a text with words that the model knows is the probability that it belongs to the
image; that of any other text is half the trust in its source, for nothing speaks against it.
"""

import collections
import json
from typing import Any

from data_pipeline.corpus.schema import Caption
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.agreement import (
    NEUTRAL,
    AgreementModel,
    Seen,
    agreement,
    load_model,
    seen_in,
)
from data_pipeline.steps.tables import (
    SCORED,
    Row,
    iterate_rows,
    read_rows,
    write_rows,
)
from data_pipeline.units import Result, Work
from trawl import storage

LOW = "low-score"


def run(work: Work) -> Result:
    """Score the texts of the candidates of one partition whose images passed."""
    partition = work.unit.name
    images = passed_images(work, partition)
    seen = _seen_images(work, {row["sha256"] for row in images.values()})
    counts: collections.Counter[str] = collections.Counter()
    scorer = Scorer(work.recipe)
    candidates = read_rows(work.earlier("gather", "candidates.parquet")[partition])
    rows = []
    for texts in iterate_rows(work.earlier("sentences", "texts.parquet")[partition]):
        image = images.get(texts["url"])
        if texts["reason"] or image is None:
            continue
        captions, evidence = scorer.captions(json.loads(texts["texts"]), seen[image["sha256"]])
        reason = "" if captions[0]["score"] >= work.recipe.score.threshold else LOW
        counts[reason or "passed"] += 1
        candidate = candidates[texts["row"]]
        rows.append(
            {
                "partition": int(partition),
                "row": texts["row"],
                **{name: candidate[name] for name in ("url", "page", "position")},
                "sha256": image["sha256"],
                "phash": image["phash"],
                "reason": reason,
                "captions": json.dumps(captions, ensure_ascii=False),
                "evidence": json.dumps(evidence),
            }
        )
    write_rows(work.place("scored.parquet"), rows, SCORED)
    return {"counts": dict(counts)}


def passed_images(work: Work, partition: str) -> dict[str, Row]:
    """Return the images of a partition that passed the filter, by address: download and looks."""
    found: dict[str, Row] = {}
    images = work.earlier("download", "images.parquet")
    looks = work.earlier("image_filter", "looks.parquet")
    for unit in (name for name in images if name.partition("-")[0] == partition):
        by_hash = {row["sha256"]: row for row in read_rows(looks[unit]) if not row["reason"]}
        for row in read_rows(images[unit], ["url", "sha256"]):
            if row["sha256"] in by_hash:
                found[row["url"]] = by_hash[row["sha256"]]
    return found


def _seen_images(work: Work, wanted: set[str]) -> dict[str, Seen]:
    """Return what was detected in the images with the hashes `wanted`."""
    detector = detector_of(work)
    seen: dict[str, Seen] = {}
    for place in work.earlier("detect", "detections.parquet").values():
        for row in iterate_rows(place):
            if row["sha256"] in wanted:
                seen[row["sha256"]] = seen_in(row, detector["objects"], detector["attributes"])
    return seen


def detector_of(work: Work) -> dict[str, Any]:
    """Return what the detection units said of their detector."""
    record: dict[str, Any] = storage.read_json(work.earlier("detect", "detector.json")["00000"])
    return record


class Scorer:
    """Scores texts by one recipe."""

    def __init__(self, recipe: CorpusRecipe) -> None:
        self._enabled = recipe.score.enabled
        self._model: AgreementModel | None = (
            load_model(recipe.score.model) if self._enabled else None
        )

    def captions(self, texts: list[Any], seen: Seen) -> tuple[list[Row], list[float | None]]:
        """Return scored captions, best first, and the agreement found for each (None: unknown).

        texts are (source, text, trust); of equal scores the more trusted source comes first, then
        the longer text, then the alphabet.
        """
        scored = []
        for source, text, trust in texts:
            known = self._agreement(text, seen)
            score = NEUTRAL * trust if known is None else known
            caption = Caption(text=text, source=source, score=round(score, 4)).model_dump()
            scored.append((caption, known, trust))
        if self._enabled:
            scored.sort(key=lambda entry: _rank(entry[0], entry[2]))
        return [entry[0] for entry in scored], [
            None if entry[1] is None else round(entry[1], 4) for entry in scored
        ]

    def _agreement(self, text: str, seen: Seen) -> float | None:
        return agreement(text, seen, self._model) if self._model is not None else 1.0


def _rank(caption: Row, trust: float) -> tuple[Any, ...]:
    return (-caption["score"], -trust, -len(caption["text"]), caption["text"])

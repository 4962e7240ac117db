"""Trains the built-in model of image-text agreement from a clean corpus: lexicon, then weights.

A word gets the label with which it occurs far more often than chance: the label's mean confidence
over the images whose captions hold the word, against its mean over all images. The weights come
from a logistic regression that tells captions of the image from captions of other images, half of
them chosen to share a word with the right ones.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.reader import Corpus
from data_pipeline.steps.agreement import (
    FEATURES,
    AgreementModel,
    Seen,
    features_of,
    read_text,
    seen_in,
    words_in,
)
from data_pipeline.steps.detect import shown
from trawl import chance, storage
from trawl.errors import WorkError

Example = tuple[list[str], Seen]  # the captions of one image, and what was seen in it

_LEAST_IMAGES = 5  # that a word must occur with
_LEAST_CONFIDENCE = 0.5  # mean confidence of the label, given the word
_LEAST_RISE = 0.45  # of that mean above the label's mean over all images
_NEWTON_STEPS = 30
_RIDGE = 1e-2
_HELD_OUT = 5  # one image in so many is kept for the figures


def train(uri: str, out: Path, seed: int = 0) -> str:
    """Train on the corpus at `uri`, write the model to `out`, return its figures as a sentence."""
    corpus = Corpus(uri)
    examples = list(read_examples(corpus))
    learning = [example for n, example in enumerate(examples) if n % _HELD_OUT]
    held_out = [example for n, example in enumerate(examples) if not n % _HELD_OUT]
    source = f"{corpus.manifest.name}, {corpus.manifest.sha256()}"
    model = fit(learning, source, seed)
    precision, recall = measure(model, held_out, seed)
    storage.write_json(out, model.model_dump())
    return (
        f"{out}: {len(model.objects)} words for objects, {len(model.attributes)} for attributes; "
        f"on {len(held_out)} images held out, precision {precision:.4f}, recall {recall:.4f} at 0.5"
    )


def read_examples(corpus: Corpus) -> Iterable[Example]:
    """Yield captions and detections of each sample of a corpus."""
    detector = corpus.manifest.detector
    for number in range(len(corpus)):
        sample = corpus[number]
        captions = [caption["text"] for caption in sample.meta["captions"]]
        seen = seen_in(shown(sample.regions), detector.objects, detector.attributes)
        yield captions, seen


def fit(examples: Sequence[Example], source: str, seed: int) -> AgreementModel:
    """Learn lexicon and weights; WorkError if there is nothing to learn from."""
    objects = lexicon(examples, "objects")
    attributes = lexicon(examples, "attributes")
    if not objects:
        raise WorkError(f"{source}: no word goes with any detected object; is the corpus clean?")
    untrained = AgreementModel(
        version=1,
        source=source,
        objects=objects,
        attributes={word: name for word, name in attributes.items() if word not in objects},
        weights={},
    )
    inputs, labels = comparisons(untrained, examples, seed)
    weights = logistic_regression(inputs, labels)
    rounded = {name: round(float(w), 4) for name, w in zip(FEATURES, weights, strict=True)}
    return untrained.model_copy(update={"weights": rounded})


def lexicon(examples: Sequence[Example], part: str) -> dict[str, str]:
    """Return the label of each word that goes with one; `part` is "objects" or "attributes"."""
    base: Counter[str] = Counter()
    with_word: dict[str, Counter[str]] = defaultdict(Counter)
    images: Counter[str] = Counter()
    for captions, seen in examples:
        confidences: dict[str, float] = getattr(seen, part)
        base.update(confidences)
        for word in {word for caption in captions for word in words_in(caption)}:
            images[word] += 1
            with_word[word].update(confidences)
    found = {}
    for word in sorted(images):
        if images[word] < _LEAST_IMAGES:
            continue
        name, mean, rise = _strongest(with_word[word], base, images[word], len(examples))
        if mean >= _LEAST_CONFIDENCE and rise >= _LEAST_RISE:
            found[word] = name
    return found


def _strongest(
    sums: Counter[str], base: Counter[str], count: int, total: int
) -> tuple[str, float, float]:
    """Return the label whose mean rises most with the word, that mean, and by how much it rises."""
    rises = {name: sums[name] / count - base[name] / total for name in sums}
    best = max(rises, key=lambda name: (rises[name], name), default="")
    return (best, sums[best] / count, rises[best]) if best else ("", 0.0, 0.0)


def comparisons(
    model: AgreementModel, examples: Sequence[Example], seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return features [n, features] and labels [n] of right and wrong pairs, as many of each."""
    draw = chance.generator("score-training", seed)
    by_label: dict[str, list[int]] = defaultdict(list)
    for number, (captions, _) in enumerate(examples):
        for caption in captions:
            for name in read_text(caption, model).objects:
                by_label[name].append(number)
    rows, labels = [], []
    for number, (captions, seen) in enumerate(examples):
        for turn, caption in enumerate(captions):
            reading = read_text(caption, model)
            if reading.is_silent():
                continue
            other = int(draw.integers(len(examples)))
            alike = by_label.get(reading.objects[0], []) if reading.objects else []
            if turn % 2 and alike:
                other = alike[int(draw.integers(len(alike)))]
            if other == number:
                continue
            rows.append(features_of(reading, seen))
            labels.append(1.0)
            rows.append(features_of(reading, examples[other][1]))
            labels.append(0.0)
    return np.array(rows), np.array(labels)


def logistic_regression(
    inputs: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the weights [features] that fit best, by Newton's method with a small ridge."""
    weights = np.zeros(inputs.shape[1])
    ridge = _RIDGE * np.eye(inputs.shape[1])
    for _ in range(_NEWTON_STEPS):
        share = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))  # [n]
        gradient = inputs.T @ (share - labels) + ridge @ weights
        curvature = (inputs * (share * (1 - share))[:, None]).T @ inputs + ridge
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def measure(model: AgreementModel, examples: Sequence[Example], seed: int) -> tuple[float, float]:
    """Return precision and recall at 0.5 over right pairs and as many wrong ones, drawn blindly."""
    draw = chance.generator("score-measure", seed)
    weights = np.array([model.weights[name] for name in FEATURES])
    counts: Counter[tuple[bool, bool]] = Counter()
    for number, (captions, seen) in enumerate(examples):
        for caption in captions:
            reading = read_text(caption, model)
            other = int(draw.integers(len(examples)))
            if reading.is_silent() or other == number:
                continue
            for right, image in ((True, seen), (False, examples[other][1])):
                counts[right, bool(features_of(reading, image) @ weights >= 0)] += 1
    accepted = counts[True, True] + counts[False, True]
    rightful = counts[True, True] + counts[True, False]
    return counts[True, True] / max(1, accepted), counts[True, True] / max(1, rightful)

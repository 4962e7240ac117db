"""What a corpus must hold for the objectives of a stage, asked before the first step.

Fields are looked for in the first samples alone: a corpus that has one nowhere among them is taken
to be without it, and to look through a large one would read every shard.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.tokenise import TextEncoder
from trawl.errors import RequestError

CAPTIONS_FIX = "import the corpus with --captions"
LOOKED_AT = 64


@dataclass(frozen=True)
class Field:
    """One field of a corpus: how to see it in a sample, and how a corpus comes to have it."""

    seen: Callable[[Corpus, int], bool]
    fix: str


_REBUILD = "run `trawl corpus build` with"

FIELDS = {
    "regions": Field(
        lambda corpus, number: len(corpus.regions(number)) > 0,
        f"{_REBUILD} a detector in regions.detector",
    ),
    "tags": Field(
        lambda corpus, number: bool(corpus[number].meta["tags"]),
        f"{_REBUILD} a detector in regions.detector, whose objects become tags",
    ),
    "class_probs": Field(
        lambda corpus, number: corpus.regions(number).class_probs is not None,
        f"{_REBUILD} regions.class_probabilities true, or train the hard classes (moc)",
    ),
    "regions_text": Field(
        lambda corpus, number: bool(corpus[number].meta.get("regions_text")),
        f"{_REBUILD} collect.source.kind captions and a file in collect.source.regions",
    ),
    "questions": Field(
        lambda corpus, number: bool(corpus[number].meta.get("questions")),
        f"{_REBUILD} collect.source.kind captions and a file in collect.source.questions",
    ),
    "images": Field(
        lambda corpus, number: corpus.image(number) is not None,
        f"{_REBUILD} shards.image original",
    ),
    "attributes": Field(
        lambda corpus, number: bool((corpus.regions(number).attribute_ids >= 0).any()),
        f"{_REBUILD} a detector in regions.detector that names attributes",
    ),
}


def has(corpus: Corpus, field: str) -> bool:
    """Say whether one of the first samples of `corpus` has `field`, a key of FIELDS."""
    seen = FIELDS[field].seen
    return any(seen(corpus, number) for number in range(min(LOOKED_AT, len(corpus))))


def check_field(corpus: Corpus, field: str, objectives: str | Iterable[str]) -> None:
    """Raise RequestError if `corpus` lacks `field`, which `objectives` need."""
    if not has(corpus, field):
        raise RequestError(
            f"{corpus.uri}: no {field} in the first {min(LOOKED_AT, len(corpus))} samples, and "
            f"{_named(objectives)} it; {FIELDS[field].fix}"
        )


def check_captions(corpus: Corpus) -> None:
    """Raise RequestError if `corpus` has fewer captions than samples: every sample needs one."""
    captions = corpus.manifest.captions
    if captions < len(corpus):
        raise RequestError(
            f"{corpus.uri}: {captions} captions for {len(corpus)} samples, and every sample needs "
            f"one; {CAPTIONS_FIX}"
        )


def check_others(corpus: Corpus, objectives: str | Iterable[str]) -> None:
    """Raise RequestError if `corpus` has no second sample, from which negatives are drawn."""
    if len(corpus) < 2:
        raise RequestError(
            f"{corpus.uri}: {len(corpus)} samples; {_named(objectives, 'take', 'takes')} texts or "
            "images of other samples; give two samples at least"
        )


def check_features(corpus: Corpus, expected: int, key: str, extra: int = 0) -> None:
    """Raise RequestError if the features and `extra` numbers are not `expected` wide.

    `key` is the key of the model's configuration that says how wide its regions are.
    """
    size = corpus.manifest.detector.feature_size
    if size + extra != expected:
        raise RequestError(
            f"{corpus.uri}: {size}-d features, and the model reads vectors of {expected}; set "
            f"model.config.{key} to {size + extra}"
        )


def check_classes(corpus: Corpus, expected: int, key: str, attributes: bool = False) -> None:
    """Raise RequestError if the detector names more objects, or attributes, than the head has."""
    detector = corpus.manifest.detector
    named = len(detector.attributes if attributes else detector.objects)
    if named > expected:
        kind = "attributes" if attributes else "objects"
        raise RequestError(
            f"{corpus.uri}: the detector names {named} {kind}, and the head has {expected}; set "
            f"model.config.{key} to {named}"
        )


def check_distribution(corpus: Corpus, expected: int, key: str) -> None:
    """Raise RequestError if regions have no distribution, or not over as many classes as the head.

    `key` is the key of the model's configuration that says how many classes the head has.
    """
    check_field(corpus, "class_probs", "moc-kl")
    for number in range(min(LOOKED_AT, len(corpus))):
        probabilities = corpus.regions(number).class_probs
        if probabilities is not None and probabilities.shape[1] != expected:
            raise RequestError(
                f"{corpus.uri}: class_probs over {probabilities.shape[1]} classes, and the head "
                f"has {expected}; set model.config.{key} to {probabilities.shape[1]}"
            )


def check_vocabulary(encoder: TextEncoder, expected: int) -> None:
    """Raise RequestError if the tokenizer has more entries than the model has words."""
    if encoder.words > expected:
        raise RequestError(
            f"the tokenizer has {encoder.words} entries and model.config.vocab_size is "
            f"{expected}; make it as large"
        )


def _named(objectives: str | Iterable[str], many: str = "need", one: str = "needs") -> str:
    """Return the objectives in words, with their verb."""
    names = [objectives] if isinstance(objectives, str) else list(objectives)
    return f"{' and '.join(names)} {one if len(names) == 1 else many}"

"""How long a recipe's samples are, seen in the first of them where the corpora are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batch_size import Lengths
from pretrain.batches.order import SampleOrder
from pretrain.batches.tokenise import load_tokenizer, train_tokenizer
from pretrain.construction import batches, captions, sample_lengths
from pretrain.feeding import Batch
from pretrain.measured import COUNTS, Measured
from pretrain.models.families import family_of
from pretrain.recipe import PretrainRecipe, StageRecipe
from trawl.errors import RequestError

_SAMPLES = 64
# Captions of each corpus that a tokenizer is learned from, to see lengths alone.
_CAPTIONS = 500


@dataclass(frozen=True)
class Typical:
    """A sample of a stage, on average."""

    lengths: Mapping[str, float]
    """Of pretrain.measured.COUNTS, without padding."""
    padded: Mapping[str, float]
    """The same with padding."""
    bytes: float | None
    """What it takes in its corpus; None where the corpora are not at hand."""
    described: str
    fitting: Lengths
    """What micro-batches are cut by."""


def vocabulary(recipe: PretrainRecipe) -> int:
    """Return the entries of the recipe's tokenizer; a learned one may get fewer."""
    if recipe.tokenizer.path is not None:
        return len(load_tokenizer(recipe.tokenizer.path))
    return recipe.tokenizer.vocabulary


def typical(recipe: PretrainRecipe, stage: StageRecipe, config: Any) -> Typical:
    """Return what the samples of `stage` are like for a model of `config`.

    Where a corpus is not at hand, the longest sample that the model takes. Raises RequestError for
    corpora that lack what the objectives need.
    """
    try:
        corpora = [Corpus(data.corpus, recipe.feeding.reading()) for data in stage.data]
        tokenizer = _tokenizer(recipe)
    except RequestError as error:
        return _longest(config, str(error))
    maker = batches(recipe, stage, corpora, tokenizer, config)
    sizes = [len(corpus) for corpus in corpora]
    weights = [data.weight for data in stage.data]
    order = SampleOrder(sizes, weights, recipe.seed, stage.name)
    batch = maker.make(order.indices(0, _SAMPLES))
    lengths, padded = _counted(batch), _counted(_unpadded(batch))
    total = sum(weights)
    size = sum(
        weight / total * corpus.manifest.bytes / len(corpus)
        for weight, corpus in zip(weights, corpora, strict=True)
    )
    shown = ", ".join(f"{lengths[name]:.1f} {_WORDS[name]}" for name in COUNTS if lengths[name])
    described = f"{shown}; {size / 1e3:,.1f} kB (mean of {_SAMPLES} samples)"
    fitting = sample_lengths(stage, maker, order, config.longest_sample)
    return Typical(lengths, padded, size, described, fitting)


_WORDS = {
    "text": "tokens",
    "regions": "regions",
    "masked": "masked tokens",
    "predicted": "predicted regions",
}


def _longest(config: Any, reason: str) -> Typical:
    text = float(config.max_seq_length)
    seen = 0.0 if family_of(config).name == "xvlm" else config.longest_sample - text
    masked = getattr(config, "mask_probability", 0.15)
    lengths = dict(zip(COUNTS, (text, seen, masked * text, masked * seen), strict=True))
    described = f"{text:g} tokens, {seen:g} regions, the longest ({reason})"
    return Typical(lengths, lengths, None, described, Lengths(config.longest_sample))


def _counted(batch: Batch) -> dict[str, float]:
    measured = Measured([])
    measured.count(batch)
    return {name: count / _SAMPLES for name, count in measured.counts.items()}


def _unpadded(batch: Batch) -> Batch:
    """Return `batch` with masks that see the padding too."""
    return {
        name: value.clone().fill_(1) if name.endswith("_mask") else value
        for name, value in batch.items()
    }


def _tokenizer(recipe: PretrainRecipe) -> PreTrainedTokenizerBase:
    if recipe.tokenizer.path is not None:
        return load_tokenizer(recipe.tokenizer.path)
    return train_tokenizer(captions(recipe, _CAPTIONS), recipe.tokenizer.vocabulary)

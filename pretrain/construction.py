"""What a stage is made of: tokenizer, corpora, sample order, batches, model and weights."""

import hashlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data_pipeline.corpus.faults import BadShardError
from data_pipeline.corpus.reader import Corpus
from pretrain.batch_size import LOOKED_AT, Lengths
from pretrain.batches.order import SampleOrder
from pretrain.batches.row_batches import RowBatches
from pretrain.batches.tokenise import load_tokenizer, train_tokenizer
from pretrain.checkpoints.pull import verify
from pretrain.checkpoints.shelf import resolve
from pretrain.exit_codes import DataError
from pretrain.kernels.counter_dropout import number_sites
from pretrain.models.bert_initialisation import initialise_from_bert
from pretrain.models.families import Batches, family, family_of
from pretrain.models.loading import load_pretrained
from pretrain.ranks import Ranks
from pretrain.read_ahead import check_cache, windows
from pretrain.recipe import PretrainRecipe, StageInit, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import chance, storage
from trawl.errors import RequestError


@dataclass(frozen=True)
class Parts:
    """The parts of one stage."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    corpora: list[Corpus]
    """One for each entry of the stage's data."""
    order: SampleOrder
    maker: Batches
    lengths: Lengths
    """Text tokens and regions of samples."""
    parent: dict[str, str] | None
    """Name and hash of the release, or of the BERT, whose weights the stage starts from."""


def build(recipe: PretrainRecipe, stage: StageRecipe, run: RunFolder, ranks: Ranks) -> Parts:
    """Return the parts of `stage`, the same on every rank.

    Raises RequestError for a corpus, tokenizer or release that is not there, DataError for a shard
    that cannot be read.
    """
    try:
        return _built(recipe, stage, run, ranks)
    except BadShardError as error:
        raise DataError(str(error)) from error


def _built(recipe: PretrainRecipe, stage: StageRecipe, run: RunFolder, ranks: Ranks) -> Parts:
    reading = recipe.feeding.reading()
    corpora = [Corpus(data.corpus, reading) for data in stage.data]
    check_cache(stage, corpora)
    tokenizer = _tokenizer(recipe, run, ranks)
    # The same draws on every rank: all start from the same weights.
    torch.manual_seed(chance.seed_of(recipe.seed, "weights", stage.name))
    source = _source(recipe, stage, run, ranks)
    model, parent = _from_release(source, run) if source else _new(recipe, stage, len(tokenizer))
    number_sites(model)
    config = model.config
    order = SampleOrder(
        [len(corpus) for corpus in corpora],
        [data.weight for data in stage.data],
        recipe.seed,
        stage.name,
        windows(stage, corpora),
    )
    maker = batches(recipe, stage, corpora, tokenizer, config)
    return Parts(
        model=model,
        tokenizer=tokenizer,
        corpora=corpora,
        order=order,
        maker=maker,
        lengths=sample_lengths(stage, maker, order, config.longest_sample),
        parent=parent,
    )


def batches(
    recipe: PretrainRecipe,
    stage: StageRecipe,
    corpora: list[Corpus],
    tokenizer: PreTrainedTokenizerBase,
    config: Any,
) -> Batches:
    """Return the maker of the batches of `stage`; RequestError where it cannot make them so."""
    kind, batch = family_of(config), stage.batch
    packed = batch.packing == "packed"
    if packed and stage.compile:
        raise RequestError(
            f"stage {stage.name}: compile: a packed pass has another length each time, for which "
            "each would be compiled anew; set compile to false"
        )
    if batch.balance > 1 and not kind.deals:
        raise RequestError(
            f"stage {stage.name}: batch.balance {batch.balance}: the batches of {kind.name} hold "
            "as many images each, which outweigh their texts, in order; leave the key out"
        )
    if stage.dropout == "counted" and not kind.deals:
        raise RequestError(
            f"stage {stage.name}: dropout: {kind.name} takes drawn masks alone, its pairs come of "
            "the model; leave the key out"
        )
    maker = kind.batches(
        corpora,
        tokenizer,
        config,
        stage.objectives,
        recipe.seed,
        stage.name,
        **({"packed": True} if packed else {}),
    )
    if isinstance(maker, RowBatches):
        maker.numbered = stage.dropout == "counted"
    return maker


def sample_lengths(stage: StageRecipe, maker: Any, order: SampleOrder, longest: int) -> Lengths:
    """Return the lengths of the samples of `stage`; the first ones are read where it matters."""
    if stage.batch.packing == "padded" or stage.batch.tokens_per_micro_batch is None:
        return Lengths(longest)
    return Lengths.seen(longest, maker.lengths(order.indices(0, LOOKED_AT)))


def _source(recipe: PretrainRecipe, stage: StageRecipe, run: RunFolder, ranks: Ranks) -> str | None:
    """Return the folder of the release that `stage` starts from, None for new weights."""
    earlier = recipe.parent_stage(stage)
    if earlier is not None:
        folder = run.published(earlier)
        if not (folder / "manifest.json").exists():
            raise RequestError(
                f"stage {stage.name} starts from stage {earlier}, which is not finished at "
                f"{run.uri}; run it first"
            )
        return str(folder)
    if stage.init is not None and stage.init.original is not None:
        return _imported(recipe, stage.init, run, ranks)
    if stage.init is not None:
        return stage.init.published
    return recipe.model.init.published


def new_configuration(recipe: PretrainRecipe, words: int) -> Any:
    """Return the configuration of a new model whose tokenizer has `words` entries."""
    changes = {"vocab_size": words, **recipe.model.config}
    return family(recipe.model.family).configuration.of_size(recipe.model.size, **changes)


def _imported(recipe: PretrainRecipe, init: StageInit, run: RunFolder, ranks: Ranks) -> str:
    """Return the release that is made of an original checkpoint, once in each folder of the run."""
    from pretrain.checkpoints import import_export
    from pretrain.checkpoints.formats import format_named

    assert init.original is not None
    assert init.format is not None
    place = hashlib.sha256(f"{init.format} {init.original}".encode()).hexdigest()[:16]
    folder = run.local / "parents" / f"{init.format}-{place}"
    if ranks.first_in(run.remote) and not (folder / "manifest.json").exists():
        request = import_export.ImportRequest(
            source=Path(init.original),
            target=folder,
            form=format_named(init.format, recipe.model.family),
            tokenizer=Path(recipe.tokenizer.path) if recipe.tokenizer.path else None,
        )
        import_export.import_checkpoint(request)
    ranks.barrier()
    return str(folder)


def _new(
    recipe: PretrainRecipe, stage: StageRecipe, words: int
) -> tuple[PreTrainedModel, dict[str, str] | None]:
    """Return a model with new weights, those of BERT among them if the recipe wants them."""
    config = new_configuration(recipe, words)
    model = family_of(config).pretraining(config)
    folder = stage.init.bert if stage.init is not None else recipe.model.init.bert
    if folder is None:
        return model, None
    taken = initialise_from_bert(model, folder)
    return model, {"name": f"BERT, {len(taken.taken)} tensors", "manifest_sha256": taken.sha256}


def _from_release(source: str, run: RunFolder) -> tuple[PreTrainedModel, dict[str, str]]:
    """Load the model of the release at the URI `source`, verified, and say what it is."""
    source = resolve(source)
    content = verify(source)
    folder = Path(source)
    if storage.is_remote(source):
        folder = run.local / "parents" / content["sha256"]
        for name in content["files"]:
            target = folder / name
            if not target.exists():
                storage.write_bytes(target, storage.read_bytes(storage.join(source, name)))
    model = load_pretrained(folder)
    name = f"{content['name']}, stage {content['stage']}"
    return model, {"name": name, "manifest_sha256": content["sha256"]}


def _tokenizer(recipe: PretrainRecipe, run: RunFolder, ranks: Ranks) -> PreTrainedTokenizerBase:
    """Return the run's tokenizer, made where it is not there, once for each folder of the run."""
    if recipe.tokenizer.path is not None:
        return load_tokenizer(recipe.tokenizer.path)
    folder = run.local / "tokenizer"
    if ranks.first_in(run.remote) and not folder.exists():
        learned = train_tokenizer(
            captions(recipe, recipe.tokenizer.samples), recipe.tokenizer.vocabulary
        )
        aside = folder.with_name(".tokenizer.part")
        shutil.rmtree(aside, ignore_errors=True)
        learned.save_pretrained(aside)
        aside.replace(folder)
    ranks.barrier()
    return load_tokenizer(folder)


def captions(recipe: PretrainRecipe, most: int) -> Iterator[str]:
    """Yield the captions and tags of the first `most` samples of every corpus of the recipe."""
    uris = dict.fromkeys(data.corpus for stage in recipe.stages for data in stage.data)
    for uri in uris:
        corpus = Corpus(uri, recipe.feeding.reading())
        for number in itertools.islice(range(len(corpus)), most):
            meta = corpus[number].meta
            yield from (caption["text"] for caption in meta["captions"])
            yield from meta["tags"]

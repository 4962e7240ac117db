"""What a stage is made of: tokenizer, corpora, sample order, batches, model and weights."""

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.collate import BatchMaker
from pretrain.batches.order import SampleOrder
from pretrain.batches.tokenise import load_tokenizer, train_tokenizer
from pretrain.checkpoints.pull import verify
from pretrain.models.oscar import OscarForPreTraining
from pretrain.models.oscar_config import OscarConfig
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import chance, storage
from trawl.errors import RequestError


@dataclass(frozen=True)
class Parts:
    """The parts of one stage."""

    model: OscarForPreTraining
    tokenizer: PreTrainedTokenizerBase
    corpora: list[Corpus]
    """One for each entry of the stage's data."""
    order: SampleOrder
    maker: BatchMaker
    longest_sample: int
    """Text tokens and regions of the longest sample that the model takes."""
    parent: dict[str, str] | None
    """Name and manifest hash of the release whose weights the stage starts from."""


def build(recipe: PretrainRecipe, stage: StageRecipe, run: RunFolder, ranks: Ranks) -> Parts:
    """Return the parts of `stage`, the same on every rank.

    Raises RequestError for a corpus, tokenizer or release that is not there.
    """
    corpora = [Corpus(data.corpus) for data in stage.data]
    tokenizer = _tokenizer(recipe, run, ranks)
    # The same draws on every rank: all start from the same weights.
    torch.manual_seed(chance.seed_of(recipe.seed, "weights", stage.name))
    source = _source(recipe, stage, run)
    if source is None:
        changes = {"vocab_size": len(tokenizer), **recipe.model.config}
        model = OscarForPreTraining(OscarConfig.of_size(recipe.model.size, **changes))
        parent = None
    else:
        model, parent = _from_release(source, run)
    config = model.config
    lengths = [len(corpus) for corpus in corpora]
    weights = [data.weight for data in stage.data]
    return Parts(
        model=model,
        tokenizer=tokenizer,
        corpora=corpora,
        order=SampleOrder(lengths, weights, recipe.seed, stage.name),
        maker=BatchMaker(corpora, tokenizer, config, stage.objectives, recipe.seed, stage.name),
        longest_sample=config.max_seq_length + config.max_regions,
        parent=parent,
    )


def _source(recipe: PretrainRecipe, stage: StageRecipe, run: RunFolder) -> str | None:
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
    if stage.init is not None:
        return stage.init.published
    if recipe.model.init.bert is not None:
        raise RequestError(
            "model.init.bert: a plain BERT is not read; take model.init.published, or neither"
        )
    return recipe.model.init.published


def _from_release(source: str, run: RunFolder) -> tuple[OscarForPreTraining, dict[str, str]]:
    """Load the model of the release at the URI `source`, verified, and say what it is."""
    content = verify(source)
    folder = Path(source)
    if storage.is_remote(source):
        folder = run.local / "parents" / content["sha256"]
        for name in content["files"]:
            target = folder / name
            if not target.exists():
                storage.write_bytes(target, storage.read_bytes(storage.join(source, name)))
    model = OscarForPreTraining.from_pretrained(folder, local_files_only=True)
    name = f"{content['name']}, stage {content['stage']}"
    return model, {"name": name, "manifest_sha256": content["sha256"]}


def _tokenizer(recipe: PretrainRecipe, run: RunFolder, ranks: Ranks) -> PreTrainedTokenizerBase:
    """Return the run's tokenizer, made by the first rank of each machine when it is not there."""
    if recipe.tokenizer.path is not None:
        return load_tokenizer(recipe.tokenizer.path)
    folder = run.local / "tokenizer"
    if ranks.first_here and not folder.exists():
        learned = train_tokenizer(_captions(recipe), recipe.tokenizer.vocabulary)
        aside = folder.with_name(".tokenizer.part")
        shutil.rmtree(aside, ignore_errors=True)
        learned.save_pretrained(aside)
        aside.replace(folder)
    ranks.barrier()
    return load_tokenizer(folder)


def _captions(recipe: PretrainRecipe) -> Iterator[str]:
    """Yield the captions and tags of the first samples of every corpus of the recipe."""
    uris = dict.fromkeys(data.corpus for stage in recipe.stages for data in stage.data)
    for uri in uris:
        corpus = Corpus(uri)
        for number in itertools.islice(range(len(corpus)), recipe.tokenizer.samples):
            meta = corpus[number].meta
            yield from (caption["text"] for caption in meta["captions"])
            yield from meta["tags"]

"""From a trained stage to its published folder: weights, parity, evaluation, card, manifest."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from data_pipeline.corpus.reader import Corpus
from pretrain import layer_options, metrics, presets, probe
from pretrain.checkpoints import manifest
from pretrain.checkpoints.card import card
from pretrain.checkpoints.lineage import code_version
from pretrain.checkpoints.publish import publish, seal_release
from pretrain.construction import Parts
from pretrain.engine import restore_scalars
from pretrain.models.loading import load_pretrained
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import storage
from trawl.errors import WorkError

# A model that is read back differs by nothing but the last bits of another memory layout.
_TOLERANCE = 1e-5
# Of so many positions of a stage the model card counts the licences.
_LICENCE_SAMPLES = 2000


def make(
    recipe: PretrainRecipe,
    stage: StageRecipe,
    run: RunFolder,
    ranks: Ranks,
    engine: Any,
    parts: Parts,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Publish the trained `stage` in the run's folder and return its manifest, on every rank.

    The folder is made aside and renamed, so it is there whole or not at all. Raises WorkError when
    the saved model does not give the trained one's outputs.
    """
    folder = run.published(stage.name)
    aside = folder.with_name(f".{stage.name}.part")
    layer_options.plain(engine.module)
    model = _whole(engine.module, stage, ranks)
    if ranks.first:
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside)
        parts.tokenizer.save_pretrained(aside)
        batch = parts.maker.make(parts.order.indices(0, probe.SAMPLES))
        probe.write(aside, model, batch, ranks.device)
        evaluation = {
            "parity": _parity(aside, ranks.device),
            "training": _training(run, stage),
            **_retrieval(recipe, aside, parts, ranks.device),
        }
        lineage = {
            "name": recipe.name,
            "stage": stage.name,
            "step": stage.steps,
            "parent": parts.parent,
            "code": code_version(),
            **facts,
        }
        storage.write_json(aside / "evaluation.json", evaluation)
        corpora, licences = _corpora(parts, facts), _licences(parts)
        text = card(recipe, stage, lineage, evaluation, corpora, licences)
        storage.write_text(aside / "README.md", text)
        seal_release(aside, lineage)
        run.check()
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        if run.remote:
            run.push_small_files()
            run.check()
            publish(folder, run.twin(folder))
    ranks.barrier()
    if run.remote and ranks.first_here and not ranks.first:
        fetch(run, stage.name)
    ranks.barrier()
    return manifest.read(folder)


def fetch(run: RunFolder, stage: str) -> None:
    """Copy the published `stage` from the object store, if it is there and not here."""
    folder = run.published(stage)
    twin = run.twin(folder)
    if (folder / manifest.NAME).exists() or not storage.exists(storage.join(twin, manifest.NAME)):
        return
    shutil.rmtree(folder, ignore_errors=True)
    publish(twin, str(folder))


def _whole(model: PreTrainedModel, stage: StageRecipe, ranks: Ranks) -> PreTrainedModel:
    """Return the trained model with whole parameters on rank 0; ZeRO-3 divides them, so a copy."""
    if presets.zero_stage(stage.deepspeed) < 3:
        restore_scalars(model)
        return model
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        if not ranks.first:
            return model
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    copy = type(model)(model.config)
    copy.load_state_dict(weights)
    nn.Module.to(copy, ranks.device)
    return copy


def _parity(folder: Path, device: torch.device) -> dict[str, Any]:
    """Read the saved model back and compare it with what the trained one said to the probe."""
    difference = probe.difference(load_pretrained(folder), folder, device)
    if not difference <= _TOLERANCE:
        raise WorkError(f"{folder}: read back, the model's outputs differ by {difference:g}")
    return {"samples": probe.SAMPLES, "max_difference": difference, "tolerance": _TOLERANCE}


def _training(run: RunFolder, stage: StageRecipe) -> dict[str, Any]:
    """Return the last step's metrics that every repetition of the run gives alike."""
    lines = [line for line in metrics.read(run.metrics) if line["stage"] == stage.name]
    skipped = [line["step"] for line in lines if line.get("skipped") is not None]
    taken = [line for line in lines if line.get("skipped") is None]
    if not taken:
        return {}
    last = {name: taken[-1][name] for name in ("step", "samples", "loss", "losses")}
    return {**last, "skipped_steps": skipped} if skipped else last


def _retrieval(
    recipe: PretrainRecipe,
    folder: Path,
    parts: Parts,
    device: torch.device,
) -> dict[str, Any]:
    """Return the retrieval scores of the saved model, if the recipe asks for them."""
    if recipe.evaluation.corpus is None:
        return {}
    from pretrain.tasks.retrieval import evaluate_retrieval

    model = load_pretrained(folder)
    nn.Module.to(model, device)
    # The other ranks of the machine only wait meanwhile, so their cores are free.
    threads = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * threads)
    scores = evaluate_retrieval(
        model, parts.tokenizer, Corpus(recipe.evaluation.corpus), count=recipe.evaluation.count
    )
    torch.set_num_threads(threads)
    return {"retrieval": scores}


def _licences(parts: Parts) -> dict[str, int]:
    """Return how many of the stage's first samples declare which licence."""
    places = {place[:2] for place in parts.order.indices(0, _LICENCE_SAMPLES)}
    declared = (parts.corpora[corpus][sample].meta for corpus, sample in sorted(places))
    return Counter(_plain(str(meta["licence"])) for meta in declared)


def _plain(text: str) -> str:
    """Return what a page says as one short line that is no markup: a page says what it likes."""
    return re.sub(r"[^\w.:/?=&+-]+", " ", text[:200]).strip()


def _corpora(parts: Parts, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the model card says of each corpus."""
    return [
        {
            "name": corpus.manifest.name,
            "samples": len(corpus),
            "detector": corpus.manifest.detector.name,
            "weight": fact["weight"],
            "manifest_sha256": fact["manifest_sha256"],
        }
        for corpus, fact in zip(parts.corpora, facts["corpora"], strict=True)
    ]

"""From a trained stage to its published folder: weights, parity, evaluation, card, manifest."""

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from data_pipeline.corpus.reader import Corpus
from pretrain import metrics, presets
from pretrain.checkpoints import manifest
from pretrain.checkpoints.card import card
from pretrain.checkpoints.lineage import code_version
from pretrain.checkpoints.publish import publish, seal_release
from pretrain.construction import Parts
from pretrain.feeding import Batch
from pretrain.models.oscar import OscarForPreTraining
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import storage
from trawl.errors import WorkError

PROBE = "probe.safetensors"
_PROBE_SAMPLES = 2
# A model that is read back differs by nothing but the last bits of another memory layout.
_TOLERANCE = 1e-5


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
    model = _whole(engine.module, stage, ranks)
    if ranks.first:
        shutil.rmtree(aside, ignore_errors=True)
        model.save_pretrained(aside)
        parts.tokenizer.save_pretrained(aside)
        probe = _probe(model, parts, ranks.device)
        evaluation = {
            "parity": _parity(type(model), aside, probe, ranks.device),
            "training": _training(run, stage),
            **_retrieval(recipe, type(model), aside, parts, ranks.device),
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
        text = card(recipe, stage, lineage, evaluation, _corpora(parts, facts))
        storage.write_text(aside / "README.md", text)
        seal_release(aside, lineage)
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        if run.remote:
            run.push_small_files()
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


def _whole(model: OscarForPreTraining, stage: StageRecipe, ranks: Ranks) -> OscarForPreTraining:
    """Return the trained model with whole parameters on rank 0; ZeRO-3 divides them, so a copy."""
    if presets.zero_stage(stage.deepspeed) < 3:
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


def base_outputs(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Return the last hidden states of the network under `model` for what it takes of `batch`.

    Evaluation mode, float32: [batch, text + regions, hidden].
    """
    base = model.base_model
    taken = inspect.signature(base.forward).parameters
    inputs = {name: value for name, value in batch.items() if name in taken}
    training = base.training
    base.eval()
    with torch.no_grad():
        states: torch.Tensor = base(**inputs).last_hidden_state.float()
    base.train(training)
    return states


def _probe(model: PreTrainedModel, parts: Parts, device: torch.device) -> dict[str, torch.Tensor]:
    """Return a small batch, and the trained model's outputs for it as `outputs`."""
    batch = parts.maker.make(parts.order.indices(0, _PROBE_SAMPLES))
    taken = inspect.signature(model.base_model.forward).parameters
    inputs = {name: value for name, value in batch.items() if name in taken}
    placed = {name: value.to(device) for name, value in inputs.items()}
    return {**inputs, "outputs": base_outputs(model, placed).cpu()}


def _parity(
    family: type[OscarForPreTraining],
    folder: Path,
    probe: dict[str, torch.Tensor],
    device: torch.device,
) -> dict[str, Any]:
    """Read the saved model back, compare it with the probe, and store the probe beside it."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in probe.items()}, folder / PROBE)
    difference = probe_difference(
        family.from_pretrained(folder, local_files_only=True), folder, device
    )
    if not difference <= _TOLERANCE:
        raise WorkError(f"{folder}: read back, the model's outputs differ by {difference:g}")
    return {"samples": _PROBE_SAMPLES, "max_difference": difference, "tolerance": _TOLERANCE}


def probe_difference(model: PreTrainedModel, folder: Path, device: torch.device) -> float:
    """Return the largest difference between the outputs of `model` and those in the release."""
    from safetensors.torch import load_file

    probe = load_file(folder / PROBE)
    expected = probe.pop("outputs")
    placed = {name: value.to(device) for name, value in probe.items()}
    nn.Module.to(model, device)
    return float((base_outputs(model, placed).cpu() - expected).abs().max())


def _training(run: RunFolder, stage: StageRecipe) -> dict[str, Any]:
    """Return the last step's metrics that every repetition of the run gives alike."""
    lines = [line for line in metrics.read(run.metrics) if line["stage"] == stage.name]
    if not lines:
        return {}
    last = lines[-1]
    return {name: last[name] for name in ("step", "samples", "loss", "losses")}


def _retrieval(
    recipe: PretrainRecipe,
    family: type[OscarForPreTraining],
    folder: Path,
    parts: Parts,
    device: torch.device,
) -> dict[str, Any]:
    """Return the retrieval scores of the saved model, if the recipe asks for them."""
    if recipe.evaluation.corpus is None:
        return {}
    from pretrain.tasks.retrieval import evaluate_retrieval

    model = family.from_pretrained(folder, local_files_only=True)
    nn.Module.to(model, device)
    # The other ranks of the machine only wait meanwhile, so their cores are free.
    threads = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * threads)
    scores = evaluate_retrieval(
        model, parts.tokenizer, Corpus(recipe.evaluation.corpus), count=recipe.evaluation.count
    )
    torch.set_num_threads(threads)
    return {"retrieval": scores}


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

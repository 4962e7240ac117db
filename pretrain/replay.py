"""A bad step computed once more, alone on this machine, from a checkpoint before it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretrain import construction, engine, objectives
from pretrain.batches.stored import assembled, placed
from pretrain.checkpoints import resume
from pretrain.checkpoints.module import load_module
from pretrain.feeding import Batch
from pretrain.kernels import selection
from pretrain.kernels.counter_dropout import CountedDropout
from pretrain.ranks import Ranks, alone
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from trawl import chance, storage
from trawl import recipe as recipes
from trawl.errors import RequestError

FOLDER = "bad-steps"
Gradients = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Replayed:
    """One micro-batch of the bad step, computed again."""

    number: int
    first: int
    """Position in the stage of its first sample."""
    loss: float
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite this time."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(frozen=True)
class Replay:
    """What came of a replay."""

    record: dict[str, Any]
    """The file of the bad step."""
    checkpoint: int
    """Steps of the stage that the weights had learned; 0: the stage's first weights."""
    micro_batches: list[Replayed]
    loss: float
    """Mean loss of the micro-batches."""
    grad_norm: float
    """Norm of their mean gradient, before clipping."""
    broken: list[str]
    """Samples with what is not finite in them, read alone."""

    @property
    def spikes(self) -> list[str]:
        """What is again above the bound that the guard had when the step was taken."""
        if self.record["loss"] is None:
            # Not all micro-batches of the step are in the record, so nothing is to be compared.
            return []
        bounds = self.record.get("bounds", {})
        return [
            f"the {name} {value:.6g} is above {bounds[name]:.6g} again"
            for name, value in (("loss", self.loss), ("gradient norm", self.grad_norm))
            if value > bounds.get(name, math.inf)
        ]

    @property
    def reproducible(self) -> bool:
        """Whether a loss or gradient is again not finite, or a spike."""
        return bool(self.spikes) or not all(each.finite for each in self.micro_batches)

    def lines(self) -> Iterator[str]:
        """Yield what a person reads of it."""
        record = self.record
        yield f"stage {record['stage']}, step {record['step']}: {record['problem']}"
        yield f"computed again at once: {record['again']}"
        for each in self.micro_batches:
            yield (
                f"micro-batch {each.number}, from position {each.first}, weights of step "
                f"{self.checkpoint}: loss {each.loss:.6g}, gradient norm {each.grad_norm:.6g}"
            )
        if len(self.micro_batches) > 1:
            yield f"together: loss {self.loss:.6g}, gradient norm {self.grad_norm:.6g}"
        yield from self.spikes
        yield from self.broken
        if self.reproducible:
            cause = "these samples are broken" if self.broken else "data or weights are at fault"
            yield f"reproducible: {cause}, no machine is"
        elif record["again"] == "transient":
            yield "transient: look at the machine of " + ", ".join(record["hosts"])
        else:
            yield (
                f"not reproducible with the weights of step {self.checkpoint}: these samples are "
                f"sound, and the steps after it led there; lower the learning rate"
            )


def replay(uri: str, what: str | None, work: Path | None = None) -> Replay:
    """Compute the bad step `what` of the run at `uri` again.

    what: a file of RUN/bad-steps or its name, nothing for the newest. Objectives that compare with
    the rows of other ranks see those of their micro-batch alone. Raises RequestError for a step
    that is not there.
    """
    run = RunFolder(uri, work)
    if run.remote:
        run.fetch(run.local / "recipe.yaml")
    record = storage.read_json(_file(run, what))
    if not isinstance(record, dict) or "samples" not in record:
        raise RequestError(f"{what}: no file of a bad step; name one of {run.uri}/{FOLDER}")
    recipe = recipes.load(run.local / "recipe.yaml", PretrainRecipe)
    return _compute(run, recipe, recipe.stage(record["stage"]), record, alone())


def _file(run: RunFolder, what: str | None) -> str:
    """Return the URI of the file of the bad step that is called `what`."""
    folder = storage.join(run.uri, FOLDER)
    if what is not None and what.endswith(".json") and storage.exists(what):
        return what
    files = [uri for uri in storage.list_files(folder) if uri.endswith(".json")]
    names = {uri.rsplit("/", 1)[1].removesuffix(".json"): uri for uri in sorted(files)}
    if not names:
        raise RequestError(f"{run.uri}: no step of this run was bad; there is nothing to replay")
    name = max(names, key=lambda each: each.rsplit("-", 1)[1]) if what is None else what
    if name not in names:
        raise RequestError(f"{name}: no bad step of {run.uri}; take {', '.join(names)}")
    return names[name]


def _compute(
    run: RunFolder, recipe: PretrainRecipe, stage: StageRecipe, record: dict[str, Any], ranks: Ranks
) -> Replay:
    selection.override(stage.kernels)
    parts = construction.build(recipe, stage, run, ranks)
    nn.Module.to(parts.model, ranks.device)
    if stage.precision == "bf16":
        nn.Module.to(parts.model, torch.bfloat16)
    checkpoint = _before(run, stage.name, record["step"])
    if checkpoint is not None:
        engine.stretch_scalars(parts.model)
        load_module(parts.model, checkpoint.folder)
    parts.model.train()
    places = {
        sample["position"]: parts.order.indices(sample["position"], 1)[0]
        for sample in record["samples"]
    }
    done = []
    sums: Gradients = {}
    for number in sorted({sample["micro_batch"] for sample in record["samples"]}):
        own = [s["position"] for s in record["samples"] if s["micro_batch"] == number]
        batch = parts.maker.make([places[position] for position in own])
        torch.manual_seed(
            chance.seed_of(recipe.seed, "dropout", stage.name, record["step"] - 1, number)
        )
        counted = None
        if stage.dropout == "counted":
            seed = chance.seed_of(recipe.seed, "dropout", stage.name, record["step"] - 1)
            counted = CountedDropout.of(torch.tensor(own, device=ranks.device), seed)
        passed = _pass(parts.model, batch, stage, ranks, sums, counted)
        done.append(Replayed(number, own[0], *passed))
    broken = [
        f"sample {sample['key']} of {sample['corpus']}: {name} is not finite"
        for sample in record["samples"]
        for name in _not_finite(parts.maker.make([places[sample["position"]]]))
    ]
    return Replay(
        record=record,
        checkpoint=checkpoint.step if checkpoint else 0,
        micro_batches=done,
        loss=sum(each.loss for each in done) / len(done),
        grad_norm=float(torch.nn.utils.get_total_norm(sums.values())) / len(done),
        broken=broken,
    )


def _before(run: RunFolder, stage: str, step: int) -> resume.Checkpoint | None:
    """Return the newest whole checkpoint that was made before `step`, None if there is none."""
    folder = run.checkpoints(stage)
    for path in sorted(folder.glob("step-*"), reverse=True):
        if int(path.name.rsplit("-", 1)[1]) < step and resume.problem_of(path) is None:
            return resume.at(path)
    return None


def _pass(
    model: nn.Module,
    batch: Batch,
    stage: StageRecipe,
    ranks: Ranks,
    sums: Gradients,
    counted: CountedDropout | None,
) -> tuple[float, float]:
    """Return the loss of `batch` and the norm of its gradient, which is added to `sums`."""
    read = placed(batch, ranks.device)
    model.zero_grad()
    said = model(**read) if counted is None else model(**read, counted=counted)
    loss, _ = objectives.compute(said, read, stage.objectives)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {
        name: each.grad for name, each in model.named_parameters() if each.grad is not None
    }
    for name, gradient in gradients.items():
        sums[name] = sums[name] + gradient if name in sums else gradient.clone()
    return float(loss.detach()), float(torch.nn.utils.get_total_norm(gradients.values()))


def _not_finite(batch: Batch) -> list[str]:
    """Return the names of the tensors of `batch` that hold what is not finite."""
    return [
        name
        for name, value in assembled(batch).items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]

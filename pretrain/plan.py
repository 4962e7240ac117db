"""What a pretraining will take, before anything is bought: size, memory, arithmetic, time, cost."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from pretrain import devices, flops, memory, presets
from pretrain.batch_size import micro_batch_size
from pretrain.models.families import family, family_of
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.typical import Typical, typical, vocabulary
from trawl import storage
from trawl.errors import RequestError


@dataclass(frozen=True)
class Machines:
    """What the pretraining shall run on."""

    gpus: int
    gpu: str
    """Name of the device, as far as peak and memory are known by it."""
    mfu: float
    """Share of the peak that is taken to be reached; a run's metrics say what was."""
    price: float | None
    """Of one device for an hour."""
    tflops: float | None = None
    gigabytes: float | None = None

    def peak(self, precision: str) -> float:
        """Return operations per second of one device; RequestError where it is not known."""
        found = self.tflops or devices.peak_tflops(self.gpu, precision)
        if found is None:
            raise RequestError(f"--gpu {self.gpu}: its peak is not known; give --peak-tflops")
        return found * 1e12

    def room(self) -> float | None:
        """Return the bytes of memory of one device, None where it is not known."""
        found = self.gigabytes or devices.memory_gigabytes(self.gpu)
        return found * 1e9 if found else None


@dataclass(frozen=True)
class StagePlan:
    """The plan of one stage."""

    stage: StageRecipe
    machines: Machines
    parameters: int
    typical: Typical
    flops: float
    """Of one sample, forward and backward."""
    micro_batch: int
    configuration: dict[str, Any]
    activation_bytes: float
    """Of one sample, padding included."""

    @property
    def samples(self) -> int:
        """Samples of the whole stage."""
        return self.stage.steps * self.stage.batch.samples

    @property
    def samples_per_second(self) -> float:
        """What all devices together get through."""
        machines = self.machines
        rate = machines.gpus * machines.peak(self.stage.precision) * machines.mfu
        return rate / self.flops

    @property
    def days(self) -> float:
        """Days of training, without start, checkpoints and evaluation."""
        return self.samples / self.samples_per_second / 86400

    @property
    def cost(self) -> float | None:
        """Price of all devices for these days."""
        price = self.machines.price
        return None if price is None else self.days * 24 * self.machines.gpus * price

    def memory(self, zero: int, micro_batch: int) -> float:
        """Return the bytes on each device under ZeRO stage `zero` at `micro_batch` samples."""
        zero_settings = self.configuration.get("zero_optimization", {})
        offload = zero > 0 and "offload_optimizer" in zero_settings
        precision = self.stage.precision
        kept = memory.states(self.parameters, self.machines.gpus, zero, precision, offload)
        return kept.on_device + micro_batch * self.activation_bytes

    def lines(self) -> Iterator[str]:
        """Yield what a person reads of it."""
        stage, found, machines = self.stage, self.typical, self.machines
        yield f"stage {stage.name}: {self.parameters:,} parameters, {stage.precision}"
        yield f"  a sample: {found.described}"
        yield (
            f"  arithmetic: {self.flops / 1e9:,.2f} GFLOP a sample, "
            f"{self.flops * self.samples:.3g} FLOP for {stage.steps:,} steps of "
            f"{stage.batch.samples:,} samples"
        )
        yield (
            f"  on {machines.gpus} {machines.gpu} at MFU {machines.mfu:g}: "
            f"{self.samples_per_second:,.0f} samples/s, {duration(self.days)}"
            + ("" if self.cost is None else f", costs {self.cost:,.2f}")
        )
        if found.bytes is not None:
            rate = self.samples_per_second * found.bytes
            yield (
                f"  the loader must give {rate / 1e6:,.1f} MB/s in all, "
                f"{rate / machines.gpus / 1e6:,.1f} MB/s for each GPU"
            )
        yield from self._memory_lines()
        yield f"  DeepSpeed configuration ({stage.deepspeed}, filled in):"
        yield from (f"    {line}" for line in json.dumps(self.configuration, indent=2).splitlines())

    def _memory_lines(self) -> Iterator[str]:
        chosen = presets.zero_stage(self.stage.deepspeed)
        room = self.machines.room()
        yield "  memory for each GPU in GB, without buffers and fragments:"
        heads = "".join(f"{f'ZeRO {zero}':>10}" for zero in memory.ZERO_STAGES)
        yield f"    {'micro-batch':<12}{heads}"
        for size in _sizes(self.micro_batch):
            cells = ""
            for zero in memory.ZERO_STAGES:
                needed = self.memory(zero, size)
                mark = "!" if room is not None and needed > room else " "
                if (zero, size) == (chosen, self.micro_batch):
                    mark = "!" if mark == "!" else "*"
                cells += f"{needed / 1e9:>9.2f}{mark}"
            yield f"    {size:<12}{cells.rstrip()}"
        small = "" if room is None else f"; ! more than its {room / 1e9:g} GB"
        yield f"    * as the recipe has it{small}"


def _sizes(micro_batch: int) -> list[int]:
    """Return the micro-batches to show: the recipe's, and others around it."""
    smaller = {max(1, micro_batch // 4), max(1, micro_batch // 2)}
    return sorted(smaller | {micro_batch, 2 * micro_batch})


def duration(days: float) -> str:
    """Return `days` in the unit that suits them."""
    if days >= 1:
        return f"{days:,.1f} days"
    hours = days * 24
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def plan(recipe: PretrainRecipe, machines: Machines, only: str | None = None) -> list[StagePlan]:
    """Return the plan of each stage of `recipe`, or of the one called `only`.

    Corpora that are at hand are looked into; no GPU is needed, and no weights are read. Raises
    RequestError for what a run would refuse: a preset, a batch that does not divide, an unknown
    stage.
    """
    names = [stage.name for stage in recipe.stages]
    if only is not None and only not in names:
        raise RequestError(f"no stage {only}; --stage takes {', '.join(names)}")
    wanted = [stage for stage in recipe.stages if only in (None, stage.name)]
    return [_of_stage(recipe, stage, machines) for stage in wanted]


def _of_stage(recipe: PretrainRecipe, stage: StageRecipe, machines: Machines) -> StagePlan:
    config = _configuration(recipe, stage)
    model = _on_meta(config)
    found = typical(recipe, stage, config)
    micro_batch = micro_batch_size(stage, machines.gpus, found.fitting)
    accumulation = stage.batch.samples // (micro_batch * machines.gpus)
    kept = memory.activations(model, stage.precision)
    return StagePlan(
        stage=stage,
        machines=machines,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        typical=found,
        flops=flops.arithmetic(model).training(found.lengths),
        micro_batch=micro_batch,
        configuration=presets.configuration(stage, micro_batch, accumulation),
        activation_bytes=kept.bytes(found.padded, stage.activation_checkpointing),
    )


def _configuration(recipe: PretrainRecipe, stage: StageRecipe) -> Any:
    """Return the configuration of the model that `stage` trains."""
    release = recipe.model.init.published
    for each in recipe.stages[: recipe.stages.index(stage) + 1]:
        if each.init is not None and each.init.published is not None:
            release = each.init.published
        elif each.init is not None and each.init.scratch:
            release = None
    if release is not None:
        content = storage.read_json(storage.join(release, "config.json"))
        return family_of(_Named(content["model_type"])).configuration.from_dict(content)
    kind = family(recipe.model.family)
    changes = {"vocab_size": vocabulary(recipe), **recipe.model.config}
    return kind.configuration.of_size(recipe.model.size, **changes)


@dataclass(frozen=True)
class _Named:
    """As much of a configuration as tells its family."""

    model_type: str


def _on_meta(config: Any) -> PreTrainedModel:
    """Return the model of `config` without memory for its weights."""
    with torch.device("meta"):
        model: PreTrainedModel = family_of(config).pretraining(config)
    model.tie_weights()
    return model

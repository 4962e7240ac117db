"""The DeepSpeed configuration of a stage: a preset, checked, and the generated fields."""

import difflib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pretrain.recipe import StageRecipe
from trawl import storage
from trawl.errors import RequestError

# Filled in from the recipe, by the key of the recipe that says so.
GENERATED = {
    "train_batch_size": "batch.samples",
    "train_micro_batch_size_per_gpu": "batch.micro_batch",
    "gradient_accumulation_steps": "batch.samples and batch.micro_batch",
    "gradient_clipping": "optimizer.clip",
    "bf16": "precision",
    "fp16": "precision",
    "optimizer": "optimizer",
    "scheduler": "optimizer",
    "checkpoint": "checkpoint",
}
# The top-level keys of DeepSpeed 0.19 that do not fight with the trainer. DeepSpeed accepts unknown
# ones in silence, so a misspelt key would simply not work.
KNOWN = frozenset(
    {
        "zero_optimization",
        "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
        "communication_data_type",
        "prescale_gradients",
        "gradient_predivide_factor",
        "data_types",
        "activation_checkpointing",
        "comms_logger",
        "flops_profiler",
        "wall_clock_breakdown",
        "memory_breakdown",
        "dump_state",
        "steps_per_print",
        "disable_allgather",
        "compile",
        "aio",
    }
)

# What leftover keys of older configurations mean to DeepSpeed 0.19, which has taken them out.
REMOVED = {
    "amp": "it has no apex any more; set the recipe's precision to bf16",
    "compression_training": "quantisation and pruning are gone",
    "curriculum_learning": "the old curriculum is gone; make it stages of the recipe",
    "eigenvalue": "it served the quantisation that is gone",
    "elasticity": "a run goes on with any count of ranks that divides batch.samples without it",
    "graph_harvesting": "CUDA graphs are no longer taken",
    "nebula": "checkpoints are written behind the training without it",
    "progressive_layer_drop": "layers are no longer dropped",
    "quantize_training": "quantisation is gone",
    "sparse_attention": "its kernels are gone",
    "sparse_gradients": "embeddings' gradients are dense",
}
_REMOVED_ZERO = {
    "mics_shard_size": "MiCS is gone; zero_hpz_partition_size divides within a machine",
    "mics_hierarchical_params_gather": "MiCS is gone",
    "zeropp_loco_param": "LoCo is gone",
    "elastic_checkpoint": "ignored by ZeRO 3; a run goes on with another count of ranks without it",
}


def read(name: str) -> tuple[dict[str, Any], str]:
    """Return the preset called `name` or lying at the path `name`, and how to call it in errors.

    Raises RequestError for a preset that does not exist and for a key that is unknown or generated.
    """
    if name.endswith(".json"):
        content, source = storage.read_json(name), name
    else:
        folder = files("deepspeed_configs")
        known = sorted(
            Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".json")
        )
        if name not in known:
            raise RequestError(f"deepspeed: no preset {name}; take {', '.join(known)} or a path")
        source = f"deepspeed_configs/{name}.json"
        content = json.loads(folder.joinpath(f"{name}.json").read_text())
    if not isinstance(content, dict):
        raise RequestError(f"{source}: a DeepSpeed configuration is a mapping")
    _check(content, source)
    return content, source


def _check(content: dict[str, Any], source: str) -> None:
    """Raise RequestError for the first key that must not stand in a preset."""
    for key in content:
        if key in GENERATED:
            raise RequestError(
                f"{source}: key {key} is filled in from the recipe's {GENERATED[key]}; take it out"
            )
        if key in REMOVED:
            raise RequestError(f"{source}: key {key}: DeepSpeed 0.19 took it out: {REMOVED[key]}")
        if key not in KNOWN:
            raise RequestError(f"{source}: unknown key {key}; {_nearest(key, KNOWN)}")
    zero = content.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise RequestError(f"{source}: key zero_optimization is a mapping")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    fields = DeepSpeedZeroConfig.model_fields
    known = set(fields) | {field.alias for field in fields.values() if field.alias}
    for key in zero:
        if key in _REMOVED_ZERO:
            raise RequestError(
                f"{source}: key zero_optimization.{key}: DeepSpeed 0.19 took it out: "
                f"{_REMOVED_ZERO[key]}"
            )
        if key not in known:
            raise RequestError(
                f"{source}: unknown key zero_optimization.{key}; {_nearest(key, known)}"
            )


def _nearest(key: str, known: "frozenset[str] | set[str]") -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"


def configuration(stage: StageRecipe, micro_batch: int, accumulation: int) -> dict[str, Any]:
    """Return the whole configuration for `stage`, generated fields included.

    `micro_batch` is the count of samples of one pass, `accumulation` the passes of one rank a step.
    Raises RequestError where the optimizer does not go with the preset.
    """
    content, source = read(stage.deepspeed)
    if stage.optimizer.clip_each > 0 and zero_stage(stage.deepspeed) > 0:
        raise RequestError(
            f"stage {stage.name}: optimizer.clip_each needs whole parameters, which ZeRO of "
            f"{source} cuts and joins; set deepspeed to zero0 or clip_each to 0"
        )
    if stage.compile and zero_stage(stage.deepspeed) == 3:
        raise RequestError(
            f"stage {stage.name}: compile does not go with ZeRO 3 of {source}, whose hooks gather "
            "each layer's parameters; set deepspeed to zero1 or zero2, or compile to false"
        )
    return {
        "steps_per_print": 2**31,
        **content,
        # DeepSpeed knows torch's classes alone as elementwise; ours are too, which our tests show.
        "zero_allow_untested_optimizer": True,
        "train_batch_size": stage.batch.samples,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": stage.optimizer.clip,
        "bf16": {"enabled": stage.precision == "bf16"},
    }


def zero_stage(name: str) -> int:
    """Return the ZeRO stage that the preset called `name` asks for."""
    return int(read(name)[0].get("zero_optimization", {}).get("stage", 0))

"""The checkpoints of ViLBERT (vilbert_beta) and of its multi-task successor (12-in-1).

A state dict in one file, and a configuration beside it. Source: facebookresearch's
vilbert-multi-task, vilbert/vilbert.py, vilbert/utils.py, config/bert_base_6layer_6conect.json.
"""

import re
from collections.abc import Mapping
from typing import Any

from pretrain.checkpoints.formats.format import Format, MatchHead, Settings
from pretrain.checkpoints.formats.keys import Shapes, count_layers, size
from pretrain.checkpoints.formats.sizes import bert_config, bert_settings, refuse_disagreement

_CONNECTION = "bert.encoder.c_layer."
_PUBLISHED_LAYERS = (12, 6, 6)
"""Text, visual and connection layers of the model whose order of layers is published."""
_VISUAL_HEADS = {1024: 8}
_VISUAL = (
    "v_feature_size",
    "v_target_size",
    "v_hidden_size",
    "v_num_hidden_layers",
    "v_num_attention_heads",
    "v_intermediate_size",
    "v_hidden_dropout_prob",
    "v_attention_probs_dropout_prob",
    "bi_hidden_size",
    "bi_num_attention_heads",
    "v_biattention_id",
    "t_biattention_id",
    "fusion_method",
)
# Heads of downstream tasks, of either repository.
_UNUSED = re.compile(
    r"vil_(tri_|binary_)?(prediction|logit)|vision_logit|linguisic_logit|"
    r"(bert\.)?embeddings\.position_ids"
)


def _visual_settings(shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    first = f"{_CONNECTION}0.biattention.query1.weight"
    settings: Settings = {
        "v_feature_size": size(shapes, "bert.v_embeddings.image_embeddings.weight", 1),
        "v_hidden_size": size(shapes, "bert.v_embeddings.image_embeddings.weight", 0),
        "v_num_hidden_layers": count_layers(shapes, "bert.encoder.v_layer."),
        "v_intermediate_size": size(shapes, "bert.encoder.v_layer.0.intermediate.dense.weight", 0),
        "bi_hidden_size": size(shapes, first, 0),
    }
    if (decoder := shapes.get("cls.imagePredictions.decoder.weight")) is not None:
        settings["v_target_size"] = decoder[0]
    refuse_disagreement(settings, config)
    for key, width in (
        ("v_num_attention_heads", "v_hidden_size"),
        ("bi_num_attention_heads", "bi_hidden_size"),
    ):
        settings[key] = config.get(key, _VISUAL_HEADS.get(settings[width]))
    return settings


def _settings(shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    settings = bert_settings(shapes, config, "bert.", "bert.encoder.layer.")
    settings |= _visual_settings(shapes, config)
    connections = count_layers(shapes, _CONNECTION)
    counts = (settings["num_hidden_layers"], settings["v_num_hidden_layers"], connections)
    published = counts == _PUBLISHED_LAYERS
    settings["v_biattention_id"] = config.get(
        "v_biattention_id", [*range(6)] if published else None
    )
    settings["t_biattention_id"] = config.get(
        "t_biattention_id", [*range(6, 12)] if published else None
    )
    for key in ("v_hidden_dropout_prob", "v_attention_probs_dropout_prob", "fusion_method"):
        if config.get(key) is not None:
            settings[key] = config[key]
    settings["task_specific_tokens"] = "bert.embeddings.task_embeddings.weight" in shapes
    return settings


def _multi_task_settings(shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    """Return the settings, with what the multi-task code does otherwise when it pretrains."""
    conditional = {"mask_loss_for_unmatched": False, "global_feature": "multi_task"}
    return _settings(shapes, config) | conditional


def _original(config: Any, shapes: Shapes) -> dict[str, Any]:
    return {
        **bert_config(config),
        **{key: getattr(config, key) for key in _VISUAL},
        "v_hidden_act": "gelu",
        "v_initializer_range": config.initializer_range,
        "bi_intermediate_size": config.bi_hidden_size,
        "bi_attention_type": 1,
        "pooling_method": "mul",
        "task_specific_tokens": config.task_specific_tokens,
        # Read by the original's constructors, with the values of a plain pretraining.
        "predict_feature": False,
        "visual_target": 0,
        "fast_mode": False,
        "fixed_v_layer": 0,
        "fixed_t_layer": 0,
        "in_batch_pairs": False,
        "dynamic_attention": False,
        "with_coattention": True,
        "objective": 0,
        "num_negative": 63,
        "intra_gate": False,
        "model": "bert",
    }


def _format(name: str, file: str, multi_task: bool) -> Format:
    return Format(
        name=name,
        family="vilbert",
        files=(file, "pytorch_model*.bin", "*.bin", "*.pth"),
        settings=_multi_task_settings if multi_task else _settings,
        original=_original,
        names=re.compile(r"bert\.|cls\.(predictions|imagePredictions|bi_seq_relationship)\."),
        heads=(MatchHead("cls.bi_seq_relationship", match_class=0),),
        unused=_UNUSED,
    )


FORMATS = (
    _format("vilbert", "pytorch_model.bin", multi_task=False),
    _format("vilbert-mt", "multi_task_model.bin", multi_task=True),
)

"""The checkpoints of Oscar and of Oscar+ (VinVL): a folder that pytorch_transformers wrote.

Source: microsoft/Oscar, oscar/modeling/modeling_bert.py, oscar/run_oscarplus_pretrain.py.
"""

import re
from collections.abc import Mapping
from typing import Any

from pretrain.checkpoints.formats.format import Format, MatchHead, Settings
from pretrain.checkpoints.formats.keys import Shapes
from pretrain.checkpoints.formats.sizes import bert_config, bert_settings

_CONTRAST = "cls.seq_relationship"
# Heads of downstream tasks: classification, and captioning's own masked-token head.
_UNUSED = re.compile(r"classifier\.|transform\.|decoder\.weight|(bert\.)?embeddings\.position_ids")


def _settings(shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    settings = bert_settings(shapes, config, "bert.", "bert.encoder.layer.")
    settings["use_img_layernorm"] = "bert.LayerNorm.weight" in shapes
    if (projection := shapes.get("bert.img_embedding.weight")) is not None:
        settings["img_feature_dim"] = projection[-1]
    if (contrast := shapes.get(f"{_CONTRAST}.weight")) is not None:
        settings["num_contrast_classes"] = contrast[0]
        # A third class is for captions of another image, of which Oscar+ makes a quarter.
        settings["texta_false_prob"] = 0.25 if contrast[0] == 3 else 0.0
    for key in ("img_layer_norm_eps", "img_feature_type"):
        if config.get(key) is not None:
            settings[key] = config[key]
    return settings


def _original(config: Any, shapes: Shapes) -> dict[str, Any]:
    return {
        **bert_config(config),
        "img_feature_dim": config.img_feature_dim,
        "img_feature_type": config.img_feature_type,
        "img_layer_norm_eps": config.img_layer_norm_eps,
        "use_img_layernorm": int(config.use_img_layernorm),
        "num_contrast_classes": config.num_contrast_classes,
        "code_voc": 512,
        "finetuning_task": None,
        "num_labels": 2,
        "output_attentions": False,
        "output_hidden_states": False,
        "pruned_heads": {},
        "torchscript": False,
    }


def _format(name: str) -> Format:
    return Format(
        name=name,
        family="oscar",
        files=("pytorch_model.bin", "*.bin", "*.safetensors"),
        settings=_settings,
        original=_original,
        names=re.compile(r"bert\.|cls\.predictions\.|cls\.seq_relationship\."),
        heads=(MatchHead(_CONTRAST, match_class=0, follows_config=False),),
        unused=_UNUSED,
        whole_folder=True,
    )


FORMATS = (_format("oscar"), _format("vinvl"))

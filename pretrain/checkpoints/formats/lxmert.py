"""The checkpoints of LXMERT: the original `*_LXRT.pth`, and the folder of transformers' port.

Sources: airsplay/lxmert, src/lxrt/modeling.py and src/pretrain/lxmert_pretrain.py; transformers,
models/lxmert. The port's names differ by nothing but `lxmert.` for `bert.`.
"""

import re
from collections.abc import Mapping
from typing import Any

from pretrain.checkpoints.formats.format import Format, MatchHead, Settings
from pretrain.checkpoints.formats.keys import Shapes, count_layers, size
from pretrain.checkpoints.formats.sizes import bert_config, bert_settings, refuse_disagreement

_OBJECTS, _ATTRIBUTES, _FEATURES = (
    f"obj_predict_head.decoder_dict.{name}.weight" for name in ("obj", "attr", "feat")
)
_ANSWERS = "answer_head.logit_fc.3.weight"
_FINE_TUNED = "lxrt_encoder.model."
_PORT = "lxmert."


def _settings(shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    # transformers' num_hidden_layers is a mapping; l_layers, r_layers and x_layers say the same.
    said = {key: value for key, value in config.items() if key != "num_hidden_layers"}
    settings = bert_settings(shapes, said, "bert.", "bert.encoder.layer.", count="l_layers")
    sizes: Settings = {
        "r_layers": count_layers(shapes, "bert.encoder.r_layers."),
        "x_layers": count_layers(shapes, "bert.encoder.x_layers."),
        "visual_feat_dim": size(shapes, "bert.encoder.visn_fc.visn_fc.weight", 1),
        "visual_pos_dim": size(shapes, "bert.encoder.visn_fc.box_fc.weight", 1),
    }
    for key, name in (
        ("num_object_labels", _OBJECTS),
        ("num_attr_labels", _ATTRIBUTES),
        ("num_qa_labels", _ANSWERS),
    ):
        if name in shapes:
            sizes[key] = size(shapes, name, 0)
    refuse_disagreement(sizes, config)
    heads = {
        "object_head": _OBJECTS in shapes,
        "attribute_head": _ATTRIBUTES in shapes,
        "feature_head": _FEATURES in shapes,
        "answer_head": _ANSWERS in shapes,
    }
    return settings | sizes | heads


def _original(config: Any, shapes: Shapes) -> dict[str, Any]:
    """Return the configuration of transformers' port; the original has its own in its code."""
    keys = (
        "l_layers",
        "r_layers",
        "x_layers",
        "visual_feat_dim",
        "visual_pos_dim",
        "num_object_labels",
        "num_attr_labels",
        "num_qa_labels",
    )
    return {
        "architectures": ["LxmertForPreTraining"],
        "model_type": "lxmert",
        **bert_config(config),
        **{key: getattr(config, key) for key in keys},
        "visual_loss_normalizer": 6.67,
        "task_matched": True,
        "task_mask_lm": True,
        "task_obj_predict": "obj_predict_head.transform.dense.weight" in shapes,
        "task_qa": config.answer_head,
        "visual_obj_loss": config.object_head,
        "visual_attr_loss": config.attribute_head,
        "visual_feat_loss": config.feature_head,
    }


def _without_task(key: str) -> str:
    """Return the pretraining's name of a key of a fine-tuned model."""
    return key.removeprefix(_FINE_TUNED)


def _from_port(key: str) -> str:
    return "bert." + key.removeprefix(_PORT) if key.startswith(_PORT) else key


def _to_port(name: str) -> str:
    return _PORT + name.removeprefix("bert.") if name.startswith("bert.") else name


_NAMES = re.compile(
    r"bert\.|cls\.(predictions|seq_relationship)\.|obj_predict_head\.|answer_head\."
)
_HEADS = (MatchHead("cls.seq_relationship", match_class=1),)

FORMATS = (
    Format(
        name="lxmert",
        family="lxmert",
        files=("model_LXRT.pth", "*_LXRT.pth", "*.pth"),
        settings=_settings,
        original=_original,
        names=_NAMES,
        heads=_HEADS,
        ours=_without_task,
        unused=re.compile(r"logit_fc\."),
    ),
    Format(
        name="lxmert-hf",
        family="lxmert",
        files=("model.safetensors", "pytorch_model.bin"),
        settings=_settings,
        original=_original,
        names=_NAMES,
        heads=_HEADS,
        ours=_from_port,
        theirs=_to_port,
        unused=re.compile(r"lxmert\.embeddings\.position_ids"),
        whole_folder=True,
    ),
)

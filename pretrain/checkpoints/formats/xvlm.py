"""The checkpoints of X-VLM (with Swin): a `.th` file of the model and of the run's configuration.

Source: zengyan-97/X-VLM, models/xvlm.py, models/swin_transformer.py, configs/.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pretrain.checkpoints.formats.format import Format, MatchHead, Settings
from pretrain.checkpoints.formats.keys import Shapes, count_layers, size
from pretrain.checkpoints.formats.sizes import bert_config, bert_settings, refuse_disagreement
from trawl.errors import RequestError

_TEXT = "text_encoder.bert."
_LAYER = f"{_TEXT}encoder.layer."
_STAGE = "vision_encoder.layers."
_TABLE = "attn.relative_position_bias_table"
_PATCH = "vision_encoder.patch_embed.proj.weight"
_RENAMED = {
    "image_res": "image_size",
    "temp": "temperature",
    "max_tokens": "max_seq_length",
    "max_words": "max_words",
    "mask_prob": "mask_probability",
    "max_masks": "max_masks",
    "skipgram_prb": "span_probability",
    "skipgram_size": "span_size",
}
"""Keys of the original's configuration, and ours for the same."""


def _swin_settings(shapes: Shapes) -> Settings:
    """Return the sizes of Swin: heads and windows are those of the tables of relative places."""
    stages = range(count_layers(shapes, _STAGE))
    tables = [f"{_STAGE}{stage}.blocks.0.{_TABLE}" for stage in stages]
    if not tables:
        raise RequestError(f"{_STAGE}* is missing: X-VLM with Swin alone is known")
    side = math.isqrt(size(shapes, tables[0], 0))
    embed, patch = size(shapes, _PATCH, 0), size(shapes, _PATCH, 2)
    window = (side + 1) // 2
    return {
        "patch_size": patch,
        "vision_embed_dim": embed,
        "vision_depths": [count_layers(shapes, f"{_STAGE}{stage}.blocks.") for stage in stages],
        "vision_heads": [size(shapes, table, 1) for table in tables],
        "vision_mlp_ratio": size(shapes, f"{_STAGE}0.blocks.0.mlp.fc1.weight", 0) / embed,
        "window_size": window,
        # As published: the last stage's map is one window.
        "image_size": window * patch * 2 ** (len(stages) - 1),
    }


def _settings(shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    if config.get("use_clip_vit") or config.get("use_roberta") or not config.get("use_swin", True):
        raise RequestError("X-VLM with Swin and BERT alone is known; this one has other encoders")
    fusion = [
        number
        for number in range(count_layers(shapes, _LAYER))
        if f"{_LAYER}{number}.crossattention.self.query.weight" in shapes
    ]
    settings = bert_settings(shapes, config, _TEXT, _LAYER) | _swin_settings(shapes)
    settings["fusion_layer"] = fusion[0] if fusion else settings["num_hidden_layers"]
    if "vision_proj.weight" in shapes:
        settings["embed_dim"] = size(shapes, "vision_proj.weight", 0)
        refuse_disagreement({"embed_dim": settings["embed_dim"]}, config)
    said = {ours: config[key] for key, ours in _RENAMED.items() if config.get(key) is not None}
    return settings | said


def _original(config: Any, shapes: Shapes) -> dict[str, Any]:
    """Return the run's configuration; the sizes that the original has in other files besides."""
    swin = "L" if config.vision_embed_dim == 192 else "B"
    large = config.hidden_size == 1024
    return {
        **{key: getattr(config, ours) for key, ours in _RENAMED.items()},
        **bert_config(config),
        "fusion_layer": config.fusion_layer,
        "embed_dim": config.embed_dim,
        "patch_size": config.patch_size * 2 ** (len(config.vision_depths) - 1),
        "mask_whole_word": True,
        "calc_image_bbox_loss": False,
        "use_clip_vit": False,
        "use_swin": True,
        "vision_config": f"configs/config_swin{swin}_{config.image_size}.json",
        "use_roberta": False,
        "text_config": f"configs/config_bert{'_large' if large else ''}.json",
        "text_encoder": f"data/bert-{'large' if large else 'base'}-uncased",
        "load_bertL_by_sep": large,
    }


def _ours(key: str) -> str:
    """Return our name of a key: fine-tuned models without masked-token head leave out `bert.`."""
    return re.sub(r"^text_encoder\.(?=embeddings\.|encoder\.)", _TEXT, key)


def _complete(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the bias of the masked-token head under its second name, and the text's positions."""
    bias = tensors.get("text_encoder.cls.predictions.bias")
    positions = tensors[f"{_TEXT}embeddings.position_embeddings.weight"].shape[0]
    complete = dict(tensors)
    if bias is not None:
        complete["text_encoder.cls.predictions.decoder.bias"] = bias
    complete.setdefault(f"{_TEXT}embeddings.position_ids", torch.arange(positions)[None])
    return complete


FORMATS = (
    Format(
        name="xvlm",
        family="xvlm",
        files=("model_state_epoch_0.th", "*.th", "*.pth"),
        settings=_settings,
        original=_original,
        names=re.compile(
            r"vision_encoder\.|text_encoder\.|vision_proj\.|text_proj\.|temp$|itm_head\.|bbox_head\."
        ),
        core=re.compile(r"vision_encoder\.|text_encoder\.bert\."),
        heads=(MatchHead("itm_head.3", match_class=1),),
        ours=_ours,
        complete=_complete,
        unused=re.compile(
            r"text_encoder\.(bert\.)?embeddings\.position_ids|text_decoder\.|cls_head\.|ta_head\."
        ),
        wrapped_in="model",
    ),
)

"""Checkpoints as the original repositories write them, tiny and random, by the fact sheet's names.

Written from the names and shapes of the sheet, not from our models: the two must agree.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WORDS, HIDDEN, HEADS, WIDE, PLACES, LAYERS = 60, 16, 2, 32, 24, 2
REGION, VISUAL = 12, 24

Shape = tuple[int, ...]
Tensors = OrderedDict[str, Tensor]


def linear(name: str, rows: int, columns: int) -> dict[str, Shape]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int = HIDDEN) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention(name: str, width: int = HIDDEN, source: int | None = None) -> dict[str, Shape]:
    """The self part of an attention."""
    return {
        **linear(f"{name}.query", width, width),
        **linear(f"{name}.key", width, source or width),
        **linear(f"{name}.value", width, source or width),
    }


def residual(name: str, rows: int = HIDDEN, columns: int = HIDDEN) -> dict[str, Shape]:
    return {**linear(f"{name}.dense", rows, columns), **norm(f"{name}.LayerNorm", rows)}


def bert_layer(name: str, width: int = HIDDEN, wide: int = WIDE) -> dict[str, Shape]:
    return {
        **attention(f"{name}.attention.self", width),
        **residual(f"{name}.attention.output", width, width),
        **linear(f"{name}.intermediate.dense", wide, width),
        **residual(f"{name}.output", width, wide),
    }


def embeddings(name: str) -> dict[str, Shape]:
    return {
        f"{name}.word_embeddings.weight": (WORDS, HIDDEN),
        f"{name}.position_embeddings.weight": (PLACES, HIDDEN),
        f"{name}.token_type_embeddings.weight": (2, HIDDEN),
        **norm(f"{name}.LayerNorm"),
    }


def masked_head(name: str) -> dict[str, Shape]:
    return {
        f"{name}.bias": (WORDS,),
        **residual(f"{name}.transform"),
        f"{name}.decoder.weight": (WORDS, HIDDEN),
    }


def values(shapes: dict[str, Shape], tied: dict[str, str], seed: int = 0) -> Tensors:
    """Random tensors of `shapes`, in order; each key of `tied` is the memory of its value."""
    chance = torch.Generator().manual_seed(seed)
    tensors: Tensors = OrderedDict()
    for name, shape in shapes.items():
        tensors[name] = (
            tensors[tied[name]] if name in tied else torch.randn(shape, generator=chance)
        )
    return tensors


DECODER = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
BERT_CONFIG = {
    "vocab_size": WORDS,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "max_position_embeddings": PLACES,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}


@dataclass
class Example:
    """One original checkpoint."""

    format: str
    tensors: Tensors
    config: dict[str, Any]
    file: str
    """Its file of tensors in the folder."""
    match_head: str | None
    """Our name of the head of matching."""
    wrapped_in: str | None = None
    beside: str = "config.json"
    overrides: tuple[str, ...] = ()
    family: str | None = None
    vocabulary: list[str] = field(
        default_factory=lambda: (
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            + [f"word{number}" for number in range(WORDS - 5)]
        )
    )

    def write(self, folder: Path) -> Path:
        """Write it into `folder` and return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        content: Any = self.tensors
        if self.wrapped_in:
            content = {self.wrapped_in: self.tensors, "config": self.config}
        torch.save(content, folder / self.file)
        if not self.wrapped_in:
            (folder / self.beside).write_text(json.dumps(self.config))
        (folder / "vocab.txt").write_text("\n".join(self.vocabulary) + "\n")
        return folder


def oscar(classes: int = 2, image_norm: bool = False) -> Example:
    shapes = {
        **embeddings("bert.embeddings"),
        **{k: v for n in range(LAYERS) for k, v in bert_layer(f"bert.encoder.layer.{n}").items()},
        **linear("bert.pooler.dense", HIDDEN, HIDDEN),
        **linear("bert.img_embedding", HIDDEN, REGION),
        **(norm("bert.LayerNorm") if image_norm else {}),
        **masked_head("cls.predictions"),
        **linear("cls.seq_relationship", classes, HIDDEN),
    }
    config = {
        **BERT_CONFIG,
        "img_feature_dim": REGION,
        "img_feature_type": "faster_r-cnn",
        "num_contrast_classes": classes,
        "use_img_layernorm": int(image_norm),
        "torchscript": False,
    }
    return Example(
        format="vinvl" if classes == 3 else "oscar",
        tensors=values(shapes, DECODER),
        config=config,
        file="pytorch_model.bin",
        match_head="cls.seq_relationship",
    )


def vinvl() -> Example:
    return oscar(classes=3, image_norm=True)


def connection(name: str) -> dict[str, Shape]:
    out = f"{name}.biOutput"
    shapes: dict[str, Shape] = {}
    for part in ("query", "key", "value"):
        shapes |= linear(f"{name}.biattention.{part}1", VISUAL, VISUAL)
    for part in ("query", "key", "value"):
        shapes |= linear(f"{name}.biattention.{part}2", VISUAL, HIDDEN)
    return {
        **shapes,
        **linear(f"{out}.dense1", VISUAL, VISUAL),
        **norm(f"{out}.LayerNorm1", VISUAL),
        **linear(f"{out}.q_dense1", VISUAL, VISUAL),
        **linear(f"{out}.dense2", HIDDEN, VISUAL),
        **norm(f"{out}.LayerNorm2"),
        **linear(f"{out}.q_dense2", HIDDEN, VISUAL),
        **linear(f"{name}.v_intermediate.dense", VISUAL, VISUAL),
        **residual(f"{name}.v_output", VISUAL, VISUAL),
        **linear(f"{name}.t_intermediate.dense", WIDE, HIDDEN),
        **residual(f"{name}.t_output", HIDDEN, WIDE),
    }


def vilbert(multi_task: bool = False) -> Example:
    shapes = {
        **embeddings("bert.embeddings"),
        **linear("bert.v_embeddings.image_embeddings", VISUAL, REGION),
        **linear("bert.v_embeddings.image_location_embeddings", VISUAL, 5),
        **norm("bert.v_embeddings.LayerNorm", VISUAL),
    }
    if multi_task:
        shapes["bert.embeddings.task_embeddings.weight"] = (20, HIDDEN)
    for number in range(LAYERS):
        shapes |= bert_layer(f"bert.encoder.layer.{number}")
    shapes |= bert_layer("bert.encoder.v_layer.0", VISUAL, VISUAL)
    shapes |= connection("bert.encoder.c_layer.0")
    shapes |= {
        **linear("bert.t_pooler.dense", VISUAL, HIDDEN),
        **linear("bert.v_pooler.dense", VISUAL, VISUAL),
        **masked_head("cls.predictions"),
        **linear("cls.bi_seq_relationship", 2, VISUAL),
        **residual("cls.imagePredictions.transform", VISUAL, VISUAL),
        **linear("cls.imagePredictions.decoder", 7, VISUAL),
    }
    if multi_task:
        for head, rows in (("vil_binary_prediction", 2), ("vil_prediction_gqa", 5)):
            shapes |= linear(f"{head}.logit_fc.0", 2 * VISUAL, 2 * VISUAL)
            shapes |= norm(f"{head}.logit_fc.2", 2 * VISUAL)
            shapes |= linear(f"{head}.logit_fc.3", rows, 2 * VISUAL)
        shapes |= linear("vil_tri_prediction", 3, VISUAL)
    config = {
        **BERT_CONFIG,
        "v_feature_size": REGION,
        "v_target_size": 7,
        "v_hidden_size": VISUAL,
        "v_num_hidden_layers": 1,
        "v_num_attention_heads": 2,
        "v_intermediate_size": VISUAL,
        "bi_hidden_size": VISUAL,
        "bi_num_attention_heads": 2,
        "v_biattention_id": [0],
        "t_biattention_id": [1],
        "pooling_method": "mul",
    }
    return Example(
        format="vilbert-mt" if multi_task else "vilbert",
        tensors=values(shapes, DECODER),
        config=config,
        file="multi_task_model.bin" if multi_task else "pytorch_model_9.bin",
        match_head="cls.bi_seq_relationship",
        beside="multi_task_model.json" if multi_task else "pytorch_model_9.json",
    )


def vilbert_mt() -> Example:
    return vilbert(multi_task=True)


def cross_layer(name: str) -> dict[str, Shape]:
    shapes = {
        **attention(f"{name}.visual_attention.att"),
        **residual(f"{name}.visual_attention.output"),
    }
    for stream in ("lang", "visn"):
        shapes |= attention(f"{name}.{stream}_self_att.self")
        shapes |= residual(f"{name}.{stream}_self_att.output")
    for stream in ("lang", "visn"):
        shapes |= linear(f"{name}.{stream}_inter.dense", WIDE, HIDDEN)
        shapes |= residual(f"{name}.{stream}_output", HIDDEN, WIDE)
    return shapes


def lxmert() -> Example:
    region = "bert.encoder.visn_fc"
    shapes = {
        **embeddings("bert.embeddings"),
        **linear(f"{region}.visn_fc", HIDDEN, REGION),
        **norm(f"{region}.visn_layer_norm"),
        **linear(f"{region}.box_fc", HIDDEN, 4),
        **norm(f"{region}.box_layer_norm"),
        **{k: v for n in range(LAYERS) for k, v in bert_layer(f"bert.encoder.layer.{n}").items()},
        **cross_layer("bert.encoder.x_layers.0"),
        **bert_layer("bert.encoder.r_layers.0"),
        **linear("bert.pooler.dense", HIDDEN, HIDDEN),
        **masked_head("cls.predictions"),
        **linear("cls.seq_relationship", 2, HIDDEN),
        **residual("obj_predict_head.transform"),
        **linear("obj_predict_head.decoder_dict.obj", 6, HIDDEN),
        **linear("obj_predict_head.decoder_dict.attr", 4, HIDDEN),
        **linear("obj_predict_head.decoder_dict.feat", REGION, HIDDEN),
        **linear("answer_head.logit_fc.0", 2 * HIDDEN, HIDDEN),
        **norm("answer_head.logit_fc.2", 2 * HIDDEN),
        **linear("answer_head.logit_fc.3", 9, 2 * HIDDEN),
    }
    tensors = OrderedDict(("module." + k, v) for k, v in values(shapes, DECODER).items())
    return Example(
        format="lxmert",
        tensors=tensors,
        config={},
        file="Epoch12_LXRT.pth",
        match_head="cls.seq_relationship",
        beside="nothing.json",
        overrides=(f"num_attention_heads={HEADS}",),
    )


def swin_block(name: str, width: int, heads: int, mask: Shape | None) -> dict[str, Shape]:
    return {
        **({f"{name}.attn_mask": mask} if mask else {}),
        **norm(f"{name}.norm1", width),
        f"{name}.attn.relative_position_bias_table": (9, heads),
        f"{name}.attn.relative_position_index": (4, 4),
        **linear(f"{name}.attn.qkv", 3 * width, width),
        **linear(f"{name}.attn.proj", width, width),
        **norm(f"{name}.norm2", width),
        **linear(f"{name}.mlp.fc1", 4 * width, width),
        **linear(f"{name}.mlp.fc2", width, 4 * width),
    }


def xvlm() -> Example:
    """Two stages of Swin: a map of 4 by 4 with windows of 2, then of 2 by 2."""
    first, text = "vision_encoder.layers.0", "text_encoder.bert.encoder.layer"
    shapes: dict[str, Shape] = {
        "temp": (),
        "vision_encoder.patch_embed.proj.weight": (8, 3, 4, 4),
        "vision_encoder.patch_embed.proj.bias": (8,),
        **norm("vision_encoder.patch_embed.norm", 8),
        **swin_block(f"{first}.blocks.0", 8, 1, None),
        **swin_block(f"{first}.blocks.1", 8, 1, (4, 4, 4)),
        f"{first}.downsample.reduction.weight": (16, 32),
        **norm(f"{first}.downsample.norm", 32),
        **swin_block("vision_encoder.layers.1.blocks.0", 16, 2, None),
        **norm("vision_encoder.norm", 16),
        "text_encoder.bert.embeddings.position_ids": (1, PLACES),
        **embeddings("text_encoder.bert.embeddings"),
        **bert_layer(f"{text}.0"),
        **bert_layer(f"{text}.1"),
        **attention(f"{text}.1.crossattention.self", HIDDEN, 16),
        **residual(f"{text}.1.crossattention.output"),
        **masked_head("text_encoder.cls.predictions"),
        "text_encoder.cls.predictions.decoder.bias": (WORDS,),
        **linear("vision_proj", 6, 16),
        **linear("text_proj", 6, HIDDEN),
    }
    for head, rows in (("itm_head", 2), ("bbox_head", 4)):
        shapes |= linear(f"{head}.0", 2 * HIDDEN, HIDDEN)
        shapes |= norm(f"{head}.1", 2 * HIDDEN)
        shapes |= linear(f"{head}.3", rows, 2 * HIDDEN)
    head = "text_encoder.cls.predictions"
    words = "text_encoder.bert.embeddings.word_embeddings.weight"
    tensors = values(
        shapes, {f"{head}.decoder.weight": words, f"{head}.decoder.bias": f"{head}.bias"}
    )
    tensors["text_encoder.bert.embeddings.position_ids"] = torch.arange(PLACES)[None]
    for name in tensors:
        if name.endswith("relative_position_index"):
            tensors[name] = torch.tensor([[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])
        if name.endswith("attn_mask"):
            tensors[name] = (tensors[name] > 0).float() * -100.0
    return Example(
        format="xvlm",
        tensors=tensors,
        config={
            "image_res": 16,
            "patch_size": 8,
            "use_swin": True,
            "use_clip_vit": False,
            "use_roberta": False,
            "vision_config": "configs/config_swinB_224.json",
            "embed_dim": 6,
            "temp": 0.07,
            "max_tokens": 20,
            "optimizer": {"opt": "adamW", "lr": 1e-4},
        },
        file="model_state_epoch_40.th",
        match_head="itm_head.3",
        wrapped_in="model",
        overrides=(f"num_attention_heads={HEADS}",),
    )


def bert(old_spelling: bool = False, prefix: str = "bert.", layers: int = LAYERS) -> Example:
    """Plain transformers' BertForPreTraining, or with no prefix and no heads BertModel."""
    shapes = embeddings(f"{prefix}embeddings")
    for number in range(layers):
        shapes |= bert_layer(f"{prefix}encoder.layer.{number}")
    shapes |= linear(f"{prefix}pooler.dense", HIDDEN, HIDDEN)
    if prefix:
        shapes |= masked_head("cls.predictions") | linear("cls.seq_relationship", 2, HIDDEN)
    tensors = values(shapes, DECODER)
    if old_spelling:
        tensors = OrderedDict(
            (
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                    "LayerNorm.bias", "LayerNorm.beta"
                ),
                value,
            )
            for name, value in tensors.items()
        )
    return Example(
        format="bert",
        tensors=tensors,
        config={**BERT_CONFIG, "num_hidden_layers": layers, "model_type": "bert"},
        file="pytorch_model.bin",
        match_head=None,
        family="oscar",
    )


EXAMPLES: dict[str, Callable[[], Example]] = {
    "oscar": oscar,
    "vinvl": vinvl,
    "xvlm": xvlm,
    "vilbert": vilbert,
    "vilbert-mt": vilbert_mt,
    "lxmert": lxmert,
}

"""Tiny models with random weights in the forms of real ones: CLIP, and image classifiers."""

import json
import string
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

SIDE = 32
_TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def write_clip(folder: Path) -> Path:
    """Save a CLIP model with random weights as transformers does; letters are its tokens."""
    torch.manual_seed(0)
    letters = string.ascii_lowercase
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(tokens)}
    text = {"vocab_size": len(ids), "max_position_embeddings": 20}
    text |= {"bos_token_id": len(ids) - 2, "eos_token_id": len(ids) - 1}
    config = CLIPConfig(
        text_config={**_TINY, **text, "pad_token_id": len(ids) - 1},
        vision_config={**_TINY, "image_size": SIDE, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer(vocab=ids, merges=[]).save_pretrained(folder)
    sides = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=sides).save_pretrained(folder)
    return folder


def write_classifier(folder: Path, labels: tuple[str, ...], certain: int | None = None) -> Path:
    """Save a ViT classifier with random weights; `certain` is a class that it is always sure of."""
    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = ViTConfig(**_TINY, image_size=SIDE, patch_size=8, id2label=names)
    config.label2id = {label: number for number, label in names.items()}
    model = ViTForImageClassification(config)
    if certain is not None:
        with torch.no_grad():
            model.classifier.bias[certain] = 20.0
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def write_open_clip(folder: Path) -> Path:
    """Save an open_clip model with random weights in the form of the hub."""
    import open_clip

    sizes = {"width": 32, "layers": 1}
    model_config = {
        "embed_dim": 8,
        "vision_cfg": {**sizes, "image_size": SIDE, "patch_size": 8, "head_width": 16},
        "text_cfg": {**sizes, "context_length": 20, "vocab_size": 49_408, "heads": 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": model_config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**model_config).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def write_onnx(place: Path, classes: int, last: bool = False) -> Path:
    """Save an ONNX model whose logit N is N times the mean of the input: a ReduceMean and a Mul."""
    import onnx
    from onnx import TensorProto, helper

    shape = [1, SIDE, SIDE, 3] if last else [1, 3, SIDE, SIDE]
    factors = helper.make_tensor("factors", TensorProto.FLOAT, [1, classes], range(classes))
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["mean", "factors"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        [factors],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    place.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(place))
    return place

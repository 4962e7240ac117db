"""ViLBERT once more: its forward pass as functions of tensors by name, and the names themselves.

Written without a module of ours, from the published code's description, to compare with. The heads
of attention are those of the narrow model in test_vilbert.py: 3 for text, 4 for vision, 2 between.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def dense(weights: Weights, name: str, states: Tensor) -> Tensor:
    return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normed(weights: Weights, name: str, states: Tensor) -> Tensor:
    middle = states.mean(-1, keepdim=True)
    spread = ((states - middle) ** 2).mean(-1, keepdim=True)
    scaled = (states - middle) / torch.sqrt(spread + 1e-12)
    return weights[f"{name}.weight"] * scaled + weights[f"{name}.bias"]


def gelu(states: Tensor) -> Tensor:
    return states * 0.5 * (1 + torch.erf(states / math.sqrt(2)))


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int) -> Tensor:
    found = []
    size = query.shape[-1] // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(size)
        scores = scores + (1 - mask[:, None, :].float()) * -10000
        found.append(torch.softmax(scores, -1) @ value[..., part])
    return torch.cat(found, -1)


def second_half(weights: Weights, inner: str, outer: str, states: Tensor) -> Tensor:
    wide = gelu(dense(weights, f"{inner}.dense", states))
    return normed(weights, f"{outer}.LayerNorm", dense(weights, f"{outer}.dense", wide) + states)


def layer(weights: Weights, name: str, states: Tensor, mask: Tensor, heads: int) -> Tensor:
    three = (
        dense(weights, f"{name}.attention.self.{part}", states)
        for part in ("query", "key", "value")
    )
    mixed = dense(weights, f"{name}.attention.output.dense", attention(*three, mask, heads))
    states = normed(weights, f"{name}.attention.output.LayerNorm", mixed + states)
    return second_half(weights, f"{name}.intermediate", f"{name}.output", states)


def connection(
    weights: Weights, name: str, vision: Tensor, text: Tensor, masks: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    def part(kind: str, states: Tensor) -> Tensor:
        return dense(weights, f"{name}.biattention.{kind}", states)

    to_text = attention(
        part("query2", text), part("key1", vision), part("value1", vision), masks[0], 2
    )
    to_vision = attention(
        part("query1", vision), part("key2", text), part("value2", text), masks[1], 2
    )
    vision = vision + dense(weights, f"{name}.biOutput.dense1", to_vision)
    text = text + dense(weights, f"{name}.biOutput.dense2", to_text)
    vision = normed(weights, f"{name}.biOutput.LayerNorm1", vision)
    text = normed(weights, f"{name}.biOutput.LayerNorm2", text)
    return (
        second_half(weights, f"{name}.v_intermediate", f"{name}.v_output", vision),
        second_half(weights, f"{name}.t_intermediate", f"{name}.t_output", text),
    )


def reference(weights: Weights, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return states and logits of the published forward pass in evaluation mode."""
    table = "bert.embeddings"
    ids = batch["input_ids"]
    text = (
        weights[f"{table}.word_embeddings.weight"][ids]
        + weights[f"{table}.position_embeddings.weight"][: ids.shape[1]]
        + weights[f"{table}.token_type_embeddings.weight"][batch["token_type_ids"]]
    )
    text_mask, masks = batch["attention_mask"], batch["region_mask"]
    if "task_ids" in batch:
        task = weights[f"{table}.task_embeddings.weight"][batch["task_ids"]]
        text = torch.cat([text[:, :1], task, text[:, 1:]], 1)
        text_mask = torch.cat([torch.ones(len(ids), 1).long(), text_mask], 1)
    text = normed(weights, f"{table}.LayerNorm", text)
    vision = dense(weights, "bert.v_embeddings.image_embeddings", batch["features"])
    vision = vision + dense(
        weights, "bert.v_embeddings.image_location_embeddings", batch["locations"]
    )
    vision = normed(weights, "bert.v_embeddings.LayerNorm", vision)
    for number in range(6):
        text = layer(weights, f"bert.encoder.layer.{number}", text, text_mask, 3)
    for number in range(6):
        name = f"bert.encoder.c_layer.{number}"
        vision, text = connection(weights, name, vision, text, (masks, text_mask))
        vision = layer(weights, f"bert.encoder.v_layer.{number}", vision, masks, 4)
        text = layer(weights, f"bert.encoder.layer.{6 + number}", text, text_mask, 3)
    fused = torch.relu(dense(weights, "bert.t_pooler.dense", text[:, 0])) * torch.relu(
        dense(weights, "bert.v_pooler.dense", vision[:, 0])
    )

    def transformed(name: str, states: Tensor) -> Tensor:
        wide = gelu(dense(weights, f"{name}.transform.dense", states))
        return normed(weights, f"{name}.transform.LayerNorm", wide)

    words = weights["bert.embeddings.word_embeddings.weight"]
    return {
        "text_states": text,
        "region_states": vision,
        "prediction_logits": transformed("cls.predictions", text) @ words.T
        + weights["cls.predictions.bias"],
        "object_logits": dense(
            weights, "cls.imagePredictions.decoder", transformed("cls.imagePredictions", vision)
        ),
        "match_logits": dense(weights, "cls.bi_seq_relationship", fused),
    }


def shapes_of(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm_of(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def layer_of(name: str, size: int, wide: int) -> Shapes:
    return {
        **shapes_of(f"{name}.attention.self.query", size, size),
        **shapes_of(f"{name}.attention.self.key", size, size),
        **shapes_of(f"{name}.attention.self.value", size, size),
        **shapes_of(f"{name}.attention.output.dense", size, size),
        **norm_of(f"{name}.attention.output.LayerNorm", size),
        **shapes_of(f"{name}.intermediate.dense", wide, size),
        **shapes_of(f"{name}.output.dense", size, wide),
        **norm_of(f"{name}.output.LayerNorm", size),
    }


def connection_of(name: str) -> Shapes:
    found: Shapes = {}
    for kind in ("query", "key", "value"):
        found |= shapes_of(f"{name}.biattention.{kind}1", 1024, 1024)
        found |= shapes_of(f"{name}.biattention.{kind}2", 1024, 768)
    for kind in ("dense", "q_dense"):
        found |= shapes_of(f"{name}.biOutput.{kind}1", 1024, 1024)
        found |= shapes_of(f"{name}.biOutput.{kind}2", 768, 1024)
    return {
        **found,
        **norm_of(f"{name}.biOutput.LayerNorm1", 1024),
        **norm_of(f"{name}.biOutput.LayerNorm2", 768),
        **shapes_of(f"{name}.v_intermediate.dense", 1024, 1024),
        **shapes_of(f"{name}.v_output.dense", 1024, 1024),
        **norm_of(f"{name}.v_output.LayerNorm", 1024),
        **shapes_of(f"{name}.t_intermediate.dense", 3072, 768),
        **shapes_of(f"{name}.t_output.dense", 768, 3072),
        **norm_of(f"{name}.t_output.LayerNorm", 768),
    }


def published_shapes() -> Shapes:
    """Return name and shape of every tensor of the base model with six connections and tasks."""
    expected: Shapes = {
        "bert.embeddings.word_embeddings.weight": (30522, 768),
        "bert.embeddings.position_embeddings.weight": (512, 768),
        "bert.embeddings.token_type_embeddings.weight": (2, 768),
        "bert.embeddings.task_embeddings.weight": (20, 768),
        **norm_of("bert.embeddings.LayerNorm", 768),
        **shapes_of("bert.v_embeddings.image_embeddings", 1024, 2048),
        **shapes_of("bert.v_embeddings.image_location_embeddings", 1024, 5),
        **norm_of("bert.v_embeddings.LayerNorm", 1024),
        **shapes_of("bert.t_pooler.dense", 1024, 768),
        **shapes_of("bert.v_pooler.dense", 1024, 1024),
        "cls.predictions.bias": (30522,),
        **shapes_of("cls.predictions.transform.dense", 768, 768),
        **norm_of("cls.predictions.transform.LayerNorm", 768),
        "cls.predictions.decoder.weight": (30522, 768),
        **shapes_of("cls.bi_seq_relationship", 2, 1024),
        **shapes_of("cls.imagePredictions.transform.dense", 1024, 1024),
        **norm_of("cls.imagePredictions.transform.LayerNorm", 1024),
        **shapes_of("cls.imagePredictions.decoder", 1601, 1024),
    }
    for number in range(12):
        expected |= layer_of(f"bert.encoder.layer.{number}", 768, 3072)
    for number in range(6):
        expected |= layer_of(f"bert.encoder.v_layer.{number}", 1024, 1024)
        expected |= connection_of(f"bert.encoder.c_layer.{number}")
    return expected

"""Sizes of a BERT-like network, read from its tensors and from the configuration beside them."""

from collections.abc import Mapping
from typing import Any

from pretrain.checkpoints.formats.format import Settings
from pretrain.checkpoints.formats.keys import Shapes, count_layers, size
from trawl.errors import RequestError

_PUBLISHED_HEADS = {768: 12, 1024: 16}
"""Attention heads by width, of BERT's base and large: shapes do not tell them."""
_FREE = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
)
"""What no shape tells and a configuration may."""


def bert_settings(
    shapes: Shapes, config: Mapping[str, Any], prefix: str, layers: str, count: str | None = None
) -> Settings:
    """Return the sizes of the BERT whose embeddings lie under `prefix`, its layers under `layers`.

    count: our key of the number of layers, if it is not num_hidden_layers. Raises RequestError if
    `config`, the original's, says another size than the tensors have.
    """
    words = f"{prefix}embeddings.word_embeddings.weight"
    settings: Settings = {
        "vocab_size": size(shapes, words, 0),
        "hidden_size": size(shapes, words, 1),
        "max_position_embeddings": size(
            shapes, f"{prefix}embeddings.position_embeddings.weight", 0
        ),
        "type_vocab_size": size(shapes, f"{prefix}embeddings.token_type_embeddings.weight", 0),
        "intermediate_size": size(shapes, f"{layers}0.intermediate.dense.weight", 0),
        count or "num_hidden_layers": count_layers(shapes, layers),
    }
    refuse_disagreement(settings, config)
    if config.get("hidden_act", "gelu") != "gelu":
        raise RequestError(f"config.json: hidden_act {config['hidden_act']}; gelu alone is known")
    settings["num_attention_heads"] = config.get(
        "num_attention_heads", _PUBLISHED_HEADS.get(settings["hidden_size"])
    )
    return settings | {key: config[key] for key in _FREE if config.get(key) is not None}


def refuse_disagreement(settings: Settings, config: Mapping[str, Any]) -> None:
    """Raise RequestError where `config` says another size than was read from the tensors."""
    for key, value in settings.items():
        if config.get(key, value) != value:
            raise RequestError(f"config.json: {key} is {config[key]}, but the tensors have {value}")


def bert_config(config: Any) -> dict[str, Any]:
    """Return the keys that every descendant of BERT's own configuration has."""
    keys = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        *_FREE,
    )
    made = {key: getattr(config, key) for key in keys if hasattr(config, key)}
    return {"hidden_act": "gelu", "layer_norm_eps": 1e-12, **made}

"""Plain transformers' BERT: the text weights of a family, taken from or given as bert-base.

The next-sentence head, and layers and poolers that a family has no place for, are kept aside.
Source: transformers, BertForPreTraining and its parts; older folders spell gains gamma and beta.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from pretrain.checkpoints.formats.format import Format, Settings
from pretrain.checkpoints.formats.keys import Shapes
from pretrain.checkpoints.formats.sizes import bert_config, bert_settings
from pretrain.models.bert_initialisation import TEXT, TextNames
from trawl.errors import RequestError


def _settings(text: TextNames, shapes: Shapes, config: Mapping[str, Any]) -> Settings:
    """Return the sizes of the text; a family that reads fewer layers keeps its own number."""
    theirs = {text.theirs(name): shape for name, shape in shapes.items()}
    settings = bert_settings(theirs, config, "bert.", "bert.encoder.layer.")
    if text.layers_key != "num_hidden_layers":
        settings.pop("num_hidden_layers")
    return settings


def _original(text: TextNames, config: Any, shapes: Shapes) -> dict[str, Any]:
    made = bert_config(config)
    made["num_hidden_layers"] = getattr(config, text.layers_key)
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        **made,
    }


def format_for(family: str | None) -> Format:
    """Return the format of BERT folders for the text weights of `family`."""
    if family not in TEXT:
        raise RequestError(
            f"--format bert: say with --family which model gets the text weights, "
            f"one of {', '.join(TEXT)}"
        )
    text = TEXT[family]
    return Format(
        name="bert",
        family=family,
        files=("model.safetensors", "pytorch_model.bin"),
        settings=partial(_settings, text),
        original=partial(_original, text),
        names=text.pattern,
        ours=text.ours,
        theirs=text.theirs,
        unused=re.compile(
            r"(bert\.)?(embeddings\.position_ids|pooler\.)|cls\.seq_relationship\.|"
            r"cls\.predictions\.decoder\.bias"
            + (r"|(bert\.)?encoder\.layer\." if text.fewer_layers else "")
        ),
        whole_folder=True,
        drawn_new=True,
    )

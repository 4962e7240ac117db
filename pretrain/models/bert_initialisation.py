"""Starting a family from BERT: the text weights of a plain bert-base-uncased folder are taken over.

Every family takes what its original takes (fact sheet 1.2, 2.2, 3.4, 4.4, 5.2):

- Oscar, ImageBERT: embeddings, all layers, pooler, masked-token head; Oscar with two contrast
  classes the next-sentence head too, in which 0 is "belongs together" as in its own.
- ViLBERT: embeddings and layers of the text stream, masked-token head; its poolers are new.
- LXMERT: embeddings, the first layers as the language layers, pooler, masked-token head. The
  next-sentence head is left, for its 0 means what LXMERT's 1 means. (The published run then draws
  everything anew: with `--fromScratch` nothing of BERT remains.)
- X-VLM: embeddings, all layers, masked-token head; cross-attention is new.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretrain.checkpoints.formats import keys
from pretrain.checkpoints.formats import tensors as files
from pretrain.models.families import family_of
from trawl import storage
from trawl.errors import RequestError

_BERT = re.compile(
    r"bert\.(embeddings|encoder\.layer|pooler)\.|cls\.(predictions|seq_relationship)\."
)
_WORDS = "bert.embeddings.word_embeddings.weight"
_NEXT_SENTENCE = "cls.seq_relationship."
_OPTIONAL = ("bert.pooler.", "cls.predictions.")
"""What BertForMaskedLM or BertModel lack; it stays new."""
_FREE = ("decoder.weight", "decoder.bias", "position_ids")


@dataclass(frozen=True)
class TextNames:
    """Where the text weights of a family lie, compared with BERT's own names."""

    parts: str
    """Pattern of BERT's names that the family has."""
    prefix: str = ""
    """What the family puts before BERT's names."""
    layers_key: str = "num_hidden_layers"
    """The configuration's key of the number of text layers."""
    fewer_layers: bool = False
    """The family reads the first of BERT's layers and leaves the others."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """The family's names of its text weights."""
        return re.compile(re.escape(self.prefix) + f"({self.parts})")

    def ours(self, key: str) -> str:
        """Return the family's name of BERT's plain `key`, of the spelling with or without bert."""
        if re.match(r"(embeddings|encoder|pooler)\.", key):
            key = f"bert.{key}"
        return self.prefix + key

    def theirs(self, name: str) -> str:
        """Return BERT's name of the family's `name`."""
        return name.removeprefix(self.prefix)


_STREAM = r"bert\.embeddings\.(?!task_)|bert\.encoder\.layer\.\d+\.(?!crossattention)"
_MASKED = r"|cls\.predictions\."
_POOLER = r"|bert\.pooler\."

TEXT = {
    "oscar": TextNames(_STREAM + _POOLER + _MASKED),
    "imagebert": TextNames(_STREAM + _POOLER + _MASKED),
    "vilbert": TextNames(_STREAM + _MASKED),
    "lxmert": TextNames(_STREAM + _POOLER + _MASKED, layers_key="l_layers", fewer_layers=True),
    "xvlm": TextNames(_STREAM + _MASKED, prefix="text_encoder."),
}
"""For each family, where its text weights lie."""


@dataclass(frozen=True)
class Taken:
    """Which parameters of a model came from BERT and which are as they were drawn."""

    taken: list[str]
    """Names of parameters, in the order of the model."""
    new: list[str]
    sha256: str
    """Hash of the BERT's file of weights."""


@torch.no_grad()
def initialise_from_bert(model: PreTrainedModel, folder: str | Path) -> Taken:
    """Copy the text weights of the plain BERT in the local `folder` into `model`.

    The folder holds config.json and model.safetensors or pytorch_model.bin of BertModel,
    BertForMaskedLM or BertForPreTraining. Raises RequestError where it is no BERT, of another size
    or of another vocabulary than `model`.
    """
    place = Path(folder)
    text = TEXT[family_of(model.config).name]
    path = _weights_file(place)
    weights = _read(path, text)
    ours = model.state_dict()
    _refuse_other_words(place, weights, model.config, text)
    _refuse_other_activation_or_heads(place, model.config)
    _refuse_other_sizes(place, weights, ours, text)
    parts = text.pattern
    if text is TEXT["oscar"] and model.config.num_contrast_classes == 2:
        parts = re.compile(f"{parts.pattern}|{re.escape(_NEXT_SENTENCE)}")
    # The tied decoder is the word table, which comes first.
    twice = files.aliases(ours)
    taken = {name for name in weights if name in ours and parts.match(name) and name not in twice}
    for name in taken:
        ours[name].copy_(weights[name])
    order = [name for name, _ in model.named_parameters()]
    return Taken(
        taken=[name for name in order if name in taken],
        new=[name for name in order if name not in taken],
        sha256=storage.sha256_of(path),
    )


def _weights_file(folder: Path) -> Path:
    """Return the file of weights in `folder`; RequestError if there is none."""
    found = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise RequestError(
            f"model.init.bert: {folder} holds neither model.safetensors nor pytorch_model.bin; "
            "name a BERT folder of transformers"
        )
    return path


def _read(path: Path, text: TextNames) -> dict[str, Tensor]:
    """Return the weights of the BERT in the file at `path` by the family's names."""
    tensors = files.read(path).tensors
    spelled = keys.plain_keys(tensors, path)
    weights = {text.ours(spelled[key]): tensor for key, tensor in tensors.items()}
    unknown = [name for name in weights if not _BERT.match(text.theirs(name))]
    if unknown:
        raise RequestError(f"model.init.bert: {path}: {unknown[0]} is no tensor of BERT")
    return weights


def _refuse_other_words(
    folder: Path, weights: Mapping[str, Tensor], config: Any, text: TextNames
) -> None:
    """Raise RequestError unless the vocabulary of the model is as large as the BERT's."""
    words = weights.get(text.ours(_WORDS))
    if words is not None and words.shape[0] != config.vocab_size:
        raise RequestError(
            f"model.init.bert: {folder} has a vocabulary of {words.shape[0]} words, the model one "
            f"of {config.vocab_size}; set tokenizer.path to the BERT's folder"
        )


def _refuse_other_activation_or_heads(folder: Path, config: Any) -> None:
    """Raise RequestError where the BERT computes otherwise with tensors of the same shapes."""
    file = folder / "config.json"
    said = storage.read_json(file) if file.is_file() else {}
    if said.get("hidden_act", "gelu") != "gelu":
        raise RequestError(f"model.init.bert: {file}: hidden_act is not gelu; take a plain BERT")
    heads = said.get("num_attention_heads", config.num_attention_heads)
    if heads != config.num_attention_heads:
        raise RequestError(
            f"model.init.bert: {folder} has {heads} attention heads, the model "
            f"{config.num_attention_heads}; set model.config.num_attention_heads to {heads}"
        )


def _refuse_other_sizes(
    folder: Path, weights: Mapping[str, Tensor], ours: Mapping[str, Tensor], text: TextNames
) -> None:
    """Raise RequestError unless the text part of the model has the tensors of the BERT."""
    wanted = {n: tuple(t.shape) for n, t in ours.items() if text.pattern.match(n)}
    there = {n: tuple(t.shape) for n, t in weights.items() if text.pattern.match(n)}
    for part in _OPTIONAL:
        prefix = text.ours(part)
        if not any(name.startswith(prefix) for name in there):
            wanted = {n: shape for n, shape in wanted.items() if not n.startswith(prefix)}
    # Those that are tied to others, or follow from the sizes, a file may have or not.
    wanted = {n: shape for n, shape in wanted.items() if n in there or not n.endswith(_FREE)}
    there = {n: shape for n, shape in there.items() if n in wanted or not n.endswith(_FREE)}
    if text.fewer_layers:
        there = {n: shape for n, shape in there.items() if n in wanted or ".layer." not in n}
    if lines := keys.differences(wanted, there):
        raise RequestError(
            f"model.init.bert: {folder} does not fit; take the model.size and model.config of its "
            f"size:\n  " + "\n  ".join(lines)
        )

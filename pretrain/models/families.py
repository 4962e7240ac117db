"""The model families by name: where the configuration, the networks and the batches of each are.

Named as text and imported when asked for, so that to read a recipe does not import all of torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from trawl.errors import RequestError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from data_pipeline.corpus.reader import Corpus
    from pretrain.batches.order import Place

MODEL_TYPE = "trawl-"


class FamilyConfig(Protocol):
    """What the configuration of every family answers besides transformers' own questions."""

    model_type: str
    match_class: int
    """The class of the match logits that means "image and text belong together"."""

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> "FamilyConfig":
        """Return the configuration called `size`; RequestError for an unknown size or key."""

    def objectives(self) -> Mapping[str, str | None]:
        """Return each objective of the family with None, or with what to set to have its head."""

    @property
    def longest_sample(self) -> int:
        """Tokens, regions and patches of the longest sample that the model takes."""


class Batches(Protocol):
    """What makes the batches of a family."""

    def make(self, positions: "Sequence[Place]") -> "dict[str, torch.Tensor]":
        """Return the batch of `positions` of a stage, with the targets of its objectives."""

    def make_stored(self, positions: "Sequence[Place]") -> "dict[str, torch.Tensor]":
        """Return the same with features as they are stored: see `pretrain.batches.stored`."""

    def pairs(
        self, corpus: "Corpus", images: Sequence[int], texts: Sequence[str]
    ) -> "dict[str, torch.Tensor]":
        """Return a batch whose row i holds image `images[i]` of `corpus` and `texts[i]`, as is."""


@dataclass(frozen=True)
class Family:
    """One family, by the names of its parts."""

    name: str
    classes: str
    """What the names of its classes begin with."""
    deals: bool = True
    """Whether samples can be dealt among its batches by their lengths."""

    @property
    def model_type(self) -> str:
        """The name in config.json."""
        return MODEL_TYPE + self.name

    def _find(self, module: str, ending: str) -> Any:
        return getattr(import_module(f"pretrain.{module}"), self.classes + ending)

    @property
    def configuration(self) -> Any:
        """The class of its configuration, a `FamilyConfig`."""
        return self._find(f"models.{self.name}_config", "Config")

    @property
    def network(self) -> "type[PreTrainedModel]":
        """The class of the network without prediction heads."""
        found: type[PreTrainedModel] = self._find(f"models.{self.name}", "Model")
        return found

    @property
    def pretraining(self) -> "type[PreTrainedModel]":
        """The class of the network with the heads of its pretraining."""
        found: type[PreTrainedModel] = self._find(f"models.{self.name}", "ForPreTraining")
        return found

    def batches(
        self,
        corpora: "Sequence[Corpus]",
        tokenizer: "PreTrainedTokenizerBase",
        config: Any,
        objectives: Mapping[str, float],
        seed: int,
        stage: str,
        **layout: bool,
    ) -> Batches:
        """Return the maker of its batches; RequestError where a corpus lacks what is needed.

        layout: as_published or packed.
        """
        maker = self._find(f"batches.{self.name}", "Batches")
        made: Batches = maker(corpora, tokenizer, config, dict(objectives), seed, stage, **layout)
        return made


FAMILIES = {
    family.name: family
    for family in (
        Family("oscar", "Oscar"),
        Family("imagebert", "ImageBert"),
        Family("vilbert", "ViLBert"),
        Family("lxmert", "Lxmert"),
        Family("xvlm", "Xvlm", deals=False),
    )
}


def family(name: str) -> Family:
    """Return the family called `name`; RequestError if there is none."""
    if name not in FAMILIES:
        raise RequestError(f"model.family: unknown family {name}; take {', '.join(FAMILIES)}")
    return FAMILIES[name]


def family_of(config: Any) -> Family:
    """Return the family that the configuration of a model belongs to."""
    return family(str(config.model_type).removeprefix(MODEL_TYPE))

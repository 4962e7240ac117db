"""Loading a saved model of whichever family it is."""

from pathlib import Path

from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig

from pretrain.models.families import family_of


def load_pretrained(folder: str | Path) -> PreTrainedModel:
    """Return the model with its pretraining heads that is saved in the local `folder`."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    loaded: PreTrainedModel = family_of(config).pretraining.from_pretrained(
        folder, local_files_only=True
    )
    return loaded

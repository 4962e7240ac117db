"""The weights alone of a training checkpoint, whatever the ZeRO stage and the count of ranks."""

from pathlib import Path

import torch
from torch import nn

from trawl.errors import WorkError

_MODEL = "mp_rank_00_model_states.pt"


def load_module(model: nn.Module, folder: Path) -> None:
    """Load the weights of the checkpoint in `folder` into `model`, as its own kind of numbers.

    Stages 0 to 2 keep them whole and are read without running a pickle's code. Stage 3 divides
    them: there DeepSpeed joins its shards. Raises WorkError where the weights do not fit.
    """
    path = folder / _MODEL
    if path.exists():
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = content["module"]
    else:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        weights = get_fp32_state_dict_from_zero_checkpoint(str(folder.parent), folder.name)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise WorkError(f"{folder}: {' '.join(str(error).split())}") from error

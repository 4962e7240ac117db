"""What a rank imports, loaded once for all that are forked."""

import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

from pretrain import stages  # noqa: F401
from pretrain.models import oscar  # noqa: F401

"""A small X-VLM and batches for it, for tests."""

import torch
from torch import Tensor

from pretrain.models.xvlm import XvlmForPreTraining
from pretrain.models.xvlm_config import XvlmConfig

VISION = ("pixel_values", "idx_to_group_img", "image_atts")
TEXT = ("input_ids", "attention_mask")
WORDS, BATCH, LENGTH = 120, 5, 9
SMALL = {
    "vocab_size": WORDS,
    "initializer_range": 0.15,
    "image_size": 64,
    "vision_embed_dim": 8,
    "window_size": 2,
}
PATCHES = 4


def small(**changes: object) -> XvlmForPreTraining:
    torch.manual_seed(0)
    return XvlmForPreTraining(XvlmConfig.of_size("tiny", **{**SMALL, **changes})).eval()


def inputs(batch: int = BATCH) -> dict[str, Tensor]:
    """Images and texts, the last text padded."""
    torch.manual_seed(1)
    mask = torch.ones(batch, LENGTH, dtype=torch.long)
    mask[-1, 6:] = 0
    return {
        "pixel_values": torch.randn(batch, 3, 64, 64),
        "input_ids": torch.randint(5, WORDS, (batch, LENGTH)),
        "attention_mask": mask,
    }


def whole_batch() -> dict[str, Tensor]:
    """A batch of regions with the targets of all objectives: two images, five concepts."""
    regions = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0], [1, 0, 0, 0, 1]])
    return {
        **inputs(),
        "pixel_values": torch.randn(2, 3, 64, 64),
        "idx_to_group_img": torch.tensor([0, 0, 0, 1, 1]),
        "image_atts": regions[[0, 1, 2, 0, 3]],
        "masked_input_ids": torch.randint(5, WORDS, (BATCH, LENGTH)),
        "masked_positions": torch.tensor([1, 4, 12, 40]),
        "masked_labels": torch.tensor([7, 8, 9, 10]),
        "negative_draws": torch.rand(BATCH, 2),
        "box_targets": torch.rand(BATCH, 4) * 0.5,
        "box_valid": torch.tensor([0.0, 1, 1, 0, 1]),
    }

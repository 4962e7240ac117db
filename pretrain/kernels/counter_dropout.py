"""Dropout whose masks are a function: of seed, site in the model, sample, token and channel.

Numbers come from Philox4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
with 7 rounds, the fewest that pass BigCrush there, computed in integers alone: so all devices, and
the kernels, draw the same masks bit for bit, whatever rows a batch has, in which order, padded or
packed, and on how many ranks. The seed stands for the run, its stage and the step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 7
SITES = 1 << 16
"""Dropouts that a model may have, each with a number of its own."""
REGIONS = 1 << 15
"""What the first region of a sample is called among its tokens; a text's first token is 0."""

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


@dataclass(frozen=True)
class Places:
    """Whose states a tensor [.., hidden] holds, which decides what is dropped of them.

    seed int64 [1]; samples and tokens int64, shaped as the states without their last dimension:
    each state's sample in the stage, and its token in the sample, below 65536.
    """

    seed: Tensor
    samples: Tensor
    tokens: Tensor

    def at(self, places: Tensor) -> "Places":
        """Return those at `places` int64 [chosen] of a stream [1, total], as [1, chosen]."""
        return Places(
            self.seed,
            self.samples.index_select(-1, places),
            self.tokens.index_select(-1, places),
        )

    def first(self) -> "Places":
        """Return the first of each row."""
        return Places(self.seed, self.samples[:, :1], self.tokens[:, :1])


def threshold(probability: float) -> int:
    """Return the number below which a drawn 32-bit word means that a value is dropped."""
    return round(probability * 2**32)


def scale(probability: float) -> float:
    """Return what kept values are multiplied by."""
    return 2**32 / (2**32 - threshold(probability))


def philox(
    seed: Tensor, counters: tuple[Tensor, Tensor, Tensor, Tensor], rounds: int = ROUNDS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four words of 32 bits for each place of the counters, all of them int64.

    seed int64 [1], whose 64 bits are the key; counters from 0 to below 2^32, of shapes that
    broadcast.
    """
    a, b, c, d = counters
    low, high = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(rounds):
        # A product may pass 2^63: its bits are right all the same, and the shift's sign is cut off.
        one, two = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = ((two >> 32) & _WORD) ^ b ^ low, two & _WORD
        c, d = ((one >> 32) & _WORD) ^ d ^ high, one & _WORD
        low, high = (low + _KEY_STEPS[0]) & _WORD, (high + _KEY_STEPS[1]) & _WORD
    return a, b, c, d


def kept_channels(places: Places, site: int, channels: int, probability: float) -> Tensor:
    """Return which channels of each state are kept: bool [.., channels].

    A draw serves four channels, one after another.
    """
    groups = torch.arange(-(-channels // 4), device=places.samples.device)
    samples = places.samples[..., None]
    counters = (site << 16 | groups, places.tokens[..., None], samples & _WORD, samples >> 32)
    words = torch.stack(philox(places.seed, counters), dim=-1).flatten(-2)
    return words[..., :channels] >= threshold(probability)


def kept_shares(
    asking: Places, offering: Tensor, site: int, heads: int, probability: float
) -> Tensor:
    """Return which shares of attention are kept: bool [.., heads, queries, keys].

    asking [.., queries]; offering int64 [.., keys]: tokens of the same samples.
    """
    head = torch.arange(heads, device=offering.device)[:, None, None]
    samples = asking.samples[..., None, :, None]
    pairs = asking.tokens[..., None, :, None] << 16 | offering[..., None, None, :]
    counters = (site << 16 | head, pairs, samples & _WORD, samples >> 32)
    return philox(asking.seed, counters)[0] >= threshold(probability)


def dropped(states: Tensor, places: Places, site: int, probability: float) -> Tensor:
    """Return `states` [.., channels] with what is not kept set to 0, and the rest scaled."""
    kept = kept_channels(places, site, states.shape[-1], probability)
    return states * (kept * scale(probability)).to(states.dtype)

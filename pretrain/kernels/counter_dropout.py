"""Dropout whose masks are a function: of seed, site in the model, sample, token and channel.

Numbers come from Philox4x32 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
with 7 rounds, the fewest that pass BigCrush there, computed in integers alone: so all devices, and
the kernels, draw the same masks bit for bit, whatever rows a batch has, in which order, padded or
packed, and on how many ranks. The seed stands for the run, its stage and the step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ROUNDS = 7
SITES = 1 << 15
"""Dropouts that a model may have, each with a number of its own."""
REGIONS = 1 << 15
"""What the first region of a sample is called among its tokens; a text's first token is 0."""
TASK = REGIONS - 1
"""What a task's token is called, and the state of the whole pair."""

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

    def columns(self) -> "Places":
        """Return [rows] as [rows, 1]."""
        return Places(self.seed, self.samples[:, None], self.tokens[:, None])

    def in_row(self) -> "Places":
        """Return [rows] as [1, rows]."""
        return Places(self.seed, self.samples[None], self.tokens[None])

    def flat(self) -> "Places":
        """Return the same in one dimension."""
        return Places(self.seed, self.samples.flatten(), self.tokens.flatten())

    def spread(self, places: Tensor, rows: int, longest: int) -> "Places":
        """Return [rows, longest] from a stream [total] whose states go to `places` of these."""
        return Places(
            self.seed,
            spread_tokens(self.samples, places, rows, longest),
            spread_tokens(self.tokens, places, rows, longest),
        )

    def and_then(self, others: "Places") -> "Places":
        """Return these and `others` behind them, in each row."""
        return Places(
            self.seed,
            torch.cat([self.samples, others.samples], dim=-1),
            torch.cat([self.tokens, others.tokens], dim=-1),
        )

    def rolled(self, shift: int) -> "Places":
        """Return them shifted along the rows, as `torch.roll`."""
        return Places(self.seed, self.samples.roll(shift, -1), self.tokens.roll(shift, -1))


@dataclass(frozen=True)
class CountedDropout:
    """What decides the masks of one pass: seed int64 [1], and int64 [rows] each row's sample.

    Given to a model's `forward`, all its dropouts are functions of it; `number_sites` comes first.
    """

    seed: Tensor
    samples: Tensor

    @classmethod
    def of(cls, samples: Tensor, seed: int) -> "CountedDropout":
        """Return the dropout of rows of `samples` in the step that `seed`, 63 bits, stands for."""
        return cls(torch.tensor([seed], device=samples.device), samples)

    def padded(self, length: int, first: int = 0) -> Places:
        """Return the places of tokens `first` and on of each row: [rows, length]."""
        tokens = torch.arange(first, first + length, device=self.samples.device)
        return Places(
            self.seed,
            self.samples[:, None].expand(-1, length),
            tokens.expand(len(self.samples), -1),
        )

    def packed(self, lengths: Tensor, total: int, first: int = 0) -> Places:
        """Return the same of rows of `lengths` int64 [rows] end to end: [1, total]."""
        rows = torch.arange(len(lengths), device=lengths.device)
        row = rows.repeat_interleave(lengths, output_size=total)
        starts = lengths.cumsum(0) - lengths
        tokens = torch.arange(total, device=lengths.device) - starts[row] + first
        return Places(self.seed, self.samples[row][None], tokens[None])

    def pairs(self) -> Places:
        """Return the places of one state [rows, hidden] for each row."""
        return Places(self.seed, self.samples, torch.full_like(self.samples, TASK))


class Dropout(nn.Dropout):
    """`nn.Dropout` that is a function of the places where they are given."""

    site: int | None = None

    def forward(self, states: Tensor, places: Places | None = None) -> Tensor:
        """Return `states` [.., channels], in training with some of them dropped."""
        if places is None or not self.training or self.p == 0:
            return super().forward(states)
        return dropped(states, places, site_of(self), self.p)


def number_sites(model: nn.Module) -> None:
    """Give each dropout of `model` its site: the modules that have a `site`, in order."""
    places = [module for module in model.modules() if hasattr(module, "site")]
    assert len(places) <= SITES
    for number, module in enumerate(places):
        module.site = number  # type: ignore[assignment]


def site_of(module: nn.Module) -> int:
    """Return the number that `number_sites` gave to a dropout or an attention."""
    site = module.site
    assert isinstance(site, int), "number_sites was not called for this model"
    return site


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


def spread_tokens(tokens: Tensor, places: Tensor, rows: int, longest: int) -> Tensor:
    """Return int64 [rows, longest], 0 but for `tokens` [total] at `places` of them."""
    empty = tokens.new_zeros(rows * longest)
    return empty.index_copy(0, places, tokens).view(rows, longest)


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


@dataclass(frozen=True)
class ShareDropout:
    """What decides which shares of one attention are dropped.

    asking: the places of the queries; offering int64, as long as the keys: their tokens, of the
    same samples; site: which attention it is.
    """

    asking: Places
    offering: Tensor
    site: int
    probability: float

    def factor(self, heads: int, dtype: torch.dtype) -> Tensor:
        """Return what shares [.., heads, queries, keys] are multiplied by: 0, or the scale."""
        kept = kept_shares(self.asking, self.offering, self.site, heads, self.probability)
        return (kept * scale(self.probability)).to(dtype)


def dropped(states: Tensor, places: Places, site: int, probability: float) -> Tensor:
    """Return `states` [.., channels] with what is not kept set to 0, and the rest scaled."""
    kept = kept_channels(places, site, states.shape[-1], probability)
    return states * (kept * scale(probability)).to(states.dtype)

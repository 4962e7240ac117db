"""Rows of uneven length end to end, without padding, and the attention that stays within a row.

Three forms of that attention give the same numbers (tests/pretrain/models/test_packing.py): row by
row, also the plain reference; padded for the attention alone, which is a fortieth of a BERT-base
layer's arithmetic at 120 tokens a row; and torch's varlen kernels on a GPU, in half precision and
without dropout, which they have not. On a CPU rows of much arithmetic go one by one, without
padding and masks, and those of little side by side, for the calls' sake.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pretrain.kernels import packed_attention as kernels
from pretrain.kernels.counter_dropout import Places, ShareDropout, spread_tokens
from pretrain.kernels.selection import chosen
from pretrain.models.attention import MASKED_SCORE, Attend, plain_attention

# Numbers of one row's queries or keys from which a call of its own is the faster one on a CPU:
# 12 heads of 64 at 25 places took 0.8 of the time, 4 of 32 at 72 places 0.7, at 37 places 1.3.
_WORTH_A_CALL = 6144


@dataclass(frozen=True)
class Rows:
    """Where the rows of one stream lie, end to end.

    starts int32 [rows + 1]: where each row begins; longest: at least the places of the longest row;
    row, column int64 [total]: of each place of the stream; places: whose states they are, each
    [1, total], where dropout is a function of that.
    """

    starts: Tensor
    longest: int
    row: Tensor
    column: Tensor
    places: Places | None = None

    @classmethod
    def of(cls, lengths: Tensor, total: int | None = None, bound: int | None = None) -> "Rows":
        """Return rows of `lengths` int64 [rows].

        total: their sum, bound: places of the longest row that there may be, where they are known;
        on a GPU that saves waiting for the lengths.
        """
        device = lengths.device
        starts = torch.zeros(len(lengths) + 1, dtype=torch.int32, device=device)
        starts[1:] = lengths.cumsum(0)
        numbers = torch.arange(len(lengths), device=device)
        row = numbers.repeat_interleave(lengths, output_size=total)
        if bound is None or device.type != "cuda":
            bound = int(lengths.max())
        return cls(starts, bound, row, torch.arange(len(row), device=device) - starts[row])

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """The places of each row: int64 [rows]."""
        return self.starts.diff().long()

    @property
    def firsts(self) -> Tensor:
        """The first place of each row: int64 [rows]."""
        return self.starts[:-1].long()

    def first(self, states: Tensor) -> Tensor:
        """Return the first state of each row, [rows, 1, hidden], from [1, total, hidden]."""
        return states[0].index_select(0, self.firsts)[:, None]

    def part(self, places: Tensor) -> "Rows":
        """Return the rows of those `places` int64 [chosen] alone; they rise, and may repeat."""
        lengths = torch.searchsorted(places, self.starts.long()).diff()
        rows = Rows.of(lengths, len(places), self.longest)
        return rows if self.places is None else rows.placed(self.places.at(places))

    def placed(self, places: Places | None) -> "Rows":
        """Return the same rows whose states are those of `places`."""
        return replace(self, places=places)

    def chosen(self, numbers: Tensor) -> tuple["Rows", Tensor]:
        """Return the rows `numbers` int64 [chosen] as rows of their own, and where each place was.

        Waits for their lengths, also on a GPU.
        """
        rows = Rows.of(self.lengths[numbers], bound=self.longest)
        places = self.firsts[numbers][rows.row] + rows.column
        return rows.placed(self.places and self.places.at(places)), places

    @cached_property
    def spread(self) -> Tensor:
        """The place of each state where rows are padded to the longest: int64 [total]."""
        return self.row * self.longest + self.column

    @cached_property
    def hidden_keys(self) -> Tensor:
        """What is added to the scores where rows are padded: float32 [rows, 1, 1, longest]."""
        columns = torch.arange(self.longest, device=self.starts.device)
        padding = columns >= self.starts.diff()[:, None]
        return padding.float()[:, None, None] * MASKED_SCORE


@dataclass(frozen=True)
class Between:
    """A stream that asks and another one, of as many rows, in which it looks."""

    asking: Rows
    offering: Rows


@dataclass(frozen=True)
class Padded:
    """What padded states see whose dropout is a function of their places: a bias, or all.

    places: [batch, length] of the states that ask; keys int64 [batch, keys]: the tokens, of the
    same samples, in which they look.
    """

    bias: Tensor | None
    places: Places
    keys: Tensor

    @classmethod
    def of(cls, bias: Tensor | None, places: Places) -> "Padded":
        """Return what states see that look at each other."""
        return cls(bias, places, places.tokens)


Packed = Rows | Between
"""What packed states see: their own rows, or those of another stream."""
Sight = Tensor | Packed | Padded | None
"""What a position sees: a bias on the scores, a row of a packed stream, or all."""


def between(asking: Sight, offering: Sight) -> Sight:
    """Return what a stream sees of another one, given what each sees of itself."""
    if isinstance(asking, Rows) and isinstance(offering, Rows):
        return Between(asking, offering)
    if isinstance(asking, Padded) and isinstance(offering, Padded):
        return Padded(offering.bias, asking.places, offering.keys)
    return offering


def seen(bias: Tensor | None, places: Places | None) -> Sight:
    """Return what padded states see, whose places are known or not."""
    return bias if places is None else Padded.of(bias, places)


def places_of(sight: Sight) -> Places | None:
    """Return the places of the states that see so, where their dropout is a function of them."""
    if isinstance(sight, Between):
        sight = sight.asking
    return sight.places if isinstance(sight, Rows | Padded) else None


@dataclass(frozen=True)
class Packing:
    """How two kinds of states become one stream: each row's states of the second follow the first.

    The kinds are text and regions, or whole images and regions. rows: the joint ones; stream int64
    [total]: what stands at a place, counted through all states of the first kind and then of the
    second; back: the way round; first_columns int64 [first]: the column of each state of the first.
    """

    rows: Rows
    stream: Tensor
    back: Tensor
    first_columns: Tensor

    @classmethod
    def of(cls, lengths: Tensor, first: int, total: int, bound: int) -> "Packing":
        """Return the packing of rows of `lengths` int64 [2, rows], of either kind.

        first: the sum of the first kind, total: that of both, which are known from shapes; bound:
        places of the longest row that there may be.
        """
        rows = Rows.of(lengths.sum(0), total, bound)
        one, other = Rows.of(lengths[0], first, bound), Rows.of(lengths[1], total - first, bound)
        back = torch.cat(
            [
                rows.firsts[one.row] + one.column,
                rows.firsts[other.row] + lengths[0][other.row] + other.column,
            ]
        )
        places = torch.arange(total, device=lengths.device)
        stream = torch.empty_like(places).index_copy_(0, back, places)
        return cls(rows, stream, back, one.column)

    def placed(self, places: Places | None) -> "Packing":
        """Return the same whose states, one kind and then the other, are those of `places`."""
        in_stream = None if places is None else places.at(self.stream)
        return replace(self, rows=self.rows.placed(in_stream))

    def streamed(self, states: Tensor) -> Tensor:
        """Return [1, total, ...] in the order of the stream, from one kind and then the other."""
        return states.index_select(1, self.stream)

    def unstreamed(self, states: Tensor) -> Tensor:
        """Return one kind and then the other from [1, total, ...] in the order of the stream."""
        return states.index_select(1, self.back)


@dataclass(frozen=True)
class Asked:
    """Those places of a packed stream whose last states are read: the last layer has no others.

    places int64 [asked], rising; rows: theirs; back: for each that was asked, its place among them.
    """

    places: Tensor
    rows: Rows
    back: Tensor

    @classmethod
    def at(cls, rows: Rows, places: Tensor) -> "Asked":
        """Return the first place of each row, and `places` int64 of the stream after them."""
        rising, order = torch.cat([rows.firsts, places]).sort(stable=True)
        numbers = torch.arange(len(order), device=order.device)
        back = torch.empty_like(order).index_copy_(0, order, numbers)
        return cls(rising, rows.part(rising), back)

    def of(self, rows: Rows, states: Tensor) -> tuple[Tensor, Between, Tensor]:
        """Return what a layer takes to compute these alone of the `states` [1, total, hidden].

        The states that ask [1, asked, hidden], what they see of `rows`, and all states.
        """
        return self.of_states(states), Between(self.rows, rows), states

    def of_states(self, states: Tensor) -> Tensor:
        """Return [1, asked, hidden], rising, from [1, total, hidden]."""
        return states.index_select(1, self.places)

    def ordered(self, states: Tensor) -> Tensor:
        """Return [1, asked, hidden] as they were asked for, from rising ones."""
        return states.index_select(1, self.back)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed: Packed,
    dropout: float,
    attend: Attend,
    site: int | None = None,
) -> Tensor:
    """Return what each place finds in its row: [1, queries, heads, size].

    query [1, queries, heads, size], key and value [1, keys, heads, size]; attend: the attention of
    padded rows; the plain one means row by row; site: which attention this is, for dropout that is
    a function of the places in `packed`.
    """
    sight = packed if isinstance(packed, Between) else Between(packed, packed)
    counted = _counted(sight, dropout, site)
    name = _implementation(query, dropout, counted, attend)
    if name == "varlen":
        return _varlen(query, key, value, sight)
    if name == "triton":
        return kernels.by_kernel(query[0], key[0], value[0], _starts(sight), counted)[None]
    longest = max(sight.asking.longest, sight.offering.longest)
    large = longest * query.shape[2] * query.shape[3] >= _WORTH_A_CALL
    if attend is plain_attention or (large and not query.is_cuda):
        if counted is not None:
            return kernels.plain(query[0], key[0], value[0], _starts(sight), counted)[None]
        return _row_by_row(query, key, value, sight, dropout, attend)
    return _padded(query, key, value, sight, dropout, attend, counted)


def _counted(sight: Between, dropout: float, site: int | None) -> ShareDropout | None:
    """Return the dropout of shares that is a function of the places, where they are known."""
    asking, offering = sight.asking.places, sight.offering.places
    if dropout == 0.0 or asking is None or offering is None:
        return None
    assert site is not None
    return ShareDropout(asking.flat(), offering.tokens.flatten(), site, dropout)


def _implementation(
    query: Tensor, dropout: float, counted: ShareDropout | None, attend: Attend
) -> str:
    """Return the name of what computes the attention, from the table of kernels."""
    if attend is plain_attention:
        return "plain"
    unable = {}
    if dropout > 0.0:
        unable["varlen"] = "varlen has no dropout"
        if counted is None:
            unable["triton"] = "triton needs dropout: counted in the stage"
    return chosen("packed_attention", query.device, query.dtype, unable)


def _starts(sight: Between) -> kernels.Starts:
    asking, offering = sight.asking, sight.offering
    return kernels.Starts(asking.starts, offering.starts, asking.longest, offering.longest)


def _row_by_row(
    query: Tensor, key: Tensor, value: Tensor, sight: Between, dropout: float, attend: Attend
) -> Tensor:
    """Return the attention one row after another; with the plain attention it is the reference."""
    asking, offering = (rows.starts.diff().tolist() for rows in (sight.asking, sight.offering))
    parts = (query[0].split(asking), key[0].split(offering), value[0].split(offering))
    mixed = []
    for row in zip(*parts, strict=True):
        asks, offers, tells = (part.transpose(0, 1)[None] for part in row)
        mixed.append(attend(asks, offers, tells, None, dropout)[0].transpose(0, 1))
    return torch.cat(mixed)[None]


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sight: Between,
    dropout: float,
    attend: Attend,
    counted: ShareDropout | None,
) -> Tensor:
    """Return the attention of rows that are padded for it and packed again."""

    def spread(part: Tensor, rows: Rows) -> Tensor:
        empty = part.new_zeros(rows.count * rows.longest, *part.shape[2:])
        filled = empty.index_copy(0, rows.spread, part[0])
        return filled.unflatten(0, (rows.count, rows.longest)).transpose(1, 2)

    asking, offering = sight.asking, sight.offering
    parts = (spread(query, asking), spread(key, offering), spread(value, offering))
    bias = offering.hidden_keys.to(query.dtype)
    if counted is None:
        mixed = attend(*parts, bias, dropout)
    else:
        of_rows = ShareDropout(
            counted.asking.spread(asking.spread, asking.count, asking.longest),
            spread_tokens(counted.offering, offering.spread, offering.count, offering.longest),
            counted.site,
            counted.probability,
        )
        factor = of_rows.factor(query.shape[2], query.dtype)
        mixed = plain_attention(*parts, bias, 0.0, factor)
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, asking.spread)[None]


def _varlen(query: Tensor, key: Tensor, value: Tensor, sight: Between) -> Tensor:
    """Return the attention by torch's kernels for rows of uneven length; CUDA alone has them."""
    from torch.nn.attention.varlen import varlen_attn

    asking, offering = sight.asking, sight.offering
    mixed = varlen_attn(
        query[0],
        key[0],
        value[0],
        asking.starts,
        offering.starts,
        asking.longest,
        offering.longest,
    )
    assert isinstance(mixed, Tensor)
    return mixed[None]

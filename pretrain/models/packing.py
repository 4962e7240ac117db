"""Rows of text and regions end to end, without padding, and the attention that stays in each row.

Three forms of that attention give the same numbers (tests/pretrain/models/test_packing.py): row by
row, the plain reference; padded for the attention alone, which is a fortieth of a BERT-base layer's
arithmetic at 120 tokens a row; and torch's varlen kernels on a GPU, in half precision and without
dropout, which they have not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.models.attention import Attend, mask_bias, plain_attention


@dataclass(frozen=True)
class Packing:
    """How a batch is packed: all its text, row after row, and all its regions become one stream.

    In the stream a row's regions follow its text. starts int32 [rows + 1]: where each row begins;
    longest: at least the places of the longest row; row, column int64 [total]: of each place of the
    stream; stream int64 [total]: what stands at a place, counted through all text and then all
    regions; back: the way round; text_columns int64 [text]: the column of each token.
    """

    starts: Tensor
    longest: int
    row: Tensor
    column: Tensor
    stream: Tensor
    back: Tensor
    text_columns: Tensor

    @classmethod
    def of(cls, lengths: Tensor, text: int, total: int, bound: int) -> "Packing":
        """Return the packing of rows of `lengths` int64 [2, rows], text and regions.

        text, total: their sums, which are known from shapes; bound: places of the longest row that
        there may be, which on a GPU saves waiting for the true one.
        """
        device = lengths.device
        whole = lengths.sum(0)
        starts = torch.zeros(len(whole) + 1, dtype=torch.int32, device=device)
        starts[1:] = whole.cumsum(0)
        rows = torch.arange(len(whole), device=device)
        text_row = rows.repeat_interleave(lengths[0], output_size=text)
        region_row = rows.repeat_interleave(lengths[1], output_size=total - text)
        row = rows.repeat_interleave(whole, output_size=total)
        text_columns = _columns(lengths[0], text_row)
        region_columns = lengths[0][region_row] + _columns(lengths[1], region_row)
        back = torch.cat([starts[text_row] + text_columns, starts[region_row] + region_columns])
        places = torch.arange(total, device=device)
        return cls(
            starts=starts,
            longest=bound if device.type == "cuda" else int(whole.max()),
            row=row,
            column=places - starts[row],
            stream=torch.empty_like(places).index_copy_(0, back, places),
            back=back,
            text_columns=text_columns,
        )

    def streamed(self, states: Tensor) -> Tensor:
        """Return [1, total, ...] in the order of the stream from all text and then all regions."""
        return states.index_select(1, self.stream)

    def unstreamed(self, states: Tensor) -> Tensor:
        """Return all text and then all regions from [1, total, ...] in the order of the stream."""
        return states.index_select(1, self.back)

    def first(self, states: Tensor) -> Tensor:
        """Return the first state of each row, [rows, 1, hidden], from [1, total, hidden]."""
        return states[0].index_select(0, self.starts[:-1].long())[:, None]


def _columns(lengths: Tensor, row: Tensor) -> Tensor:
    """Return the place within its row of each element of rows of `lengths`, end to end."""
    before = lengths.cumsum(0) - lengths
    return torch.arange(len(row), device=row.device) - before[row]


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, dropout: float, attend: Attend
) -> Tensor:
    """Return what each place finds in its own row: [1, total, heads, size], as query, key, value.

    attend: the attention of padded rows; the plain one means row by row.
    """
    if attend is plain_attention:
        return _row_by_row(query, key, value, packing, dropout)
    halves = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and halves and dropout == 0.0:
        return _varlen(query, key, value, packing)
    return _padded(query, key, value, packing, dropout, attend)


def _row_by_row(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, dropout: float
) -> Tensor:
    """Return the attention one row after another: the reference."""
    sizes = packing.starts.diff().tolist()
    mixed = []
    for row in zip(*(part[0].split(sizes) for part in (query, key, value)), strict=True):
        asking, offering, told = (part.transpose(0, 1)[None] for part in row)
        mixed.append(plain_attention(asking, offering, told, None, dropout)[0].transpose(0, 1))
    return torch.cat(mixed)[None]


def _padded(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, dropout: float, attend: Attend
) -> Tensor:
    """Return the attention of rows that are padded for it and packed again."""
    rows, longest = len(packing.starts) - 1, packing.longest
    places = packing.row * longest + packing.column
    sizes = packing.starts.diff()
    mask = torch.arange(longest, device=query.device) < sizes[:, None]

    def spread(part: Tensor) -> Tensor:
        empty = part.new_zeros(rows * longest, *part.shape[2:])
        filled = empty.index_copy(0, places, part[0])
        return filled.unflatten(0, (rows, longest)).transpose(1, 2)

    bias = mask_bias(mask, query.dtype)
    mixed = attend(spread(query), spread(key), spread(value), bias, dropout)
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, places)[None]


def _varlen(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Return the attention by torch's kernels for rows of uneven length; CUDA alone has them."""
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = packing.starts, packing.longest
    mixed = varlen_attn(query[0], key[0], value[0], starts, starts, longest, longest)
    assert isinstance(mixed, Tensor)
    return mixed[None]

import errno
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from pretrain.batch_size import Lengths, micro_batch_size
from pretrain.batches.dealing import dealt
from pretrain.batches.order import SampleOrder
from pretrain.exit_codes import DataError, NodeError
from pretrain.feeding import Batch, Feed, Feeding
from pretrain.ranks import Ranks
from pretrain.recipe import BatchRecipe, DataRecipe, StageRecipe
from trawl.errors import RequestError, WorkError


def _stage(batch: BatchRecipe) -> StageRecipe:
    return StageRecipe(
        name="s", data=[DataRecipe(corpus="c")], objectives={"mlm": 1.0}, steps=5, batch=batch
    )


class Positions:
    """Makes batches that hold the positions and samples asked for."""

    def make_stored(self, positions: object) -> Batch:
        return {"rows": torch.tensor([[place[3], place[1]] for place in positions])}  # type: ignore[attr-defined]


class Dealing(Positions):
    """Deals rows by their samples' numbers."""

    def make_dealt(self, positions: Any, batches: int, wanted: Sequence[int]) -> list[Batch]:
        hands = dealt([place[1] for place in positions], batches)
        return [self.make_stored([positions[n] for n in hands[number]]) for number in wanted]


class Broken(Positions):
    def make_stored(self, positions: object) -> Batch:
        raise WorkError("shard 00007.tar: cut")


def _seen(
    size: int, maker: Positions | None = None, balance: int = 1, workers: int = 0
) -> list[list[list[int]]]:
    """What all ranks together see in each step, in the order of the micro-batches."""
    maker, feeding = maker or Positions(), Feeding(workers=workers)
    order = SampleOrder([40, 10], [1.0, 2.0], 3, "s")
    steps: list[dict[int, list[list[int]]]] = [{} for _ in range(5)]
    for rank in range(size):
        ranks = Ranks(rank, rank, size, torch.device("cpu"))
        feed = Feed(order, maker, 16, 4, ranks, feeding, balance)
        for portion in feed.portions(0, 5):
            for number, batch in portion.passes:
                steps[portion.step][number] = batch["rows"].tolist()
    return [[row for _, rows in sorted(step.items()) for row in rows] for step in steps]


def test_the_samples_do_not_depend_on_the_count_of_ranks() -> None:
    alone = _seen(1)
    assert _seen(2) == alone
    assert _seen(4) == alone
    assert [row[0] for step in alone for row in step] == list(range(80))


def test_dealt_samples_do_not_depend_on_the_count_of_ranks() -> None:
    alone = _seen(1, Dealing(), balance=4)
    assert _seen(2, Dealing(), balance=4) == _seen(4, Dealing(), balance=4) == alone
    in_order = _seen(1)
    assert alone != in_order
    assert [sorted(step) for step in alone] == [sorted(step) for step in in_order]
    # Two of a step's micro-batches at a time: samples stay in their half of the step.
    halves = _seen(2, Dealing(), balance=2)
    assert [sorted(step[:8]) for step in halves] == [sorted(step[:8]) for step in in_order]


def test_processes_make_the_batches_of_the_thread() -> None:
    assert _seen(1, Dealing(), balance=2, workers=2) == _seen(1, Dealing(), balance=2)


def test_what_a_process_cannot_read_is_a_data_error_of_one_line() -> None:
    feed = Feed(
        SampleOrder([40], [1.0], 3, "s"),
        Broken(),
        16,
        4,
        Ranks(0, 0, 1, torch.device("cpu")),
        Feeding(workers=1),
    )
    with pytest.raises(DataError, match=r"^shard 00007\.tar: cut$"):
        list(feed.portions(0, 5))


def test_a_full_disk_is_the_machines_fault() -> None:
    class Full(Positions):
        def make_stored(self, positions: object) -> Batch:
            raise WorkError("cache: could not be written") from OSError(errno.ENOSPC, "full")

    feed = Feed(
        SampleOrder([40], [1.0], 3, "s"), Full(), 16, 4, Ranks(0, 0, 1, torch.device("cpu"))
    )
    with pytest.raises(NodeError, match="could not be written"):
        list(feed.portions(0, 5))


def test_a_later_start_sees_the_same() -> None:
    ranks = Ranks(0, 0, 1, torch.device("cpu"))
    order = SampleOrder([40], [1.0], 3, "s")
    feed = Feed(order, Positions(), 16, 4, ranks)
    whole = [[batch["rows"].tolist() for _, batch in p.passes] for p in feed.portions(0, 5)]
    late = [[batch["rows"].tolist() for _, batch in p.passes] for p in feed.portions(3, 5)]
    assert late == whole[3:]


def test_what_cannot_be_read_is_a_data_error() -> None:
    feed = Feed(
        SampleOrder([40], [1.0], 3, "s"), Broken(), 16, 4, Ranks(0, 0, 1, torch.device("cpu"))
    )
    with pytest.raises(DataError, match=r"00007\.tar"):
        list(feed.portions(0, 5))


@pytest.mark.parametrize(
    ("batch", "ranks", "size"),
    [
        (BatchRecipe(samples=16), 2, 8),
        (BatchRecipe(samples=16, micro_batch=4), 2, 4),
        (BatchRecipe(samples=16, tokens_per_micro_batch=350), 2, 2),
        (BatchRecipe(samples=12, tokens_per_micro_batch=100 * 5), 2, 3),
        (BatchRecipe(samples=16, tokens_per_micro_batch=10**6), 2, 8),
    ],
)
def test_micro_batches(batch: BatchRecipe, ranks: int, size: int) -> None:
    assert micro_batch_size(_stage(batch), ranks, Lengths(100)) == size


@pytest.mark.parametrize(
    ("batch", "ranks", "words"),
    [
        (BatchRecipe(samples=15), 2, "take 14"),
        (BatchRecipe(samples=1), 2, "take 2"),
        (BatchRecipe(samples=16, micro_batch=3), 2, "take 18"),
        (BatchRecipe(samples=16, tokens_per_micro_batch=99), 2, "take 100"),
        (BatchRecipe(samples=16, micro_batch=4, balance=3), 2, "4 micro-batches of a step; take 1"),
    ],
)
def test_batches_that_do_not_divide(batch: BatchRecipe, ranks: int, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        micro_batch_size(_stage(batch), ranks, Lengths(100))

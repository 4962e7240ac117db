"""Trains the natural-image model on the statistics of examples, by torch on the CPU.

Classes weigh the same, and no group of examples more than 120 of its members: a site with a
thousand screenshots says little more than one with a hundred.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from data_pipeline.natural.examples import Picture, from_folder, from_labels, made, varied
from data_pipeline.natural.model import CUT, NaturalModel
from data_pipeline.natural.statistics import Floats, statistics_of
from trawl import storage
from trawl.chance import generator, seed_of
from trawl.errors import RequestError

_MEMBERS, _HIDDEN = 5, 24
STEPS = 1200
_BATCH, _RATE, _DECAY = 256, 3e-3, 3e-2
_HIDDEN_INPUTS = 0.1  # share of statistics that a network does not see in a step
_GROUP_WEIGHT = 120
_MOST_IN_FOLDER = 2000
_HELD_OUT_SEED = 1_000_000  # of made pictures that serve the figures alone


@dataclass(frozen=True)
class Sources:
    """Where examples come from: how many to make, folders of each class, labels of WARC images."""

    made: int
    photographs: Sequence[str] = ()
    graphics: Sequence[str] = ()
    labels: str | None = None
    warcs: str = ""

    def pictures(self, seed: int) -> Iterator[Picture]:
        """Return all pictures to learn from; a source that is wrong is told before any is made."""
        given = [
            from_folder(folder, natural, _MOST_IN_FOLDER)
            for natural, folders in ((True, self.photographs), (False, self.graphics))
            for folder in folders
        ]
        if self.labels:
            given.append(from_labels(self.labels, self.warcs, held_out=False))
        return chain(made(seed, self.made), *(varied(pictures, seed) for pictures in given))

    def told(self) -> str:
        """Return where they came from in words, for the model's file: names, not places."""
        folders = [Path(folder).name for folder in (*self.photographs, *self.graphics)]
        labels = [Path(self.labels).name] if self.labels else []
        return ", ".join([f"{self.made} made of each class", *folders, *labels])


@dataclass(frozen=True)
class Examples:
    """Statistics [examples, statistics] with what is known of each row."""

    names: tuple[str, ...]
    rows: Floats
    natural: npt.NDArray[np.bool_]
    groups: tuple[str, ...]
    keys: tuple[str, ...]

    def part(self, mask: npt.NDArray[np.bool_]) -> "Examples":
        """Return the examples where `mask` holds."""
        chosen = np.flatnonzero(mask)
        return Examples(
            self.names,
            self.rows[chosen],
            self.natural[chosen],
            tuple(self.groups[n] for n in chosen),
            tuple(self.keys[n] for n in chosen),
        )


def train(sources: Sources, out: Path, seed: int = 0, steps: int = STEPS) -> str:
    """Train on all sources, write the model to `out`, return its figures as a sentence."""
    examples = measured(sources.pictures(seed))
    model = fit(examples, sources.told(), seed, steps)
    storage.write_bytes(str(out), model.to_bytes())
    most = min(100, sources.made)
    figures = [
        f"{out}: {len(examples.rows)} examples, {examples.natural.mean():.0%} natural",
        f"made pictures held out: {_figures(model, made(_HELD_OUT_SEED + seed, most))}",
    ]
    if sources.labels:
        rest = list(from_labels(sources.labels, sources.warcs, held_out=True))
        if rest:
            figures.append(f"labels held out: {_figures(model, rest)}")
    return "; ".join(figures)


def _figures(model: NaturalModel, pictures: Iterable[Picture]) -> str:
    """Return precision and recall of "natural" at 0.5 as words."""
    examples = measured(pictures)
    kept = model.probabilities(examples.rows) >= 0.5
    right = int((kept & examples.natural).sum())
    precision, recall = right / max(1, kept.sum()), right / max(1, examples.natural.sum())
    return f"{len(kept)} images, precision {precision:.3f}, recall {recall:.3f}"


def measured(pictures: Iterable[Picture]) -> Examples:
    """Return the statistics of pictures."""
    rows, natural, groups, keys = [], [], [], []
    names: tuple[str, ...] = ()
    for picture in pictures:
        grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)
        statistics = statistics_of(picture.pixels, np.asarray(grey, np.uint8))
        names = tuple(statistics)
        rows.append(list(statistics.values()))
        natural.append(picture.natural)
        groups.append(picture.group)
        keys.append(picture.key)
    return Examples(
        names, np.array(rows, np.float32), np.array(natural, bool), tuple(groups), tuple(keys)
    )


def weights_of(examples: Examples) -> Floats:
    """Return the weight of each example: groups are capped, the two classes weigh the same."""
    sizes = Counter(zip(examples.groups, examples.natural.tolist(), strict=True))
    weights = np.array(
        [
            min(1.0, _GROUP_WEIGHT / sizes[group, natural])
            for group, natural in zip(examples.groups, examples.natural.tolist(), strict=True)
        ]
    )
    for natural in (False, True):
        of_class = examples.natural == natural
        weights[of_class] /= weights[of_class].sum()
    return (weights / weights.mean()).astype(np.float32)


def fit(examples: Examples, source: str, seed: int = 0, steps: int = STEPS) -> NaturalModel:
    """Train all members on the examples, each by an order and a beginning of its own."""
    if len(set(examples.natural.tolist())) < 2:
        raise RequestError("train-natural: only one class of examples; give both")
    weights = weights_of(examples)
    mean = np.average(examples.rows, axis=0, weights=weights)
    scale = np.sqrt(np.average((examples.rows - mean) ** 2, axis=0, weights=weights)) + 1e-4
    inputs = torch.from_numpy(np.clip((examples.rows - mean) / scale, -CUT, CUT)).float()
    answers = torch.from_numpy(examples.natural).float()
    odds = weights / weights.sum(dtype=np.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small products only wait for each other
    try:
        members = [_member(inputs, answers, odds, (seed, n), steps) for n in range(_MEMBERS)]
    finally:
        torch.set_num_threads(threads)
    first, first_bias, second, second_bias = (
        np.stack([member[part].numpy() for member in members]) for part in range(4)
    )
    return NaturalModel(
        examples.names,
        source,
        mean.astype(np.float32),
        scale.astype(np.float32),
        first,
        first_bias,
        second,
        second_bias,
    )


def _member(
    inputs: torch.Tensor,
    answers: torch.Tensor,
    odds: npt.NDArray[np.float64],
    key: tuple[int, int],
    steps: int,
) -> tuple[torch.Tensor, ...]:
    """Train one network; inputs [examples, statistics], answers and odds [examples]."""
    draw = generator("natural member", *key)
    noise = torch.Generator().manual_seed(seed_of("natural member", *key))
    width = inputs.shape[1]
    first = torch.randn(width, _HIDDEN, generator=noise) / width**0.5
    first_bias, second_bias = torch.zeros(_HIDDEN), torch.zeros(())
    second = torch.randn(_HIDDEN, generator=noise) / _HIDDEN**0.5
    parts = [part.requires_grad_() for part in (first, first_bias, second, second_bias)]
    optimizer = torch.optim.AdamW(parts, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss_of = torch.nn.BCEWithLogitsLoss()
    for _ in range(steps):
        chosen = torch.from_numpy(draw.choice(len(inputs), _BATCH, p=odds))
        seen = torch.rand(_BATCH, width, generator=noise) >= _HIDDEN_INPUTS
        hidden = torch.relu((inputs[chosen] * seen) @ first + first_bias)
        # A little doubt in every label: some are wrong, and certainty does not carry over.
        wanted = answers[chosen] * 0.96 + 0.02
        loss = loss_of(hidden @ second + second_bias, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return tuple(part.detach() for part in parts)

"""Training batches: examples flipped, zoomed and shifted onto a canvas, a function of the step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data_pipeline.detector.examples import Example, ExampleSource
from data_pipeline.detector.matching import Truth
from data_pipeline.detector.processes import ALONE, Share
from trawl.chance import generator

CANVASES = ((224, 224), (224, 256), (256, 224), (224, 288), (288, 224))
"""Heights and widths of training batches, all multiples of the network's largest stride."""

_FILL = (124, 116, 104)
_ZOOM = (0.8, 1.35)
_STRETCH = 1.1
_LEFT_OVER = 0.35
_MOSAIC_SHARE = 0.8


@dataclass(frozen=True)
class TrainingBatch:
    """Equally sized images, pixels uint8 [batch, height, width, 3], and their truth."""

    pixels: Tensor
    truths: list[Truth]


class TrainingBatches(Dataset[TrainingBatch]):
    """Batch `step` as a pure function of (seed, step); every epoch permutes all examples.

    The first `mosaic_steps` batches are mosaics: a scene holds few objects for its pixels, a mosaic
    of close views several times as many, so that classes are learned in fewer steps.
    Of several processes each gets its `share`: rows of the batch that one alone would get.
    """

    def __init__(
        self,
        source: ExampleSource,
        seed: int,
        batch: int,
        short_side: int,
        mosaic_steps: int,
        share: Share = ALONE,
    ) -> None:
        self._rows = share.rows(batch)
        self._source, self._seed, self._batch = source, seed, batch
        self._short_side, self._mosaic_steps = short_side, mosaic_steps
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def __getitem__(self, step: int) -> TrainingBatch:
        """Make batch number `step`, counted from 0."""
        chance = generator(self._seed, "detector batch", step)
        canvas = CANVASES[int(chance.integers(len(CANVASES)))]
        images, truths = [], []
        for position in range(step * self._batch, (step + 1) * self._batch):
            if step < self._mosaic_steps and chance.random() < _MOSAIC_SHARE:
                image, truth = self._mosaic(canvas, chance)
            else:
                example = self._source[self._index(position)]
                image, truth = place(example, canvas, self._short_side, chance)
            images.append(image)
            truths.append(truth)
        own = np.stack(images[self._rows])
        return TrainingBatch(torch.from_numpy(own), truths[self._rows])

    def _index(self, position: int) -> int:
        epoch, row = divmod(position, len(self._source))
        if self._order[0] != epoch:
            chance = generator(self._seed, "detector order", epoch)
            self._order = (epoch, chance.permutation(len(self._source)))
        return int(self._order[1][row])

    def _mosaic(
        self, canvas: tuple[int, int], chance: np.random.Generator
    ) -> tuple[np.ndarray, Truth]:
        """Tile the canvas with close views of objects out of examples drawn at random."""
        rows = int(chance.integers(2, 5))
        columns = max(2, round(rows * canvas[1] / canvas[0]))
        down = np.linspace(0, canvas[0], rows + 1).astype(int)
        across = np.linspace(0, canvas[1], columns + 1).astype(int)
        image = np.empty((*canvas, 3), np.uint8)
        truths = []
        for top, bottom in pairwise(down):
            for left, right in pairwise(across):
                example = self._source[int(chance.integers(len(self._source)))]
                tile, truth = close_view(
                    example, (bottom - top, right - left), self._short_side, chance
                )
                image[top:bottom, left:right] = tile
                offset = torch.tensor([left, top, left, top], dtype=torch.float32)
                truths.append(replace(truth, boxes=truth.boxes + offset))
        return image, Truth(
            torch.cat([truth.boxes for truth in truths]),
            torch.cat([truth.classes for truth in truths]),
            torch.cat([truth.attributes for truth in truths]),
        )


def place(
    example: Example, canvas: tuple[int, int], short_side: int, chance: np.random.Generator
) -> tuple[np.ndarray, Truth]:
    """Draw the example onto the canvas (height, width), zoomed, stretched, shifted and flipped."""
    height, width = example.image.shape[:2]
    scale_x, scale_y = _scales(example, short_side, chance)
    shift_x = chance.uniform(*sorted((0.0, canvas[1] - width * scale_x)))
    shift_y = chance.uniform(*sorted((0.0, canvas[0] - height * scale_y)))
    return _draw(example, canvas, (scale_x, scale_y), (shift_x, shift_y), chance.random() < 0.5)


def close_view(
    example: Example, canvas: tuple[int, int], short_side: int, chance: np.random.Generator
) -> tuple[np.ndarray, Truth]:
    """Draw the example with one of its objects in the middle, shrunk if it would not fit."""
    if not len(example.boxes):
        return place(example, canvas, short_side, chance)
    box = example.boxes[int(chance.integers(len(example.boxes)))]
    scale_x, scale_y = _scales(example, short_side, chance)
    room = min(canvas[1] / ((box[2] - box[0]) * scale_x), canvas[0] / ((box[3] - box[1]) * scale_y))
    fit = min(1.0, room * chance.uniform(0.75, 1.0))
    scale_x, scale_y = scale_x * fit, scale_y * fit
    free_x = canvas[1] - (box[2] - box[0]) * scale_x
    free_y = canvas[0] - (box[3] - box[1]) * scale_y
    shift_x = free_x * chance.uniform(0.2, 0.8) - box[0] * scale_x
    shift_y = free_y * chance.uniform(0.2, 0.8) - box[1] * scale_y
    return _draw(example, canvas, (scale_x, scale_y), (shift_x, shift_y), chance.random() < 0.5)


def _scales(example: Example, short_side: int, chance: np.random.Generator) -> tuple[float, float]:
    """Horizontal and vertical scale: that of inference, times a zoom and a stretch."""
    zoom = short_side / min(example.image.shape[:2]) * np.exp(chance.uniform(*np.log(_ZOOM)))
    stretch = np.exp(chance.uniform(-1, 1) * np.log(_STRETCH) / 2)
    return zoom * stretch, zoom / stretch


def _draw(
    example: Example,
    canvas: tuple[int, int],
    scale: tuple[float, float],
    shift: tuple[float, float],
    mirrored: bool,
) -> tuple[np.ndarray, Truth]:
    """Draw the example at a scale and a shift (x, y), and move its boxes along.

    Objects of which less than about a third stays on the canvas are not asked for.
    """
    scale_x, scale_y = scale
    shift_x, shift_y = shift
    if mirrored:
        shift_x, scale_x = canvas[1] - shift_x, -scale_x
    # Pixel centres lie at half coordinates for boxes and at whole ones for OpenCV.
    matrix = np.array(
        [
            [scale_x, 0, shift_x + 0.5 * scale_x - 0.5],
            [0, scale_y, shift_y + 0.5 * scale_y - 0.5],
        ]
    )
    image = cv2.warpAffine(
        example.image,
        matrix,
        (canvas[1], canvas[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_FILL,
    )
    return image, _moved_truth(example, canvas, (scale_x, scale_y), (shift_x, shift_y))


def _moved_truth(
    example: Example,
    canvas: tuple[int, int],
    scale: tuple[float, float],
    shift: tuple[float, float],
) -> Truth:
    x = np.sort(example.boxes[:, 0::2] * scale[0] + shift[0], axis=1)
    y = np.sort(example.boxes[:, 1::2] * scale[1] + shift[1], axis=1)
    whole = (x[:, 1] - x[:, 0]) * (y[:, 1] - y[:, 0])
    x, y = x.clip(0, canvas[1]), y.clip(0, canvas[0])
    sides = np.stack([x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]], axis=1)
    kept = (sides.prod(axis=1) > _LEFT_OVER * whole) & (sides > 2).all(axis=1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)[kept].astype(np.float32)
    return Truth(
        torch.from_numpy(boxes),
        torch.from_numpy(example.object_ids[kept] + 1),
        torch.from_numpy(example.attribute_ids[kept] + 1),
    )


def use_one_thread(worker: int) -> None:
    """Keep OpenCV in worker number `worker` to one thread: its threads would fight training's."""
    cv2.setNumThreads(1)

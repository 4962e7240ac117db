"""From an RGB image to a published detector's input: each family's rule, in its own arithmetic.

All make BGR planes of 0 to 255 minus a mean. They differ in what is resized (the image or its
difference from the mean), with which interpolation, and to how many pixels; the differences reach
81 grey levels, so a feature is comparable only under its own rule. Published in
bottom-up-attention (lib/fast_rcnn/test.py), detectron2 (ResizeShortestEdge), transformers' FRCNN
(processing_image.py) and scene_graph_benchmark (transforms.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from data_pipeline.images import ImageError
from trawl.errors import RequestError, WorkError

CAFFE_MEAN = (102.9801, 115.9465, 122.7717)
VINVL_MEAN = (103.530, 116.280, 123.675)
LEAST_SIDE = 16
"""Pixels of the shorter resized side, under which the maps would have no cell."""


@dataclass(frozen=True)
class PreprocessingRule:
    """Short side and limit of the long side in pixels, mean in BGR, and the published arithmetic.

    method: "scaled" subtracts the mean in float, then samples with the exact scale (cv2 with
    fx = fy = scale); "pillow" resizes uint8, antialiased, then subtracts; "torch" resizes floats by
    the ratio of sizes, then subtracts; "truncated" is "pillow" with sizes rounded down and pixels
    that passed through 0..1.
    """

    short_side: int
    long_limit: int
    mean: tuple[float, float, float]
    method: str


RULES = {
    "butd": PreprocessingRule(600, 1000, CAFFE_MEAN, "scaled"),
    "d2": PreprocessingRule(600, 1000, CAFFE_MEAN, "pillow"),
    "d2-800": PreprocessingRule(800, 1333, CAFFE_MEAN, "pillow"),
    "hf": PreprocessingRule(800, 1333, CAFFE_MEAN, "torch"),
    "vinvl": PreprocessingRule(600, 1000, VINVL_MEAN, "truncated"),
}


@dataclass(frozen=True)
class Prepared:
    """An image as the network takes it: BGR float32 [3, H, W], and how it was scaled.

    own_size: height and width before resizing. scale: the rule's factor where both axes share one
    exactly ("scaled"), else None: then each axis has the ratio of its sizes.
    """

    pixels: Tensor
    own_size: tuple[int, int]
    scale: float | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width after resizing."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def network_boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [boxes, 4] of the own image in pixels of the resized one."""
        if self.scale is not None:
            return boxes * self.scale
        height, width = self.size
        ratios = [width / self.own_size[1], height / self.own_size[0]] * 2
        return boxes * torch.tensor(ratios, dtype=torch.float32, device=boxes.device)

    def own_boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [boxes, 4] of the resized image in pixels of the own one."""
        if self.scale is not None:
            return boxes / self.scale
        height, width = self.size
        growth = [self.own_size[1] / width, self.own_size[0] / height] * 2
        return boxes * torch.tensor(growth, dtype=torch.float32, device=boxes.device)


def preprocessing_rule(name: str) -> PreprocessingRule:
    """Look a rule up by name; RequestError lists the known ones."""
    if name not in RULES:
        raise RequestError(f"preprocessing: {name} is not a rule; choose one of {', '.join(RULES)}")
    return RULES[name]


def target(height: int, width: int, rule: PreprocessingRule) -> tuple[int, int, float]:
    """Height and width after resizing, and the scale, by the arithmetic of each original.

    ImageError "too-elongated" where the shorter side would be under LEAST_SIDE pixels.
    """
    short, long = min(height, width), max(height, width)
    if rule.method == "truncated":
        new_height, new_width, scale = _truncated(height, width, rule)
    elif rule.method == "scaled":
        scale = rule.short_side / short
        # Compared rounded to whole pixels, half to even, as numpy does.
        scale = rule.long_limit / long if round(scale * long) > rule.long_limit else scale
        new_height, new_width = round(height * scale), round(width * scale)
    else:
        scale = rule.short_side / short
        sides = [rule.short_side if side == short else scale * side for side in (height, width)]
        if max(sides) > rule.long_limit:
            scale = rule.long_limit / max(sides)
            sides = [side * scale for side in sides]
        new_height, new_width = (int(side + 0.5) for side in sides)
    if min(new_height, new_width) < LEAST_SIDE:
        raise ImageError("too-elongated", f"{width} x {height} pixels")
    return new_height, new_width, scale


def _truncated(height: int, width: int, rule: PreprocessingRule) -> tuple[int, int, float]:
    """Return maskrcnn-benchmark's size: the short side limited first, the long one rounded down."""
    short, long = min(height, width), max(height, width)
    side = rule.short_side
    if long / short * side > rule.long_limit:
        side = round(rule.long_limit * short / long)
    other = int(side * long / short)
    return (other, side, side / short) if height > width else (side, other, side / short)


def prepare(
    image: np.ndarray, rule: PreprocessingRule, device: torch.device | str = "cpu"
) -> Prepared:
    """Prepare a uint8 RGB [height, width, 3] image of any size by the rule.

    On a CPU "scaled" is cv2 itself; elsewhere it is `sample_by_scale`, equal to 3e-5.
    """
    own = image.shape[0], image.shape[1]
    height, width, scale = target(*own, rule)
    mean = torch.tensor(rule.mean, dtype=torch.float32, device=device)
    if rule.method == "scaled":
        if torch.device(device).type == "cpu":
            centred = image[:, :, ::-1].astype(np.float32) - np.asarray(rule.mean, np.float32)
            method = cv2.INTER_LINEAR
            sized = cv2.resize(centred, None, fx=scale, fy=scale, interpolation=method)
            return Prepared(torch.from_numpy(sized).permute(2, 0, 1), own, scale)
        on_device = torch.from_numpy(np.ascontiguousarray(image)).to(device)
        return Prepared(
            sample_by_scale(on_device.flip(2).float() - mean, scale).permute(2, 0, 1), own, scale
        )
    if rule.method == "torch":
        floats = torch.from_numpy(np.ascontiguousarray(image)).to(device).flip(2).float()
        planes = floats.permute(2, 0, 1)[None]
        resized = functional.interpolate(
            planes, (height, width), mode="bilinear", align_corners=False
        )
        return Prepared(resized[0] - mean[:, None, None], own, None)
    pillow = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(pillow)).to(device).flip(2).float().permute(2, 0, 1)
    if rule.method == "truncated":
        pixels = pixels / 255.0 * 255.0
    return Prepared(pixels - mean[:, None, None], own, None)


def sample_by_scale(image: Tensor, scale: float) -> Tensor:
    """Bilinear resize of float32 [H, W, channels] by an exact scale, as cv2 with fx = fy = scale.

    Coordinates are computed in float64 from the scale itself; torch's own interpolation derives
    them from the ratio of rounded sizes, which drifts by up to 81 grey levels at edges.
    """
    top, bottom, down = _taps(image.shape[0], scale, image.device)
    left, right, across = _taps(image.shape[1], scale, image.device)
    across = across[None, :, None]
    lines = image[:, left] * (1 - across) + image[:, right] * across  # [H, W', channels]
    down = down[:, None, None]
    return lines[top] * (1 - down) + lines[bottom] * down


def _taps(length: int, scale: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper source index and the weight of the upper one, for every output index."""
    places = torch.arange(round(length * scale), dtype=torch.float64, device=device)
    source = ((places + 0.5) / scale - 0.5).clamp(0, length - 1)
    lower = source.floor()
    upper = (lower + 1).clamp(max=length - 1)
    return lower.long(), upper.long(), (source - lower).float()


def stack(prepared: list[Prepared], height: int, width: int) -> Tensor:
    """Images in the upper left corners of zeros: [batch, 3, height, width].

    Zero is the mean colour, and what a convolution pads with.
    """
    first = prepared[0].pixels
    batch = first.new_zeros(len(prepared), 3, height, width)
    for row, image in enumerate(prepared):
        batch[row, :, : image.size[0], : image.size[1]] = image.pixels
    return batch


def assert_bgr(rule: PreprocessingRule, device: torch.device | str = "cpu") -> None:
    """Check with a red and a blue image that blue is the first plane; WorkError when it is not.

    The published loaders fed RGB to a BGR model unnoticed (transformers#19601).
    """
    red = np.zeros((LEAST_SIDE, LEAST_SIDE, 3), np.uint8)
    red[:, :, 0] = 255
    blue = np.ascontiguousarray(red[:, :, ::-1])
    brightest = [
        int(prepare(image, rule, device).pixels.mean(dim=(1, 2)).argmax()) for image in (red, blue)
    ]
    if brightest != [2, 0]:
        raise WorkError("detector: preprocessing does not give BGR; features would be wrong")

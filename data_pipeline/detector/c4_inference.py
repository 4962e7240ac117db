"""The published detectors in use: images in, regions out, batched and fast, each image its own.

The steps of `detect` are methods of their own, so that a benchmark can time them: `prepare`,
`maps_of`, `proposals_of`, `pooled`, `features_of`, `chosen`. Softmax, decoding, suppression and all
dense layers are float32 whatever the network's type. `c4_plain` is the same, composed as one would
write it down, and the reference of the tests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector.buckets import Batch, Padding, plan
from data_pipeline.detector.c4 import Bottleneck, C4Network
from data_pipeline.detector.c4_config import STRIDE
from data_pipeline.detector.c4_preprocessing import (
    Prepared,
    assert_bgr,
    prepare,
    preprocessing_rule,
    stack,
)
from data_pipeline.detector.c4_proposals import clip, decode, propose
from data_pipeline.detector.c4_region_head import DistinctBins, DistinctRegionHead, distinct
from data_pipeline.detector.c4_selection import Rule, c4_selection, choose
from data_pipeline.detector.c4_weights import C4Weights
from data_pipeline.detector.masked_batch import Size, batch_maps, masked_maps
from data_pipeline.detector.roi_pool import align, bins, pool
from data_pipeline.detector.selection import Selected
from data_pipeline.detector.winograd import WinogradConv2d
from trawl.errors import RequestError

CHUNKS = (300, 100, 36)
"""Numbers of regions that res5 is usually compiled for; others are filled up with copies."""

_GPU_CHUNK, _CPU_CHUNK = 100, 16
"""Regions that go through res5 at a time where nothing is compiled; it bounds the memory. On a CPU
the maps of so few stay in its cache: 90 GFLOP/s of a core, against 79 with 100."""

_LEAST_ATTRIBUTE = {"vinvl": 0.05}
"""Confidence under which a family reports no attribute."""

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Computing:
    """How a detector computes. The defaults are exact.

    device: as torch names it. number: "float32", or "bfloat16" for the convolutions. compiled:
    torch.compile of the backbone, for shapes as they come, and of res5, for the numbers of regions
    in `chunks`, which fall. images: most in a batch. class_probs: keep the probabilities of all
    classes, background first.
    """

    device: str = "cpu"
    number: str = "float32"
    compiled: bool = False
    chunks: tuple[int, ...] = CHUNKS
    images: int = 4
    class_probs: bool = False

    def __post_init__(self) -> None:
        if self.number not in _TYPES:
            raise RequestError(
                f"detector: number {self.number} is not known; choose one of {', '.join(_TYPES)}"
            )
        falling = sorted(set(self.chunks), reverse=True)
        if list(self.chunks) != falling or not falling or falling[-1] < 1:
            raise RequestError(
                f"detector: chunks {self.chunks} are no falling numbers of regions; give e.g. "
                f"{CHUNKS}"
            )


EXACT = Computing()


class C4Detector:
    """A loaded detector of a published family. Safe to share between threads that only detect."""

    def __init__(self, name: str, weights: C4Weights, computing: Computing = EXACT) -> None:
        self.name = name
        self.weights_sha256 = weights.sha256
        self.objects = list(weights.objects)
        self.attributes = list(weights.attributes)
        self.feature_size = int(weights.tensors["classifier.weight"].shape[1])
        self.computing = computing
        self.config = weights.config
        self.padding = Padding()
        self._device = torch.device(computing.device)
        self._rule = preprocessing_rule(weights.config.preprocessing)
        assert_bgr(self._rule, self._device)
        self._number = _TYPES[computing.number]
        self._network = _fast_network(weights.network(), self._device, self._number)
        plainly = self._device.type == "cpu" and self._number == torch.float32
        self._distinct: DistinctRegionHead | None = None
        if plainly and not computing.compiled:
            _multiply_less(self._network)
            self._distinct = DistinctRegionHead.of(self._network)
        self._own = threading.local()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the weights are there for every stream
        self._masked: Callable[[C4Network, Tensor, Sequence[Tensor]], Tensor] = masked_maps
        self._res5: Callable[[Tensor], Tensor] = self._network.res5
        if computing.compiled:
            # One graph for the shapes and numbers of images of all batches; res5 has its chunks.
            self._masked = torch.compile(masked_maps, fullgraph=True, dynamic=True)
            self._res5 = torch.compile(self._network.res5, fullgraph=True, dynamic=False)

    @torch.inference_mode()
    def detect(self, images: Sequence[np.ndarray], selection: str) -> list[Regions]:
        """Regions of every image, in order, boxes in its own pixels and features in float32.

        Images are uint8 [height, width, 3] RGB of any sizes; `selection` names a rule of
        c4_selection. RequestError for another array, ImageError for an image that is too elongated.
        """
        rule = c4_selection(selection)
        prepared = [self.prepare(image, place) for place, image in enumerate(images)]
        found: dict[int, Regions] = {}
        with _full_precision(self._number), self._stream():
            for batch in self._batches(prepared):
                members = [prepared[place] for place in batch.members]
                maps, valid = self.maps_of(members, batch)
                proposals = self.proposals_of(maps, members, valid)
                for row, place in enumerate(batch.members):
                    features = self.features_of(self.pooled(maps, row, valid, proposals[row]))
                    found[place] = self.chosen(members[row], proposals[row], features, rule)
        return [found[place] for place in range(len(images))]

    @torch.inference_mode()
    def features_at(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Features float32 [R, feature size] of given boxes [R, 4] in each image's own pixels."""
        if len(images) != len(boxes):
            raise RequestError(f"{len(images)} images with boxes of {len(boxes)}; give one of each")
        prepared = [self.prepare(image, place) for place, image in enumerate(images)]
        found: dict[int, np.ndarray] = {}
        with _full_precision(self._number), self._stream():
            for batch in self._batches(prepared):
                members = [prepared[place] for place in batch.members]
                maps, valid = self.maps_of(members, batch)
                for row, place in enumerate(batch.members):
                    given = torch.from_numpy(_checked_boxes(boxes[place], place)).to(self._device)
                    inside = members[row].network_boxes(given)
                    features = self.features_of(self.pooled(maps, row, valid, inside))
                    found[place] = features.cpu().numpy()
        return [found[place] for place in range(len(images))]

    def prepare(self, image: np.ndarray, place: int) -> Prepared:
        """Resize and centre an image by the family's rule; RequestError if it is no image."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise RequestError(
                f"image {place}: is {image.dtype} {image.shape}; give uint8 [height, width, 3] RGB"
            )
        return prepare(image, self._rule, self._device)

    def maps_of(self, prepared: list[Prepared], batch: Batch) -> tuple[Tensor, list[Size]]:
        """Maps [batch, 1024, h, w] and the (rows, columns) of them that are each image's own."""
        pixels = stack(prepared, batch.height, batch.width).to(
            self._number, memory_format=torch.channels_last
        )
        sizes = [image.size for image in prepared]
        compiled = self.computing.compiled
        return batch_maps(self._network, pixels, sizes, self._masked, always=compiled)

    def proposals_of(
        self, maps: Tensor, prepared: list[Prepared], valid: list[Size]
    ) -> list[Tensor]:
        """Proposals of each image [at most 300, 4], in pixels of the resized image."""
        head = self._network.proposal_head
        hidden = functional.relu(head.hidden(maps)).float()
        return propose(
            head.objectness(hidden),
            head.deltas(hidden),
            self._network.cell_anchors,
            self.config,
            [image.size for image in prepared],
            [
                image.size[0] / image.own_size[0] if image.scale is None else image.scale
                for image in prepared
            ],
            valid,
        )

    def pooled(
        self, maps: Tensor, row: int, valid: list[Size], boxes: Tensor
    ) -> Tensor | DistinctBins:
        """Regions of one image of the batch cut from its own cells: [boxes, 1024, 14, 14]."""
        rows, columns = valid[row]
        own = maps[row, :, :rows, :columns]
        side = self.config.pooled_side
        if self._distinct is not None:
            return distinct(own.permute(1, 2, 0), bins(boxes, side, STRIDE, rows, columns))
        cut = pool if self.config.pooling == "max" else align
        return cut(own, boxes, side, STRIDE)

    def features_of(self, pooled: Tensor | DistinctBins) -> Tensor:
        """Features [boxes, feature size] float32 of pooled regions, a chunk at a time."""
        if isinstance(pooled, DistinctBins):
            assert self._distinct is not None
            return self._distinct(pooled)
        compiled = self.computing.compiled
        parts = [
            self._res5(part).mean(dim=(2, 3), dtype=torch.float32)[:count]
            for part, count in _chunks(pooled, self.computing.chunks if compiled else None)
        ]
        return torch.cat(parts) if parts else pooled.new_zeros(0, self.feature_size).float()

    def chosen(
        self,
        prepared: Prepared,
        proposals: Tensor,
        features: Tensor,
        rule: Rule,
    ) -> Regions:
        """Score one image's proposals, select, and read attributes for what is kept."""
        logits = self._network.classifier(features)
        probabilities = logits.softmax(dim=1)
        boxes = proposals
        if rule.boxes == "regressed":
            boxes = self._regressed(prepared, proposals, features, probabilities)
        own = prepared.own_boxes(boxes)
        selected = choose(own, probabilities[:, 1:], rule, self.config.boxes)
        rows = selected.rows
        attribute_ids, attribute_conf = self._attributes(features[rows], logits[rows], selected)
        height, width = prepared.own_size
        limits = own.new_tensor([width, height, width, height])
        return Regions(
            boxes=torch.minimum(own[rows], limits).clamp(min=0).cpu().numpy(),
            features=features[rows].cpu().numpy(),
            scale=None,
            object_ids=selected.object_ids.cpu().numpy().astype(np.int16),
            attribute_ids=attribute_ids.cpu().numpy().astype(np.int16),
            object_conf=selected.confidences.cpu().numpy().astype(np.float16),
            attribute_conf=attribute_conf.cpu().numpy().astype(np.float16),
            class_probs=probabilities[rows].cpu().numpy().astype(np.float16)
            if self.computing.class_probs
            else None,
        )

    def _regressed(
        self, prepared: Prepared, proposals: Tensor, features: Tensor, probabilities: Tensor
    ) -> Tensor:
        """Proposals refined for their best foreground class; only its rows are computed."""
        regressor = self._network.regressor
        best = probabilities[:, 1:].argmax(dim=1) + 1
        rows = best[:, None] * 4 + torch.arange(4, device=best.device)  # [boxes, 4]
        deltas = torch.baddbmm(
            regressor.bias[rows][:, :, None], regressor.weight[rows], features[:, :, None]
        )[:, :, 0]
        convention = self.config.boxes
        moved = decode(proposals, deltas, self.config.regression_weights, convention)
        return clip(moved, prepared.size, convention)

    def _attributes(
        self, features: Tensor, logits: Tensor, selected: Selected
    ) -> tuple[Tensor, Tensor]:
        """Most probable attribute of each kept region and its confidence; -1 and 0 for none."""
        head = self._network.attributes
        if head is None:
            none = torch.full_like(selected.rows, -1)
            return none, torch.zeros_like(selected.confidences)
        detected = self.config.attribute_class == "detected"
        classes = selected.object_ids + 1 if detected else logits.argmax(dim=1)
        scores = head(features, classes)
        if self.config.attribute_softmax == "all":
            confidences, ids = scores.softmax(dim=1)[:, 1:].max(dim=1)
        else:
            confidences, ids = scores[:, 1:].softmax(dim=1).max(dim=1)
        reported = confidences >= _LEAST_ATTRIBUTE.get(self.config.family, 0.0)
        return torch.where(reported, ids, -1), torch.where(reported, confidences, 0.0)

    def _stream(self) -> AbstractContextManager[Any]:
        """Have a GPU do the calling thread's work in a stream of its own, beside other threads'."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._own.stream)

    def _batches(self, prepared: list[Prepared]) -> list[Batch]:
        sizes = [image.size for image in prepared]
        batches = plan(sizes, self.computing.images, fixed=self.computing.compiled)
        self.padding.add(sizes, batches)
        return batches


def _fast_network(network: C4Network, device: torch.device, number: torch.dtype) -> C4Network:
    """Fold, move and convert: convolutions in `number`, dense layers and last 1x1s in float32."""
    network.fold()
    network.to(device)
    parts = (network.stem, *network.stages, network.res5, network.proposal_head.hidden)
    for part in parts:
        part.to(number)
        part.to(memory_format=torch.channels_last)
    return network


def _multiply_less(network: C4Network) -> None:
    """Have Winograd's method do the 3x3 convolutions of a folded backbone that are worth it."""
    for stage in network.stages:
        for block in stage:
            assert isinstance(block, Bottleneck)
            block.conv2.convolution = WinogradConv2d.of(block.conv2.convolution)
    network.proposal_head.hidden = WinogradConv2d.of(network.proposal_head.hidden)


def _chunks(pooled: Tensor, sizes: tuple[int, ...] | None) -> Iterator[tuple[Tensor, int]]:
    """Parts of the regions and how many rows of each count; filled up where sizes are given.

    Sizes fall; the largest that can be filled is taken, and less than the smallest is filled up.
    """
    if sizes is None:
        for part in pooled.split(_GPU_CHUNK if pooled.is_cuda else _CPU_CHUNK):
            if len(part):
                yield part, len(part)
        return
    start = 0
    while start < len(pooled):
        left = len(pooled) - start
        size = next((size for size in sizes if size <= left), sizes[-1])
        part = pooled[start : start + size]
        missing = size - len(part)
        if missing:
            part = torch.cat([part, part[:1].expand(missing, -1, -1, -1)])
        yield part.contiguous(memory_format=torch.channels_last), size - missing
        start += size


@contextmanager
def _full_precision(number: torch.dtype) -> Iterator[None]:
    """In float32, forbid the shortened mantissas that CUDA uses for convolutions by default."""
    if number != torch.float32:
        yield
        return
    benchmark = torch.backends.cudnn.benchmark
    with torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=False):
        yield


def _checked_boxes(boxes: np.ndarray, place: int) -> np.ndarray:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise RequestError(f"image {place}: boxes are {boxes.shape}; give finite [R, 4]")
    return np.ascontiguousarray(boxes, dtype=np.float32)

"""The losses of training: objectness, proposal deltas, class, region deltas, attribute, guide."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_pipeline.detector.anchors import (
    PROPOSAL_WEIGHTS,
    REGION_WEIGHTS,
    anchor_grid,
    cell_anchors,
    encode,
)
from data_pipeline.detector.architecture import FasterRcnn, GuideHead
from data_pipeline.detector.matching import (
    IGNORED,
    Truth,
    label_anchors,
    label_cells,
    sample_labels,
    sample_regions,
)
from data_pipeline.detector.proposals import ProposalRule, propose


@dataclass(frozen=True)
class SamplingRule:
    """How many anchors and regions of an image enter the losses."""

    anchors: int = 128
    regions: int = 48
    jittered_copies: int = 3
    proposals: ProposalRule = field(default_factory=lambda: ProposalRule(before=300, after=48))


def training_losses(
    model: FasterRcnn,
    guide: GuideHead,
    pixels: Tensor,
    truths: list[Truth],
    rule: SamplingRule,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Losses of one batch of equally sized images, [batch, 3, H, W]; their sum is minimised."""
    maps = model.backbone(pixels)
    logits, deltas = model.proposal_head(maps)
    config = model.config
    cells = cell_anchors(config.anchor_sizes, config.anchor_ratios).to(maps.device)
    anchors = anchor_grid(cells, maps.shape[2], maps.shape[3], config.stride)
    losses = _proposal_losses(logits, deltas, anchors, truths, rule, rng)
    losses["guide"] = _guide_loss(guide(maps), truths, config.stride)
    size = (pixels.shape[2], pixels.shape[3])
    with torch.no_grad():
        found = propose(logits.detach(), deltas.detach(), anchors, size, rule.proposals)
    losses.update(_region_losses(model, maps, found, truths, rule, rng))
    return losses


def _proposal_losses(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    truths: list[Truth],
    rule: SamplingRule,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Objectness and anchor regression over sampled anchors, averaged over the samples."""
    score_parts, label_parts, delta_parts, target_parts = [], [], [], []
    for image, truth in enumerate(truths):
        labels, nearest = label_anchors(anchors, truth.boxes)
        chosen = sample_labels(labels, rule.anchors, 0.5, rng)
        score_parts.append(logits[image, chosen])
        label_parts.append(labels[chosen].float())
        positive = chosen[labels[chosen] == 1]
        delta_parts.append(deltas[image, positive])
        target_parts.append(
            encode(anchors[positive], truth.boxes[nearest[positive]], PROPOSAL_WEIGHTS)
        )
    scores, labelled = torch.cat(score_parts), torch.cat(label_parts)
    objectness = functional.binary_cross_entropy_with_logits(scores, labelled)
    box = functional.smooth_l1_loss(
        torch.cat(delta_parts), torch.cat(target_parts), beta=1.0 / 9, reduction="sum"
    )
    return {"objectness": objectness, "anchor_box": box / max(1, len(scores))}


def _region_losses(
    model: FasterRcnn,
    maps: Tensor,
    proposals: list[Tensor],
    truths: list[Truth],
    rule: SamplingRule,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Class, box and attribute losses of sampled regions; the attribute knows the true class."""
    samples = [
        sample_regions(found, truth, rule.regions, rule.jittered_copies, rng)
        for found, truth in zip(proposals, truths, strict=True)
    ]
    features = model.region_head(model.pool(maps, [sample.boxes for sample in samples]))
    classes = torch.cat([sample.classes for sample in samples])
    attributes = torch.cat([sample.attributes for sample in samples])
    targets = encode(
        torch.cat([sample.boxes for sample in samples]),
        torch.cat([sample.targets for sample in samples]),
        REGION_WEIGHTS,
    )
    object_loss = functional.cross_entropy(model.classifier(features).float(), classes)
    is_object = classes > 0
    deltas = model.regressor(features[is_object]).float()
    box = functional.smooth_l1_loss(deltas, targets[is_object], beta=1.0, reduction="sum")
    described = attributes > 0
    logits = model.attributes(features[described], classes[described]).float()
    attribute = functional.cross_entropy(logits, attributes[described], reduction="sum")
    return {
        "object": object_loss,
        "region_box": box / max(1, len(classes)),
        "attribute": 0.5 * attribute / max(1, int(described.sum())),
    }


def _guide_loss(logits: Tensor, truths: list[Truth], stride: int) -> Tensor:
    """Class of the cells, objects and background each averaged over their own cells."""
    rows, columns = logits.shape[2:]
    labels = torch.stack([label_cells(truth, rows, columns, stride) for truth in truths])
    each = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    objects, background = labels > 0, labels == 0
    return 0.5 * (
        each[objects].sum() / max(1, int(objects.sum()))
        + each[background].sum() / max(1, int(background.sum()))
    )

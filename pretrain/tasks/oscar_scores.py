"""Oscar's scores of many captions with many images, at a third of the work of its forward pass.

The slow twin is `pair_scores.scores_by_pairs`; they agree to 1e-4
(tests/pretrain/tasks/test_retrieval.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.layout import fill_regions, truncated
from pretrain.batches.tags import tag_text
from pretrain.batches.tokenise import Ids, SpecialIds, TextEncoder
from pretrain.models.attention import mask_bias
from pretrain.models.fused_regions import rows_of
from pretrain.models.oscar import OscarForPreTraining
from pretrain.objectives import tag_contrast
from pretrain.objectives.matching import log_odds

_PAIRS_AT_ONCE = 256

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Gallery:
    """The images that are searched: tags as ids, regions projected once, and how many of them."""

    tags: list[Ids]
    regions: Tensor  # [images, regions, hidden]
    region_counts: npt.NDArray[np.int64]  # [images]


def scores_by_parts(
    model: OscarForPreTraining,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    texts: Sequence[str],
    count: int,
) -> Scores:
    """Return the log-odds that each text belongs to each of the first `count` images.

    [texts, images]. Captions of one length go together with images in order of length, laid out
    without padding between text and regions, and the last layer computes [CLS] alone: the same
    numbers as the whole model gives, at a third of the work.
    """
    encoder = TextEncoder(tokenizer)
    captions = [encoder.encode(text) for text in texts]
    gallery = _gallery(model, encoder, corpus, count)
    scores = np.zeros((len(texts), count), dtype=np.float32)
    by_length: dict[int, list[int]] = {}
    for number, caption in enumerate(captions):
        by_length.setdefault(len(caption), []).append(number)
    for length, rows in sorted(by_length.items()):
        ids = np.stack([captions[row] for row in rows])
        for columns, values in _score_length(model, encoder.special, ids, length, gallery):
            scores[np.ix_(rows, columns)] = values
    return scores


def _gallery(
    model: OscarForPreTraining, encoder: TextEncoder, corpus: Corpus, count: int
) -> Gallery:
    """Read the images and project their regions."""
    config = model.config
    shape = (count, config.max_regions, config.img_feature_dim)
    vectors = np.zeros(shape, dtype=np.float32)
    counts = np.zeros(count, dtype=np.int64)
    tags = []
    for number in range(count):
        sample = corpus[number]
        detector = corpus.manifest.detector
        text = tag_text(sample, detector, config.tag_confidence, config.tag_attributes)
        tags.append(encoder.encode(text))
        meta = sample.meta
        counts[number] = fill_regions(
            vectors[number], sample.regions, meta["width"], meta["height"]
        )
    used = torch.from_numpy(vectors[:, : max(1, counts.max())]).to(model.device)
    return Gallery(tags, rows_of(model.bert.embed_regions(used)), counts)


def _score_length(
    model: OscarForPreTraining, special: SpecialIds, ids: Ids, length: int, gallery: Gallery
) -> Iterator[tuple[list[int], Scores]]:
    """Yield images and the scores [captions, images] of captions of one length with them."""
    limit = model.config.max_seq_length
    cuts = [truncated(length, len(tags), limit) for tags in gallery.tags]
    for kept in sorted({kept for kept, _ in cuts}):
        chosen = [image for image, (own, _) in enumerate(cuts) if own == kept]
        heads = _embed_captions(model, special, ids[:, :kept])
        tags = [gallery.tags[image][: cuts[image][1]] for image in chosen]
        tails, lengths = _embed_images(model, special, gallery, chosen, tags, kept)
        order = np.argsort(lengths, kind="stable")
        step = max(1, _PAIRS_AT_ONCE // len(ids))
        for start in range(0, len(order), step):
            part = order[start : start + step]
            longest = int(lengths[part].max())
            values = _score_pairs(model, heads, tails[part, :longest], lengths[part])
            yield [chosen[place] for place in part], values


def _embed_captions(model: OscarForPreTraining, special: SpecialIds, ids: Ids) -> Tensor:
    """Return `[CLS] caption [SEP]` embedded: [captions, length + 2, hidden]."""
    rows = np.full((len(ids), ids.shape[1] + 2), special.separator, dtype=np.int64)
    rows[:, 0] = special.start
    rows[:, 1:-1] = ids
    embedded: Tensor = model.bert.embeddings(torch.from_numpy(rows).to(model.device))
    return embedded


def _embed_images(
    model: OscarForPreTraining,
    special: SpecialIds,
    gallery: Gallery,
    chosen: Sequence[int],
    tags: Sequence[Ids],
    caption: int,
) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Return `tags [SEP] regions` embedded [images, tail, hidden], and the length of each.

    Positions go on after a caption of `caption` tokens; what is real stands first in each row.
    """
    lengths = np.array([len(own) + 1 if len(own) else 0 for own in tags])
    rows = np.full((len(tags), max(1, lengths.max())), special.pad, dtype=np.int64)
    for row, own in zip(rows, tags, strict=True):
        row[: len(own)] = own
        row[len(own) : len(own) + 1] = special.separator
    ids = torch.from_numpy(rows).to(model.device)
    positions = torch.arange(ids.shape[1], device=ids.device)[None] + caption + 2
    positions = positions.clamp(max=model.config.max_position_embeddings - 1)
    text = model.bert.embeddings(ids, torch.ones_like(ids), positions)
    regions = gallery.regions[list(chosen)]
    counts = gallery.region_counts[list(chosen)]
    real = np.concatenate(
        [
            np.arange(text.shape[1]) < lengths[:, None],
            np.arange(regions.shape[1]) < counts[:, None],
        ],
        axis=1,
    )
    order = torch.from_numpy(np.argsort(~real, axis=1, kind="stable")).to(model.device)
    tails = torch.cat([text, regions], dim=1)
    return torch.take_along_dim(tails, order[:, :, None], dim=1), lengths + counts


def _score_pairs(
    model: OscarForPreTraining, heads: Tensor, tails: Tensor, lengths: npt.NDArray[np.int64]
) -> Scores:
    """Return the log-odds of all captions with all images: [captions, images].

    heads [captions, head, hidden], tails [images, tail, hidden]; lengths [images]: the real part
    of each tail.
    """
    captions, images = len(heads), len(tails)
    states = torch.cat(
        [
            heads[:, None].expand(-1, images, -1, -1),
            tails[None].expand(captions, -1, -1, -1),
        ],
        dim=2,
    ).flatten(0, 1)  # [captions * images, head + tail, hidden]
    seen = torch.from_numpy(lengths).to(states.device) + heads.shape[1]
    mask = torch.arange(states.shape[1], device=states.device) < seen[:, None]
    bias = None if bool(mask.all()) else mask_bias(mask.repeat(captions, 1), states.dtype)
    first = model.bert.encoder.first_position(states, bias)
    logits = model.relate(model.bert.pooler(first))
    if "match_logits" in logits:
        odds = log_odds(logits["match_logits"], model.config.match_class)
    else:
        odds = tag_contrast.clean_scores(logits["seq_relationship_logits"])
    return odds.view(captions, images).cpu().numpy()

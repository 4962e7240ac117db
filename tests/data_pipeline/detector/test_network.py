"""Folding of the normalisation, and the file of weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_pipeline.detector.weights import load_weights, read_description, save_weights
from tests.data_pipeline.detector.tiny_detector import TINY, described, random_network
from trawl.errors import RequestError


def test_folding_changes_nothing_but_rounding() -> None:
    plain, folded = random_network(), random_network()
    folded.fold()
    assert not any("normalisation" in name for name in folded.state_dict())
    pixels = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[8.0, 8.0, 80.0, 60.0]]), torch.tensor([[0.0, 0.0, 128.0, 96.0]])]
    with torch.inference_mode():
        answers = []
        for model in (plain, folded):
            maps = model.backbone(pixels)
            features = model.region_head(model.pool(maps, boxes))
            answers.append((*model.proposal_head(maps), features, model.classifier(features)))
    for before, after in zip(*answers, strict=True):
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_weights_survive_the_file_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    model = random_network()
    save_weights(path, model, described())
    loaded, checksum = load_weights(path, read_description(path).architecture)
    assert len(checksum) == 64
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            assert loaded.state_dict()[name].dtype == torch.float32
            assert torch.equal(loaded.state_dict()[name], value.half().float())


def test_a_file_that_does_not_fit_lists_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, random_network(), described())
    with pytest.raises(RequestError, match=r"missing region_head\.blocks\.1"):
        load_weights(path, replace(TINY, head_blocks=2))
    with pytest.raises(RequestError, match=r"classifier\.weight is \(3, 32\), not \(6, 32\)"):
        load_weights(path, replace(TINY, object_count=5))


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(RequestError, match="missing"):
        read_description(path)
    with pytest.raises(RequestError, match="missing"):
        load_weights(path, TINY)
    path.write_bytes(b"not weights at all")
    with pytest.raises(RequestError, match="not a safetensors file"):
        load_weights(path, TINY)
    path.with_suffix(".json").write_text(json.dumps({"objects": []}))
    with pytest.raises(RequestError, match="not a description"):
        read_description(path)

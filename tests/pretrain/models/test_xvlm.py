"""X-VLM: regions, negatives, heads, gradients, and the way through a folder."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pretrain.models.hard_negatives import choose_negatives
from pretrain.models.xvlm import XvlmForPreTraining, XvlmModel
from pretrain.models.xvlm_config import XvlmConfig
from pretrain.models.xvlm_text import patch_bias
from pretrain.objectives import compute
from tests.pretrain.models.xvlm_inputs import (
    BATCH,
    LENGTH,
    PATCHES,
    TEXT,
    VISION,
    WORDS,
    inputs,
    small,
    whole_batch,
)
from trawl.errors import RequestError


def test_with_all_patches_visible_regions_are_images() -> None:
    model, batch = small(), inputs()
    ones = {
        "idx_to_group_img": torch.arange(BATCH),
        "image_atts": torch.ones(BATCH, 1 + PATCHES, dtype=torch.long),
    }
    more = {"masked_input_ids": batch["input_ids"], "negative_draws": torch.rand(BATCH, 2)}
    image, region = model(**batch, **more), model(**batch, **more, **ones)
    assert image.keys() == region.keys()
    for name in image:
        assert torch.allclose(image[name], region[name], atol=1e-6), name


def test_a_region_is_the_mean_of_its_patches_and_nothing_else_is_looked_at() -> None:
    model, batch = small(), whole_batch()
    vision = model.embed_images(*(batch[name] for name in VISION))
    patches = model.vision_encoder(batch["pixel_values"])
    assert torch.allclose(vision.states[1, 0], patches[0, 0])
    assert torch.allclose(vision.states[2, 0], (patches[0, 1] + patches[0, 2]) / 2)
    assert torch.allclose(vision.whole[2, 0], patches[0].mean(dim=0), atol=1e-6)
    text = model.embed_texts(batch["input_ids"], batch["attention_mask"])[-1]
    before = model.fuse(text, batch["attention_mask"], vision.states, vision.mask)[-1]
    hidden = vision.mask == 0
    vision.states[hidden] = 100.0
    after = model.fuse(text, batch["attention_mask"], vision.states, vision.mask)[-1]
    assert torch.equal(before, after)


@pytest.mark.parametrize("score", [-1e4, -1e9, float(torch.finfo(torch.float32).min)])
def test_every_published_mask_constant_gives_the_same(score: float) -> None:
    batch = whole_batch()
    expected, found = small()(**batch), small(cross_mask_score=score)(**batch)
    assert torch.equal(expected.prediction_logits, found.prediction_logits)
    assert torch.isfinite(patch_bias(batch["image_atts"], score, torch.float16)).all()


def test_boxes_are_predicted_from_the_whole_image() -> None:
    model, batch = small(), whole_batch()
    found = model(**batch).box_predictions
    batch["image_atts"] = torch.ones_like(batch["image_atts"])
    assert torch.allclose(model(**batch).box_predictions, found, atol=1e-6)
    assert bool(((found > 0) & (found < 1)).all())


def test_padding_changes_nothing() -> None:
    model, batch = small(), inputs()
    short = {name: tensor[-1:] for name, tensor in batch.items()}
    for name in TEXT:
        short[name] = short[name][:, :6]
    assert torch.allclose(model(**batch).match_logits[-1:], model(**short).match_logits, atol=1e-5)


def test_one_query_gives_what_all_give() -> None:
    model, batch = small(), whole_batch()
    vision = model.embed_images(*(batch[name] for name in VISION))
    text = model.embed_texts(batch["input_ids"], batch["attention_mask"])[-1]
    arguments = (text, batch["attention_mask"], vision.states, vision.mask)
    whole, first = model.fuse(*arguments)[-1], model.fuse_first(*arguments)
    assert torch.allclose(whole[:, 0], first, atol=1e-5)
    head = model.itm_head(first)
    assert torch.equal(model(**batch).match_logits, head)


def test_the_masked_token_head_reads_the_masked_text_at_masked_places() -> None:
    model, batch = small(), whole_batch()
    some = model(**batch).prediction_logits
    places = batch.pop("masked_positions")
    everywhere = model(**batch).prediction_logits
    assert everywhere.shape == (BATCH, LENGTH, WORDS)
    assert torch.allclose(some, everywhere.flatten(0, 1)[places], atol=1e-5)
    batch["input_ids"] = batch["input_ids"].flip(1)
    assert torch.allclose(model(**batch).prediction_logits, everywhere)
    del batch["masked_input_ids"]
    assert model(**batch).prediction_logits is None


def test_hard_negatives_come_in_the_published_order() -> None:
    model, batch = small(), whole_batch()
    outputs = model(**batch)
    likeness = outputs.image_embeds @ outputs.text_embeds.t() / outputs.temperature
    own = torch.eye(BATCH, dtype=torch.bool)
    images = choose_negatives(likeness.t(), own, batch["negative_draws"][:, 0])
    texts = choose_negatives(likeness, own, batch["negative_draws"][:, 1])

    def logits(text_rows: Tensor, image_rows: Tensor) -> Tensor:
        chosen = {name: batch[name][text_rows] for name in TEXT}
        chosen |= {name: batch[name][image_rows] for name in VISION[1:]}
        return model(pixel_values=batch["pixel_values"], **chosen).match_logits

    rows = torch.arange(BATCH)
    expected = torch.cat([logits(rows, rows), logits(rows, images), logits(texts, rows)])
    assert torch.allclose(outputs.hard_match_logits, expected, atol=1e-5)


def test_negatives_follow_the_softmax_and_never_the_own_group() -> None:
    count = 100_000
    likeness = torch.tensor([[9.0, 1.0, 2.0, 0.5]]).expand(4, 4)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    draws = torch.rand(count, generator=torch.Generator().manual_seed(3))
    found = torch.stack(
        [choose_negatives(likeness, same, draws[n : n + 4]) for n in range(0, count, 4)]
    )
    weights = likeness.softmax(dim=1) + 1e-5
    for row in range(4):
        wanted = weights[row].masked_fill(same[row], 0)
        shares = torch.bincount(found[:, row], minlength=4) / len(found)
        assert (shares - wanted / wanted.sum()).abs().max() < 0.01
        assert shares[same[row]].sum() == 0


def test_negatives_invert_the_distribution() -> None:
    likeness, same = torch.zeros(5, 5), torch.eye(5, dtype=torch.bool)
    draws = torch.tensor([0.0, 0.26, 0.51, 0.76, 1.0])
    assert choose_negatives(likeness, same, draws).tolist() == [1, 2, 3, 4, 3]
    # Nothing is wrong for a row whose whole batch says the same: any other is taken.
    assert choose_negatives(likeness, torch.ones_like(same), draws).tolist() == [1, 2, 3, 4, 3]


def test_one_sample_has_no_negatives() -> None:
    with pytest.raises(ValueError, match="two samples at least"):
        small()(**inputs(1), negative_draws=torch.rand(1, 2))


@pytest.mark.parametrize(("start", "end"), [(0.9, 0.5), (1e-5, 0.001), (0.07, 0.07)])
def test_the_temperature_is_clamped_in_place(start: float, end: float) -> None:
    model, batch = small(), inputs()
    model.temp.data.fill_(start)
    similarity = model.similarity(**batch)
    score = model.score(**batch)
    assert model.temp.item() == pytest.approx(start)  # as in retrieval fine-tuning
    outputs = model(**batch)
    assert outputs.temperature is model.temp
    assert model.temp.item() == pytest.approx(end)
    cosine = outputs.image_embeds @ outputs.text_embeds.t()
    assert torch.allclose(similarity, cosine / start, rtol=1e-4)
    assert torch.allclose(score, outputs.match_logits[:, 1] - outputs.match_logits[:, 0])


def test_all_objectives_learn_and_reach_every_parameter() -> None:
    model, batch = small(), whole_batch()
    weights = {"itc": 1.0, "itm-hard": 1.0, "mlm": 1.0, "bbox": 1.0}
    model.train()
    total, losses = compute(model(**batch), batch, weights)
    assert losses.keys() == weights.keys()
    total.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_batch_of_images_leaves_no_parameter_out_either() -> None:
    model, batch = small(), whole_batch()
    for name in VISION[1:]:
        del batch[name]
    batch["pixel_values"] = torch.randn(BATCH, 3, 64, 64)
    batch["box_valid"] = torch.zeros(BATCH)
    weights = {"itc": 1.0, "itm-hard": 1.0, "mlm": 1.0, "bbox": 1.0}
    total, losses = compute(model.train()(**batch), batch, weights)
    total.backward()
    assert losses["bbox"] == 0
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.bbox_head[0].weight.grad.abs().max() == 0


def test_checkpointed_gradients_are_the_same() -> None:
    batch, found = whole_batch(), []
    for checkpointed in (False, True):
        model = small(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        outputs = model(**batch)
        (outputs.prediction_logits.sum() + outputs.hard_match_logits.sum()).backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        assert torch.allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-5), name


def test_the_model_goes_through_a_folder(tmp_path: Path) -> None:
    model, batch = small(), inputs()
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["model_type"] == "trawl-xvlm"
    again = XvlmForPreTraining.from_pretrained(tmp_path).eval()
    assert again.config.to_dict() == model.config.to_dict() | {
        "transformers_version": again.config.to_dict()["transformers_version"],
        "architectures": ["XvlmForPreTraining"],
        "_name_or_path": str(tmp_path),
    }
    assert torch.equal(again(**batch).match_logits, model(**batch).match_logits)
    head = again.text_encoder.cls
    assert head is not None
    words = again.text_encoder.bert.embeddings.word_embeddings.weight
    assert head.predictions.decoder.weight is words
    network = XvlmModel.from_pretrained(tmp_path).eval()
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_what_a_folder_lacks_starts_anew_and_right(tmp_path: Path) -> None:
    """Buffers are computed, as the original rebuilds them; weights are drawn; the rest stays."""
    model = small()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    gone = [name for name in tensors if name.endswith(("attn_mask", "relative_position_index"))]
    assert len(gone) == 5
    drawn = ["itm_head.0.weight", "vision_encoder.layers.0.blocks.0.mlp.fc1.weight"]
    for name in (*gone, *drawn, "temp"):
        del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = XvlmForPreTraining.from_pretrained(tmp_path).state_dict()
    differing = [n for n, tensor in model.state_dict().items() if not torch.equal(tensor, again[n])]
    assert sorted(differing) == drawn
    assert again[drawn[0]].std() == pytest.approx(1 / math.sqrt(3 * 128), rel=0.05)
    assert again[drawn[1]].std() == pytest.approx(0.15, rel=0.2)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="no argument img_feats"):
        small()(**inputs(), img_feats=torch.zeros(1))


def test_sizes_and_values_are_checked() -> None:
    assert XvlmConfig.match_class == 1
    assert XvlmConfig().longest_sample == 90
    assert XvlmConfig().objectives().keys() == {"itc", "itm-hard", "mlm", "bbox"}
    for changes, message in (
        ({"colour": "red"}, "unknown key colour"),
        ({"fusion_layer": 12}, "fusion_layer 12 is not among"),
        ({"max_seq_length": 600}, "max_seq_length 600 is more than"),
        ({"image_size": 384}, "window_size 7 does not divide"),
        ({"flips": "often"}, "flips"),
    ):
        with pytest.raises(RequestError, match=message):
            XvlmConfig.of_size("base", **changes)
    with pytest.raises(RequestError, match="no size huge; take tiny, base, large"):
        XvlmConfig.of_size("huge")
    large = XvlmConfig.of_size("base", image_size=384, window_size=12)
    assert (large.patch_grid, large.vision_width) == (12, 1024)

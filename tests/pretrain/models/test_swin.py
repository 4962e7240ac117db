"""Swin: against transformers' SwinModel, and its windows, masks and shapes on their own."""

import pytest
import torch
from torch import Tensor
from transformers.models.swin import SwinConfig, SwinModel

from pretrain.models.swin import (
    DropPath,
    Swin,
    SwinShape,
    from_windows,
    position_index,
    pseudo_start,
    shift_mask,
    to_windows,
)

SHAPE = SwinShape(image=64, patch=4, embed=16, depths=(2, 3, 2), heads=(2, 4, 8), window=4)


def randomised(model: Swin) -> Swin:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def theirs_of(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return what transformers calls one of our tensors; it keeps query, key and value apart."""
    if name.endswith(("relative_position_index", "attn_mask")):
        return {}
    if ".attn.qkv." in name:
        kind = name.rsplit(".", 1)[1]
        base = "encoder." + name.split(".attn.qkv.")[0] + ".attention."
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{base}{letter}_proj.{kind}": part for letter, part in parts}
    table = "attention.relative_position_bias.relative_position_bias_table"
    for ours, other in (
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("patch_embed.norm", "embeddings.norm"),
        ("attn.relative_position_bias_table", table),
        ("attn.proj", "attention.o_proj"),
        ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"),
    ):
        name = name.replace(ours, other)
    if name.startswith("norm."):
        return {"layernorm." + name.removeprefix("norm."): tensor}
    return {("encoder." if name.startswith("layers") else "") + name: tensor}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_computes_the_same(attention: str) -> None:
    ours = randomised(Swin(SwinShape(**{**vars(SHAPE), "attention": attention})))
    settings = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=16,
        depths=[2, 3, 2],
        num_heads=[2, 4, 8],
        window_size=4,
    )
    theirs = SwinModel(settings, add_pooling_layer=False).eval()
    state: dict[str, Tensor] = {}
    for name, tensor in ours.state_dict().items():
        state.update(theirs_of(name, tensor))
    result = theirs.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all("index" in key for key in result.missing_keys)
    pixels = torch.randn(3, 3, 64, 64)
    expected = theirs(pixels).last_hidden_state
    found = ours(pixels)
    assert found.shape == (3, 16, 64)
    assert (found - expected).abs().max() < 1e-5
    # The second and third stage shift; without their masks the result is another one.
    for block in (ours.layers[0].blocks[1], ours.layers[1].blocks[1]):
        block.attn_mask.zero_()
    assert (ours(pixels) - expected).abs().max() > 1e-3


def test_windows_are_cut_and_joined() -> None:
    patches = torch.arange(2 * 6 * 6).view(2, 6, 6, 1)
    windows = to_windows(patches, 3)
    assert windows.shape == (2, 4, 9, 1)
    assert windows[0, 1, :, 0].tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    assert torch.equal(from_windows(windows, 3), patches)


def test_position_index_counts_from_the_lower_right() -> None:
    index = position_index(3)
    assert index.shape == (9, 9)
    assert index.diagonal().tolist() == [12] * 9
    assert index[0, 8] == 0
    assert index[8, 0] == 24
    assert index[1, 0] == 13  # one to the right
    assert index[3, 0] == 17  # one below


def test_shifted_windows_see_former_neighbours_alone() -> None:
    side, window, shift = 8, 4, 2
    mask = shift_mask(side, window, shift)
    # Where each patch stood before the shift: what wrapped around is far from its new window.
    places = torch.arange(side).roll(-shift)
    rows = to_windows(places.view(1, side, 1, 1).expand(1, side, side, 1), window)[0, :, :, 0]
    columns = to_windows(places.view(1, 1, side, 1).expand(1, side, side, 1), window)[0, :, :, 0]
    near = ((rows[:, :, None] - rows[:, None, :]).abs() < window) & (
        (columns[:, :, None] - columns[:, None, :]).abs() < window
    )
    assert torch.equal(mask == 0, near)
    assert set(mask.unique().tolist()) == {-100.0, 0.0}


def test_a_window_as_large_as_the_stage_is_not_shifted() -> None:
    model = Swin(SwinShape(image=32, patch=4, embed=8, depths=(2, 2, 2), heads=(1, 1, 1), window=4))
    assert [block.shift for stage in model.layers for block in stage.blocks] == [0, 2, 0, 0, 0, 0]
    assert [stage.blocks[0].window for stage in model.layers] == [4, 4, 2]
    assert model.layers[2].blocks[1].attn.relative_position_bias_table.shape == (9, 1)
    assert "layers.0.blocks.1.attn_mask" in model.state_dict()
    assert "layers.1.blocks.1.attn_mask" not in model.state_dict()
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 4, 32)


@pytest.mark.parametrize(
    ("image", "window", "grid"), [(224, 7, 7), (384, 12, 12), (480, 15, 15), (128, 4, 4)]
)
def test_published_sizes_divide(image: int, window: int, grid: int) -> None:
    shape = SwinShape(image, 4, 128, (2, 2, 18, 2), (4, 8, 16, 32), window)
    assert (shape.grid, shape.width) == (grid, 1024)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 32"):
        SwinShape(220, 4, 8, (1, 1, 1, 1), (1, 1, 1, 1), 7)
    with pytest.raises(ValueError, match="does not divide the 96 patches of stage 0"):
        SwinShape(384, 4, 8, (1, 1, 1, 1), (1, 1, 1, 1), 7)
    with pytest.raises(ValueError, match="one number for each stage"):
        SwinShape(224, 4, 8, (1, 1), (1,), 7)
    with pytest.raises(ValueError, match="reads 64 by 64"):
        Swin(SHAPE)(torch.zeros(1, 3, 32, 64))


def test_pseudo_start_is_the_mean_of_the_patches_inside() -> None:
    patches = torch.randn(2, 4, 3)
    whole = pseudo_start(patches)
    assert torch.allclose(whole[:, 0], patches.mean(dim=1))
    assert torch.equal(whole[:, 1:], patches)
    inside = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]])
    part = pseudo_start(patches, inside)
    assert torch.allclose(part[0, 0], (patches[0, 0] + patches[0, 2]) / 2)
    assert torch.equal(part[1, 0], patches[1, 3])


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    dropped = layer(torch.ones(100_000, 2, 1))
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert abs(dropped.mean() - 1) < 0.01
    assert torch.equal(layer.eval()(dropped), dropped)


def test_drop_path_rises_linearly() -> None:
    shape = SwinShape(64, 4, 8, (2, 1, 2), (1, 1, 1), 4, drop_path=0.2)
    chances = [b.drop_path.probability for stage in Swin(shape).layers for b in stage.blocks]
    assert chances == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])

"""Swin, the vision encoder of X-VLM, with tensors named as in its released checkpoints.

Liu et al., "Swin Transformer: Hierarchical vision transformer using shifted windows", ICCV 2021.
Patches attend to each other inside windows; every second block shifts the windows by half, and
between stages two by two patches are merged into one of double width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pretrain.models.attention import attention_named

CHANNELS = 3
# Published: patches that the cyclic shift brought together from far apart do not see each other.
FAR_APART_SCORE = -100.0


@dataclass(frozen=True)
class SwinShape:
    """The sizes of a Swin; ValueError where image, patches and windows do not divide.

    image, patch: sides in pixels; embed: width of the first stage; depths, heads: of each stage;
    window: side in patches; drop_path: chance of the last block to be left out.
    """

    image: int
    patch: int
    embed: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    attention: str | None = "sdpa"

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.heads):
            raise ValueError("vision_depths and vision_heads need one number for each stage")
        step = self.patch * 2 ** (len(self.depths) - 1)
        if self.image % step:
            raise ValueError(
                f"image_size {self.image} is no multiple of {step}, the side of a final patch"
            )
        for stage in range(len(self.depths)):
            side, window = self.side(stage), self.window_of(stage)
            if side % window:
                raise ValueError(
                    f"window_size {self.window} does not divide the {side} patches of stage {stage}"
                )

    def side(self, stage: int) -> int:
        """Return the patches along one side in `stage`."""
        return self.image // self.patch // 2**stage

    def width_of(self, stage: int) -> int:
        """Return the width of the patches in `stage`."""
        return self.embed * 2**stage

    def window_of(self, stage: int) -> int:
        """Return the window of `stage`: that of the whole network, or all patches if fewer."""
        return min(self.window, self.side(stage))

    @property
    def grid(self) -> int:
        """Patches along one side at the end."""
        return self.side(len(self.depths) - 1)

    @property
    def width(self) -> int:
        """Width of the patches at the end."""
        return self.width_of(len(self.depths) - 1)


def position_index(window: int) -> Tensor:
    """Return which row of the position table each pair of patches takes: [window², window²].

    Row (dy + window - 1) * (2 window - 1) + dx + window - 1, for a query dy below and dx right of
    its key.
    """
    axis = torch.arange(window)
    y, x = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
    down = y[:, None] - y[None, :] + window - 1
    right = x[:, None] - x[None, :] + window - 1
    return down * (2 * window - 1) + right


def to_windows(patches: Tensor, window: int) -> Tensor:
    """Return [batch, windows, window², width] from patches [batch, side, side, width]."""
    cut = patches.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, window: int) -> Tensor:
    """Return [batch, side, side, width]: the reverse of `to_windows`."""
    across = round(windows.shape[1] ** 0.5)
    cut = windows.unflatten(2, (window, window)).unflatten(1, (across, across))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """Return what is added to the scores of shifted windows: [windows, window², window²].

    0 between patches that were neighbours before the shift, -100 between those that were not.
    """
    axis = torch.arange(side)
    area = (axis >= side - window).long() + (axis >= side - shift).long()
    areas = (area[:, None] * 3 + area[None, :])[None, :, :, None]
    inside = to_windows(areas, window)[0, :, :, 0]  # [windows, window²]
    apart = inside[:, :, None] != inside[:, None, :]
    return apart.float() * FAR_APART_SCORE


class DropPath(nn.Module):
    """Leaves a residual out for some samples of a batch and scales up the rest (stochastic depth).

    Huang et al., "Deep networks with stochastic depth", ECCV 2016.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, residual: Tensor) -> Tensor:
        """Return [batch, ...]; in evaluation the residual itself."""
        if not self.training or not self.probability:
            return residual
        keep = 1 - self.probability
        shape = (residual.shape[0],) + (1,) * (residual.dim() - 1)
        return residual * residual.new_empty(shape).bernoulli_(keep) / keep


class WindowAttention(nn.Module):
    """Attention inside windows, with a learned bias for each relative position and head."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int, attention: str | None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide by {heads} heads")
        self.heads, self.window = heads, window
        self.attend = attention_named(attention)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", position_index(window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def position_bias(self) -> Tensor:
        """Return the bias of each head between each pair of patches: [heads, window², window²]."""
        index = self.relative_position_index
        rows = self.relative_position_bias_table[index.flatten()]
        return rows.unflatten(0, index.shape).permute(2, 0, 1)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Return [batch, windows, window², width]; mask [windows, window², window²] or nothing.

        Windows and heads are one dimension of the attention, so that the bias is not repeated for
        each image of the batch.
        """
        count = windows.shape[1]
        parts = self.qkv(windows).unflatten(-1, (3, self.heads, -1))  # [b, w, n, 3, heads, size]
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)  # each [b, w*heads, n, s]
        bias = self.position_bias()[None]
        bias = bias.expand(count, -1, -1, -1) if mask is None else bias + mask[:, None]
        mixed = self.attend(query, key, value, bias.flatten(0, 1)[None].to(query.dtype), 0.0)
        joined = mixed.unflatten(1, (count, self.heads)).transpose(2, 3).flatten(3)
        attended: Tensor = self.proj(joined)
        return attended


class Mlp(nn.Module):
    """The second half of a block: fc2(gelu(fc1(patches)))."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, patches: Tensor) -> Tensor:
        """Return [..., width]."""
        widened: Tensor = self.fc2(functional.gelu(self.fc1(patches)))
        return widened


class Block(nn.Module):
    """One layer of Swin, normalised before each half; odd ones shift their windows by half."""

    attn_mask: Tensor | None

    def __init__(self, shape: SwinShape, stage: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        width, self.window = shape.width_of(stage), shape.window_of(stage)
        self.side = shape.side(stage)
        # Where one window holds all patches there is nothing to shift.
        self.shift = shape.window // 2 if shifted and self.side > shape.window else 0
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, shape.heads[stage], self.window, shape.attention)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * shape.mlp_ratio))
        mask = shift_mask(self.side, self.window, self.shift) if self.shift else None
        self.register_buffer("attn_mask", mask)

    def forward(self, patches: Tensor) -> Tensor:
        """Return [batch, side², width]."""
        square = self.norm1(patches).unflatten(1, (self.side, self.side))
        if self.shift:
            square = square.roll((-self.shift, -self.shift), (1, 2))
        windows = self.attn(to_windows(square, self.window), self.attn_mask)
        square = from_windows(windows, self.window)
        if self.shift:
            square = square.roll((self.shift, self.shift), (1, 2))
        patches = patches + self.drop_path(square.flatten(1, 2))
        deep: Tensor = patches + self.drop_path(self.mlp(self.norm2(patches)))
        return deep


class PatchMerging(nn.Module):
    """Merges two by two patches into one of double width."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, patches: Tensor) -> Tensor:
        """Return [batch, side² / 4, 2 * width]; four are joined column by column."""
        square = patches.unflatten(1, (self.side // 2, 2, self.side // 2, 2))
        merged: Tensor = self.reduction(self.norm(square.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return merged.flatten(1, 2)


class Stage(nn.Module):
    """Blocks at one resolution, and the merging that leads to the next."""

    gradient_checkpointing = False

    def __init__(self, shape: SwinShape, stage: int, drop_paths: list[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(shape, stage, number % 2 == 1, chance) for number, chance in enumerate(drop_paths)
        )
        last = stage == len(shape.depths) - 1
        self.downsample = None if last else PatchMerging(shape.width_of(stage), shape.side(stage))

    def forward(self, patches: Tensor) -> Tensor:
        """Return the patches of the next stage, or of the last one."""
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                patches = checkpoint(block, patches, use_reentrant=False)
            else:
                patches = block(patches)
        return patches if self.downsample is None else self.downsample(patches)


class PatchEmbedding(nn.Module):
    """Cuts an image into patches and projects each."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(CHANNELS, shape.embed, shape.patch, stride=shape.patch)
        self.norm = nn.LayerNorm(shape.embed)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return patches [batch, side², embed] of pixels [batch, 3, height, width]."""
        projected: Tensor = self.norm(self.proj(pixels).flatten(2).transpose(1, 2))
        return projected


class Swin(nn.Module):
    """The whole encoder; it returns patches, `pseudo_start` makes what stands before them."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = PatchEmbedding(shape)
        chances = torch.linspace(0, shape.drop_path, sum(shape.depths), device="cpu").tolist()
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(shape.depths):
            before = sum(shape.depths[:stage])
            self.layers.append(Stage(shape, stage, chances[before : before + depth]))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return patches [batch, grid², width], row by row, of pixels [batch, 3, image, image]."""
        if pixels.shape[-2:] != (self.shape.image, self.shape.image):
            raise ValueError(
                f"pixel_values are {tuple(pixels.shape[-2:])}, the model reads "
                f"{self.shape.image} by {self.shape.image}"
            )
        patches = self.patch_embed(pixels.to(self.patch_embed.proj.weight.dtype))
        for stage in self.layers:
            patches = stage(patches)
        normed: Tensor = self.norm(patches)
        return normed


def pseudo_start(patches: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the patches after their mean, which stands where other encoders have [CLS].

    patches [batch, grid², width]; inside [batch, grid²]: 1 for the patches that the mean is taken
    of, at least one in each row; nothing: all. Returns [batch, 1 + grid², width].
    """
    if inside is None:
        mean = patches.mean(dim=1, keepdim=True)
    else:
        weights = inside.to(patches.dtype)[:, :, None]
        mean = (weights * patches).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
    return torch.cat([mean, patches], dim=1)

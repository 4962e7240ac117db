"""The C4 networks at their full widths against torchvision's blocks and plain compositions."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck
from torchvision.models.resnet import ResNet

from data_pipeline.detector.c4 import C4Network
from data_pipeline.detector.c4_config import C4Config
from data_pipeline.detector.c4_weights import export_tensors
from tests.data_pipeline.detector.random_c4 import random_weights


def pixels(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(1, 3, height, width, generator=generator) * 255 - 115


def pooled(regions: int) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    return torch.randn(regions, 1024, 14, 14, generator=generator).relu()


def relative(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / second.abs().max())


def torchvision_network(tensors: dict[str, Tensor], config: C4Config) -> ResNet:
    """torchvision's network with our tensors, changed where the family's differs from it."""
    with torch.device("meta"):
        network = ResNet(
            TorchvisionBottleneck,
            list(config.blocks),
            groups=config.groups,
            width_per_group=config.width // config.groups,
        )
    state = {}
    for name in network.state_dict():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        ours = name.replace("downsample.0", "shortcut.convolution")
        ours = ours.replace("downsample.1", "shortcut.normalisation")
        for number in (1, 2, 3):
            ours = ours.replace(f".conv{number}.", f".conv{number}.convolution.")
            ours = ours.replace(f".bn{number}.", f".conv{number}.normalisation.")
        for number in (1, 2, 3, 4):
            ours = ours.replace(f"layer{number}.", f"res{number + 1}.")
        ours = ours.replace("conv1.weight", "stem.conv.convolution.weight")
        ours = ours.replace("bn1.", "stem.conv.normalisation.")
        state[name] = tensors[ours]
    network.fc = nn.Identity()  # type: ignore[assignment]
    network.load_state_dict(state, strict=False, assign=True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = config.norm_epsilon
    if config.family == "butd":
        network.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
        for stage in (network.layer2, network.layer3, network.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        network.layer4[0].conv1.stride = network.layer4[0].downsample[0].stride = (1, 1)
        for block in network.layer4:
            block.conv2.padding = block.conv2.dilation = (2, 2)
    return network.eval()


def compare_with_torchvision(family: str) -> None:
    weights = random_weights(family)
    ours = weights.network()
    theirs = torchvision_network(weights.tensors, weights.config)
    with torch.inference_mode():
        image = pixels(99, 130)
        maps = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        maps = theirs.layer3(theirs.layer2(theirs.layer1(maps)))
        assert relative(ours.backbone(image), maps) < 1e-5
        regions = pooled(3)
        features = theirs.layer4(regions).mean(dim=(2, 3))
        assert relative(ours.region_head(regions), features) < 1e-5


def test_resnet_101_is_torchvisions_with_its_strides_moved() -> None:
    compare_with_torchvision("butd")


def test_resnext_152_is_torchvisions() -> None:
    compare_with_torchvision("vinvl")


class PlainFork:
    """py-bottom-up-attention's network as bare operations on the tensors of its file, by name."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def conv(self, maps: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        """A convolution and its frozen normalisation, as a scale and a shift."""
        dilation = 2 if padding == 2 else 1
        out = functional.conv2d(
            maps, self.tensors[f"{name}.weight"], None, stride, padding, dilation
        )
        norm = {f: self.tensors[f"{name}.norm.{f}"] for f in ("weight", "bias")}
        variance = self.tensors[f"{name}.norm.running_var"]
        scale = norm["weight"] * (variance + 1e-5).rsqrt()
        shift = norm["bias"] - self.tensors[f"{name}.norm.running_mean"] * scale
        return out * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)

    def block(self, maps: Tensor, name: str, stride: int, padding: int) -> Tensor:
        inner = self.conv(maps, f"{name}.conv1", stride).relu()
        inner = self.conv(inner, f"{name}.conv2", 1, padding).relu()
        inner = self.conv(inner, f"{name}.conv3")
        if f"{name}.shortcut.weight" in self.tensors:
            maps = self.conv(maps, f"{name}.shortcut", stride)
        return (inner + maps).relu()

    def backbone(self, image: Tensor) -> Tensor:
        maps = self.conv(image, "backbone.stem.conv1", 2, 3).relu()
        maps = functional.max_pool2d(maps, 3, 2, 0, ceil_mode=True)
        for stage, blocks in ((2, 3), (3, 4), (4, 23)):
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 2 else 1
                maps = self.block(maps, f"backbone.res{stage}.{block}", stride, 1)
        return maps

    def linear(self, inputs: Tensor, name: str) -> Tensor:
        return functional.linear(
            inputs, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        )

    def head(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        for block in range(3):
            regions = self.block(regions, f"roi_heads.res5.{block}", 1, 2)
        features = regions.mean(dim=[2, 3])
        box = "roi_heads.box_predictor"
        scores = self.linear(features, f"{box}.cls_score")
        embedded = self.tensors[f"{box}.cls_embedding.weight"][scores.max(-1)[1]]
        hidden = self.linear(torch.cat([features, embedded], -1), f"{box}.fc_attr").relu()
        attributes = self.linear(hidden, f"{box}.attr_score")
        return features, scores, self.linear(features, f"{box}.bbox_pred"), attributes

    def proposal_head(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        name = "proposal_generator.rpn_head"
        hidden = functional.conv2d(
            maps, self.tensors[f"{name}.conv.weight"], self.tensors[f"{name}.conv.bias"], padding=1
        ).relu()
        logits, deltas = (
            functional.conv2d(
                hidden, self.tensors[f"{name}.{part}.weight"], self.tensors[f"{name}.{part}.bias"]
            )
            for part in ("objectness_logits", "anchor_deltas")
        )
        return logits, deltas


def test_every_head_is_the_plain_composition_of_the_forks_file() -> None:
    weights = random_weights("butd-d2")
    ours, plain = weights.network(), PlainFork(export_tensors(weights, "fork"))
    with torch.inference_mode():
        maps = plain.backbone(pixels(99, 130))
        assert relative(ours.backbone(pixels(99, 130)), maps) < 1e-5
        logits, deltas = ours.proposal_head(maps)
        plain_logits, plain_deltas = plain.proposal_head(maps)
        for ratio in range(3):
            for scale in range(4):
                row, source = ratio * 4 + scale, scale * 3 + ratio
                assert torch.allclose(logits[:, row], plain_logits[:, source], atol=1e-5)
                mine, theirs = deltas[:, 4 * row :][:, :4], plain_deltas[:, 4 * source :][:, :4]
                assert torch.allclose(mine, theirs, atol=1e-6)
        features, scores, regressed, attributes = plain.head(pooled(4))
        assert relative(ours.region_head(pooled(4)), features) < 1e-5
        assert relative(ours.classifier(features)[:, 1:], scores[:, :-1]) < 1e-6
        assert relative(ours.classifier(features)[:, 0], scores[:, -1]) < 1e-6
        assert relative(ours.regressor(features)[:, 4:], regressed) < 1e-6
        assert ours.attributes is not None
        mine = ours.attributes(features, ours.classifier(features).argmax(dim=1))
        assert relative(mine[:, 1:], attributes[:, :-1]) < 1e-6
        assert relative(mine[:, 0], attributes[:, -1]) < 1e-6


def folded_differs_by(network: C4Network) -> float:
    with torch.inference_mode():
        image = pixels(64, 97)
        maps, features = network.backbone(image), network.region_head(pooled(2))
        network.fold()
        again = relative(network.backbone(image), maps)
        return max(again, relative(network.region_head(pooled(2)), features))


def test_folding_changes_nothing_but_rounding() -> None:
    assert folded_differs_by(random_weights("butd").network()) < 1e-5
    assert folded_differs_by(random_weights("vinvl").network()) < 1e-5


def test_folding_a_network_leaves_the_weights_as_they_were() -> None:
    weights = random_weights("butd")
    before = weights.tensors["res4.0.conv1.convolution.weight"].clone()
    weights.network().fold()
    assert torch.equal(weights.tensors["res4.0.conv1.convolution.weight"], before)


def test_the_stems_round_sizes_as_their_publishers() -> None:
    wanted = {"butd": {33: 8, 34: 8, 35: 9, 37: 9}, "vinvl": {33: 9, 34: 9, 35: 9, 37: 10}}
    with torch.inference_mode():
        for family, sizes in wanted.items():
            stem = random_weights(family).network().stem
            for side, cells in sizes.items():
                assert stem(torch.zeros(1, 3, side, 64)).shape[2] == cells

"""One loader for all published weights of the C4 detectors, and the way back to each layout.

Strict: every key of a file is used, known to be useless, or listed in the error; so is every key
that is missing or of another shape. What is loaded remembers what its file's layout needs beyond
the canonical tensors, so that an export is bit for bit what was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data_pipeline.detector import c4_anchors
from data_pipeline.detector.c4 import C4Network
from data_pipeline.detector.c4_config import C4Config, family_config
from data_pipeline.detector.c4_layouts import (
    Layout,
    from_canonical,
    is_kept,
    layout_by_name,
    recognise,
    source_name,
    source_shape,
    to_canonical,
)
from data_pipeline.detector.c4_vocabulary import vocabulary
from data_pipeline.detector.restricted_pickle import read_tensors
from trawl import storage
from trawl.errors import RequestError

_NAMED_KEYS = 20
"""Most keys that an error names one by one."""

_WRAPPER = "module."

_ATTRIBUTE_TENSORS = tuple(f"attributes.{part}.weight" for part in ("embedding", "hidden", "score"))


@dataclass(frozen=True, eq=False)
class C4Weights:
    """Weights in the canonical layout, with what is needed to use and to give them back.

    tensors: by the names of `C4Network`. originals: tensors of the file, by its names, that the
    canonical ones do not give back. aliases: keys of the file that repeat others. prefix: what all
    its keys begin with, "module." from a wrapper of training, or nothing.
    layout: name of the file's layout. sha256: of the file that was read, source_sha256: of the one
    that the publisher made. anchors: where the cell anchors come from, "file" or the name of a
    recipe. objects, attributes: names without background and "none".
    """

    config: C4Config
    tensors: dict[str, Tensor]
    originals: dict[str, Tensor]
    aliases: tuple[str, ...]
    prefix: str
    layout: str
    sha256: str
    source_sha256: str
    anchors: str
    objects: tuple[str, ...]
    attributes: tuple[str, ...]

    def network(self) -> C4Network:
        """Build the network, unfolded, in evaluation mode; it owns a copy of the tensors."""
        with torch.device("meta"):
            network = C4Network(self.config)
        copies = {name: tensor.clone() for name, tensor in self.tensors.items()}
        network.load_state_dict(copies, strict=True, assign=True)
        return network.requires_grad_(False).eval()


def canonical_shapes(config: C4Config) -> dict[str, tuple[int, ...]]:
    """Shapes of all canonical tensors of a configuration by name."""
    with torch.device("meta"):
        network = C4Network(config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def import_weights(path: Path, family: str | None = None, anchors: str | None = None) -> C4Weights:
    """Read a published file in any of the four layouts.

    family: whose conventions to follow, by default the publisher's own; "butd" with a file of the
    fork is the way to parity with Caffe. anchors: "caffe", "d2" or "vinvl" in place of those in the
    file, or of the family's where the file has none. RequestError lists every key that is wrong.
    """
    found, prefix = _unwrapped(read_tensors(path))
    layout = recognise(found, pickled=path.suffix == ".pkl")
    if layout is None:
        raise RequestError(
            f"{path}: not a layout that is known (fork .pkl, Hugging Face .bin, MILVLG or VinVL "
            f".pth); its first keys are {', '.join(sorted(found)[:3])}"
        )
    chosen = family_config(family or layout.family)
    if (chosen.family == "vinvl") != (layout.family == "vinvl"):
        raise RequestError(
            f"{path}: is a file of {layout.name}, which {chosen.family} cannot use; "
            f"choose {layout.family}"
        )
    config = replace(chosen, regression_weights=layout.regression_weights)
    if chosen.family == layout.family:
        config = replace(config, preprocessing=layout.preprocessing)
    if not any(source_name(name, layout) in found for name in _ATTRIBUTE_TENSORS):
        config = replace(config, attributes=0)
    tensors, originals, aliases = _canonical(path, found, layout, config)
    objects, attributes = vocabulary(path, config.classes - 1, max(config.attributes - 1, 0))
    checksum = storage.sha256_of(path)
    weights = C4Weights(
        config=config,
        tensors=tensors,
        originals=originals,
        aliases=aliases,
        prefix=prefix,
        layout=layout.name,
        sha256=checksum,
        source_sha256=checksum,
        anchors="file",
        objects=tuple(objects),
        attributes=tuple(attributes),
    )
    own = chosen.family == layout.family and "cell_anchors" in tensors
    if anchors is None and own:
        return weights
    return with_anchors(weights, anchors or config.anchors)


def _unwrapped(found: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Tensors without the prefix of a wrapper of training, and that prefix."""
    if not all(name.startswith(_WRAPPER) for name in found):
        return found, ""
    return {name.removeprefix(_WRAPPER): value for name, value in found.items()}, _WRAPPER


def with_anchors(weights: C4Weights, recipe: str) -> C4Weights:
    """The same weights with anchors of a recipe in place of the file's."""
    cells, config = c4_anchors.cell_anchors(recipe), weights.config
    if len(cells) != config.anchors_per_cell:
        raise RequestError(
            f"anchors: {recipe} makes {len(cells)} a cell, {config.family} has "
            f"{config.anchors_per_cell}; choose {family_config(config.family).anchors}"
        )
    return replace(
        weights,
        config=replace(config, anchors=recipe),
        tensors={**weights.tensors, "cell_anchors": cells},
        anchors=recipe,
    )


def anchor_difference(weights: C4Weights) -> float:
    """Largest difference in pixels of the anchors in use from the family's own recipe.

    MILVLG's configuration names sizes that are not those of its file; in other hands the anchors
    have silently become others. A file of bottom-up attention for Caffe should give 0.
    """
    recipe = c4_anchors.cell_anchors(family_config(weights.config.family).anchors)
    return float((weights.tensors["cell_anchors"] - recipe).abs().max())


def _canonical(
    path: Path, found: Mapping[str, Tensor], layout: Layout, config: C4Config
) -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[str, ...]]:
    """Check every key of the file and turn it; canonical tensors, originals and aliases."""
    shapes = canonical_shapes(config)
    names = {source_name(name, layout): name for name in shapes}
    aliases, clashes = _aliases(found, layout)
    originals = {name: found[name] for name in found if is_kept(name, layout)}
    wrong = [f"missing {key}" for key in names.keys() - found.keys() - {layout.anchors}]
    extra = found.keys() - names.keys() - set(aliases) - originals.keys()
    wrong += [f"unknown {key}" for key in extra - set(clashes)]
    wrong += [f"{key} is not the same as the key it repeats" for key in clashes]
    for key in names.keys() & found.keys():
        wanted = source_shape(names[key], shapes[names[key]], layout)
        if tuple(found[key].shape) != wanted:
            wrong.append(f"{key} is {tuple(found[key].shape)}, not {wanted}")
        elif found[key].dtype != torch.float32:
            wrong.append(f"{key} is {found[key].dtype}, not float32")
        elif not bool(found[key].isfinite().all()):
            wrong.append(f"{key} holds numbers that are not finite")
    refuse(path, wrong, f"the layout of {layout.name}")
    tensors = {
        name: to_canonical(name, found[key], layout) for key, name in names.items() if key in found
    }
    refuse(path, _bad_variances(tensors, config), "what can be computed")
    lost = [key for key in names if layout.paired and "objectness_logits" in key]
    lost += [key for key in (layout.anchors,) if key in found]
    originals.update({key: found[key] for key in lost})
    return tensors, originals, tuple(aliases)


def _aliases(found: Mapping[str, Tensor], layout: Layout) -> tuple[list[str], list[str]]:
    """Keys that repeat others, and those that should and do not."""
    if layout.alias is None:
        return [], []
    copy, original = layout.alias
    same: list[str] = []
    other: list[str] = []
    for key in found:
        if key.startswith(copy):
            repeated = found.get(original + key.removeprefix(copy))
            equal = repeated is not None and torch.equal(found[key], repeated)
            (same if equal else other).append(key)
    return same, other


def _bad_variances(tensors: Mapping[str, Tensor], config: C4Config) -> list[str]:
    """Variances whose root cannot be divided by."""
    return [
        f"{name} holds variances of 0 or less"
        for name, value in tensors.items()
        if name.endswith("running_var") and not bool((value + config.norm_epsilon > 0).all())
    ]


def refuse(path: Path, wrong: list[str], what: str) -> None:
    """Raise RequestError with the list of what is wrong, if anything is."""
    if not wrong:
        return
    listed = "; ".join(sorted(wrong)[:_NAMED_KEYS])
    more = len(wrong) - _NAMED_KEYS
    raise RequestError(
        f"{path}: does not fit {what}: {listed}" + (f"; and {more} more" if more > 0 else "")
    )


def export_tensors(weights: C4Weights, layout: str | None = None) -> dict[str, Tensor]:
    """The tensors by the names and in the order of rows of a layout, by default the file's own.

    In the file's own layout they are bit for bit those that were read. In another one (of the same
    network) logits become pairs and regressors are rescaled, which may round.
    """
    target = layout_by_name(layout or weights.layout)
    if (target.family == "vinvl") != (weights.config.family == "vinvl"):
        raise RequestError(f"weights of {weights.config.family} have no form in {target.name}")
    tensors = {
        source_name(name, target): from_canonical(name, tensor, target, weights.config)
        for name, tensor in weights.tensors.items()
    }
    if target.name != weights.layout:
        return tensors
    if target.anchors not in weights.originals:
        del tensors[target.anchors]
    tensors.update(weights.originals)
    if target.alias is not None:
        copy, original = target.alias
        for key in weights.aliases:
            tensors[key] = tensors[original + key.removeprefix(copy)]
    return {weights.prefix + name: value for name, value in tensors.items()}


def disagreement(first: C4Weights, second: C4Weights) -> dict[str, float]:
    """Largest difference of two files of the same detector, over the largest value, by tensor.

    The self-test of the turns: the fork's file against MILVLG's of the same model. Regressors are
    compared as deltas, without the background's rows; anchors are not compared.
    """
    if first.tensors.keys() != second.tensors.keys():
        raise RequestError("weights of different networks cannot be compared")
    result = {}
    for name in first.tensors.keys() - {"cell_anchors"}:
        one, two = (_comparable(name, weights) for weights in (first, second))
        if one.shape != two.shape:
            raise RequestError(f"weights of different networks cannot be compared: {name}")
        result[name] = float((one - two).abs().max() / two.abs().max().clamp(min=1e-12))
    return dict(sorted(result.items()))


def _comparable(name: str, weights: C4Weights) -> Tensor:
    tensor = weights.tensors[name]
    if not name.startswith("regressor"):
        return tensor
    scales = tensor.new_tensor(weights.config.regression_weights).repeat(len(tensor) // 4)
    return (tensor / scales.reshape(-1, *[1] * (tensor.ndim - 1)))[4:]

"""The four layouts: there and back bit for bit, every wrong key named, no code run."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from data_pipeline.detector.c4_anchors import cell_anchors
from data_pipeline.detector.c4_layouts import LAYOUTS, source_name, to_canonical
from data_pipeline.detector.c4_storage import export_file, load_c4, save_canonical
from data_pipeline.detector.c4_weights import (
    C4Weights,
    anchor_difference,
    disagreement,
    export_tensors,
)
from data_pipeline.regions_cli import regions
from tests.data_pipeline.detector.random_c4 import narrow_families, random_weights
from trawl import storage
from trawl.errors import RequestError

FAMILY = {"fork": "butd-d2", "hf": "butd-d2", "milvlg": "butd", "vinvl": "vinvl"}
SUFFIX = {"fork": ".pkl", "hf": ".bin", "milvlg": ".pth", "vinvl": ".pth"}
ANCHORS = {name: layout.anchors for name, layout in LAYOUTS.items()}


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from narrow_families(monkeypatch)


def as_published(layout: str, seed: int = 0) -> dict[str, Tensor]:
    """Tensors as a publisher's file has them, with what such files have besides."""
    weights = random_weights(FAMILY[layout], seed)
    tensors = dict(export_tensors(replace(weights, layout="none"), layout))
    name = ANCHORS[layout]
    if layout in ("fork", "hf"):
        order = [ratio * 4 + scale for scale in range(4) for ratio in range(3)]
        tensors[name] = cell_anchors("d2")[order]
    if layout == "hf":
        norms = [key for key in tensors if key.endswith("running_var")]
        for key in norms:
            tensors[key.replace("running_var", "num_batches_tracked")] = torch.tensor(5)
    if layout == "milvlg":
        rows = "proposal_generator.rpn_head.objectness_logits"
        for part in ("weight", "bias"):  # both of each pair are learned
            tensors[f"{rows}.{part}"] = tensors[f"{rows}.{part}"] + torch.rand(1)
        tensors["pixel_mean"] = torch.tensor([102.9801, 115.9465, 122.7717]).reshape(3, 1, 1)
        box = "roi_heads.box_predictor.bbox_pred"
        tensors[f"{box}.weight"][:4] = 1.0
    if layout == "vinvl":
        box = "roi_heads.box.feature_extractor."
        for key in [key for key in tensors if key.startswith(box)]:
            tensors[key.replace(box, "attribute.feature_extractor.")] = tensors[key]
    return tensors


def write(path: Path, tensors: dict[str, Tensor], layout: str) -> Path:
    """Write a file as its publisher did."""
    path = path.with_suffix(SUFFIX[layout])
    if layout == "fork":
        arrays = {name: value.numpy() for name, value in tensors.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    elif layout == "vinvl":
        torch.save({"model": tensors, "iteration": 7}, path)
    else:
        torch.save(tensors if layout == "hf" else {"model": tensors}, path)
    return path


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype
        for name in first
    )


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_file_comes_back_bit_for_bit(layout: str, tmp_path: Path) -> None:
    tensors = as_published(layout)
    path = write(tmp_path / "published", tensors, layout)
    weights = load_c4(path)
    assert weights.layout == layout
    assert weights.config.family == FAMILY[layout]
    assert weights.anchors == "file"
    assert weights.sha256 == storage.sha256_of(path)
    assert same_bits(export_tensors(weights), tensors)

    save_canonical(tmp_path / "ours.safetensors", weights)
    ours = load_c4(tmp_path / "ours.safetensors", FAMILY[layout])
    assert same_bits(ours.tensors, weights.tensors)
    assert (ours.config, ours.source_sha256) == (weights.config, weights.sha256)
    assert ours.sha256 == storage.sha256_of(tmp_path / "ours.safetensors")
    exported = (tmp_path / "again").with_suffix(SUFFIX[layout])
    export_file(exported, ours)
    assert same_bits(export_tensors(load_c4(exported)), tensors)


@pytest.mark.usefixtures("_narrow")
def test_the_command_converts_to_each_layout_and_back_and_compares(tmp_path: Path) -> None:
    def told(*arguments: object) -> str:
        words = ["weights", *(str(argument) for argument in arguments)]
        return CliRunner().invoke(regions, words, catch_exceptions=False).output

    for layout in LAYOUTS:
        tensors = as_published(layout)
        published = write(tmp_path / f"published-{layout}", tensors, layout)
        ours = tmp_path / f"{layout}.safetensors"
        again = (tmp_path / f"again-{layout}").with_suffix(SUFFIX[layout])
        assert f"layout of {layout}" in told(published, "--out", ours)
        assert storage.sha256_of(published) in told(ours, "--out", again)
        assert same_bits(export_tensors(load_c4(again)), tensors)
    as_milvlg = tmp_path / "fork.pth"
    told(tmp_path / "fork.safetensors", "--out", as_milvlg, "--layout", "milvlg")
    compared = told(as_milvlg, "--against", tmp_path / "published-fork.pkl")
    worst = float(compared.split("relative difference ")[1].split()[0])
    assert worst < 1e-6
    with pytest.raises(RequestError, match=r"milvlg end in \.pth"):
        told(tmp_path / "fork.safetensors", "--out", tmp_path / "x.pkl", "--layout", "milvlg")
    with pytest.raises(RequestError, match="have no form in vinvl"):
        told(tmp_path / "fork.safetensors", "--out", tmp_path / "x.pth", "--layout", "vinvl")


@pytest.mark.usefixtures("_narrow")
def test_a_wrappers_prefix_is_taken_off_and_given_back(tmp_path: Path) -> None:
    tensors = as_published("vinvl")
    wrapped = {f"module.{name}": value for name, value in tensors.items()}
    weights = load_c4(write(tmp_path / "file", wrapped, "vinvl"))
    plain = load_c4(write(tmp_path / "plain", tensors, "vinvl"))
    assert same_bits(weights.tensors, plain.tensors)
    assert same_bits(export_tensors(weights), wrapped)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_the_full_network_has_the_published_shapes_and_comes_back(name: str) -> None:
    weights, layout = random_weights(FAMILY[name]), LAYOUTS[name]
    tensors = export_tensors(replace(weights, layout="none"), name)
    for key, value in weights.tensors.items():
        assert torch.equal(to_canonical(key, tensors[source_name(key, layout)], layout), value)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    if name == "vinvl":
        assert shapes["rpn.head.conv.weight"] == (1024, 1024, 3, 3)
        assert shapes["rpn.head.cls_logits.weight"] == (15, 1024, 1, 1)
        assert shapes["roi_heads.box.predictor.bbox_pred.weight"] == (6380, 2048)
        assert shapes["attribute.predictor.attr_score.weight"] == (525, 512)
        assert shapes["backbone.body.layer3.35.conv2.weight"] == (1024, 32, 3, 3)
        return
    logits = "proposal_generator.rpn_head.objectness_logits.weight"
    assert shapes[logits] == (24 if name == "milvlg" else 12, 512, 1, 1)
    rows = 6404 if name == "milvlg" else 6400
    assert shapes["roi_heads.box_predictor.bbox_pred.weight"] == (rows, 2048)
    embedding = "cls_embed" if name == "milvlg" else "cls_embedding"
    assert shapes[f"roi_heads.box_predictor.{embedding}.weight"] == (1601, 256)


@pytest.mark.usefixtures("_narrow")
def test_the_same_detector_in_two_layouts_agrees(tmp_path: Path) -> None:
    whole = load_c4(write(tmp_path / "one", as_published("fork"), "fork"))
    export_file(tmp_path / "two.pth", whole, "milvlg")
    other = load_c4(tmp_path / "two.pth")
    assert other.layout == "milvlg"
    assert other.config.regression_weights == (1, 1, 1, 1)
    assert max(disagreement(whole, other).values()) < 1e-6
    different = load_c4(write(tmp_path / "three", as_published("fork", seed=1), "fork"))
    assert max(disagreement(whole, different).values()) > 0.1


@pytest.mark.usefixtures("_narrow")
def test_logits_of_pairs_are_foreground_minus_background(tmp_path: Path) -> None:
    tensors = as_published("milvlg")
    weights = load_c4(write(tmp_path / "file", tensors, "milvlg"))
    pairs = tensors["proposal_generator.rpn_head.objectness_logits.bias"]
    assert torch.equal(weights.tensors["proposal_head.objectness.bias"], pairs[12:] - pairs[:12])


@pytest.mark.usefixtures("_narrow")
def test_anchors_come_from_the_file_unless_a_recipe_is_asked_for(tmp_path: Path) -> None:
    tensors = as_published("fork")
    tensors[ANCHORS["fork"]] = tensors[ANCHORS["fork"]] + 1
    path = write(tmp_path / "file", tensors, "fork")
    assert torch.equal(load_c4(path).tensors["cell_anchors"], cell_anchors("d2") + 1)
    assert anchor_difference(load_c4(path)) == 1
    caffe = load_c4(path, anchors="caffe")
    assert torch.equal(caffe.tensors["cell_anchors"], cell_anchors("caffe"))
    assert caffe.anchors == "caffe"
    assert same_bits(export_tensors(caffe), tensors)
    parity = load_c4(path, "butd")
    assert torch.equal(parity.tensors["cell_anchors"], cell_anchors("caffe"))
    assert parity.config.regression_weights == (10, 10, 5, 5)
    del tensors[ANCHORS["fork"]]
    bare = load_c4(write(tmp_path / "bare", tensors, "fork"))
    assert bare.anchors == "d2"
    assert torch.equal(bare.tensors["cell_anchors"], cell_anchors("d2"))
    assert same_bits(export_tensors(bare), tensors)
    with pytest.raises(RequestError, match="vinvl makes 15 a cell, butd-d2 has 12"):
        load_c4(path, anchors="vinvl")


@pytest.mark.usefixtures("_narrow")
def test_a_file_without_attributes_has_no_attribute_head(tmp_path: Path) -> None:
    tensors = as_published("fork")
    kept = {k: v for k, v in tensors.items() if "attr" not in k and "embedding" not in k}
    weights = load_c4(write(tmp_path / "file", kept, "fork"))
    assert weights.network().attributes is None
    assert weights.attributes == ()
    assert same_bits(export_tensors(weights), kept)


@pytest.mark.usefixtures("_narrow")
def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    tensors = as_published("vinvl")
    del tensors["backbone.body.layer2.0.bn2.bias"]
    tensors["backbone.body.layer9.0.conv1.weight"] = torch.zeros(1)
    tensors["rpn.head.conv.bias"] = torch.zeros(3)
    tensors["backbone.body.stem.bn1.weight"] = tensors["backbone.body.stem.bn1.weight"].half()
    tensors["attribute.feature_extractor.head.layer4.0.conv1.weight"] = torch.zeros(16, 1024, 1, 1)
    tensors["roi_heads.box.predictor.cls_score.bias"][2] = torch.nan
    with pytest.raises(RequestError) as caught:
        load_c4(write(tmp_path / "file", tensors, "vinvl"))
    message = str(caught.value)
    for part in (
        "missing backbone.body.layer2.0.bn2.bias",
        "unknown backbone.body.layer9.0.conv1.weight",
        "rpn.head.conv.bias is (3,), not (8,)",
        "backbone.body.stem.bn1.weight is torch.float16, not float32",
        "attribute.feature_extractor.head.layer4.0.conv1.weight is not the same",
        "roi_heads.box.predictor.cls_score.bias holds numbers that are not finite",
    ):
        assert part in message


@pytest.mark.usefixtures("_narrow")
def test_a_variance_without_a_root_is_refused(tmp_path: Path) -> None:
    tensors = as_published("vinvl")
    tensors["backbone.body.stem.bn1.running_var"][0] = 0.0
    with pytest.raises(RequestError, match="running_var holds variances of 0 or less"):
        load_c4(write(tmp_path / "file", tensors, "vinvl"))


@pytest.mark.usefixtures("_narrow")
def test_families_and_layouts_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "file", as_published("vinvl"), "vinvl")
    with pytest.raises(RequestError, match="file of vinvl, which butd cannot use"):
        load_c4(path, "butd")
    with pytest.raises(RequestError, match="no form in fork"):
        export_tensors(load_c4(path), "fork")
    torch.save({"some.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(RequestError, match="not a layout that is known"):
        load_c4(tmp_path / "other.pth")
    with pytest.raises(RequestError, match="no such file"):
        load_c4(tmp_path / "absent.pkl")


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_older_and_newer_pickles_are_read(protocol: int, tmp_path: Path) -> None:
    tensors = as_published("fork")
    arrays = {name: value.numpy() for name, value in tensors.items()}
    data = pickle.dumps({"model": arrays}, protocol=protocol)
    if protocol == 2:  # as numpy 1 wrote it
        data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "file.pkl").write_bytes(data)
    assert same_bits(export_tensors(load_c4(tmp_path / "file.pkl")), tensors)


@pytest.mark.usefixtures("_narrow")
def test_files_of_torch_before_archives_and_with_arrays_are_read(tmp_path: Path) -> None:
    tensors = as_published("milvlg")
    torch.save({"model": tensors}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert same_bits(export_tensors(load_c4(tmp_path / "a.pth")), tensors)
    torch.save({"model": {k: v.numpy() for k, v in tensors.items()}}, tmp_path / "b.pth")
    assert same_bits(export_tensors(load_c4(tmp_path / "b.pth")), tensors)


class Harmful:
    """What a hostile file holds: reading it calls a function."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_a_pickle_that_asks_for_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"model": {"a": Harmful(mark)}}))
    with pytest.raises(RequestError, match="it asks for pathlib"):
        load_c4(tmp_path / "bad.pkl")
    torch.save({"model": {"a": Harmful(mark)}}, tmp_path / "bad.pth")
    with pytest.raises(RequestError, match="plain tensors: it asks for"):
        load_c4(tmp_path / "bad.pth")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"model": {"a": np.array(["text"])}}),
        pickle.dumps({"model": {"a": np.array([{}], dtype=object)}}),
        pickle.dumps({"model": {3: np.zeros(2)}}),
        pickle.dumps({"model": {"a": np.zeros((3, 4), np.float32)}})[:60],
    ],
)
def test_files_that_are_not_tensors_by_name_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(content)
    with pytest.raises(RequestError, match=r"bad\.pkl"):
        load_c4(tmp_path / "bad.pkl")


@pytest.mark.usefixtures("_narrow")
def test_a_changed_canonical_file_is_refused(tmp_path: Path) -> None:
    weights: C4Weights = load_c4(write(tmp_path / "file", as_published("hf"), "hf"))
    path = tmp_path / "ours.safetensors"
    save_canonical(path, weights)
    with pytest.raises(RequestError, match="was converted for butd-d2, not butd"):
        load_c4(path, "butd")
    assert load_c4(path, anchors="caffe").anchors == "caffe"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RequestError, match="checksum"):
        load_c4(path)
    save_canonical(path, weights)
    described = json.loads(path.with_suffix(".json").read_text())
    del described["layout"]
    path.with_suffix(".json").write_text(json.dumps(described))
    with pytest.raises(RequestError, match="not a description of a detector"):
        load_c4(path)


@pytest.mark.usefixtures("_narrow")
def test_names_are_read_beside_the_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "file", as_published("fork"), "fork")
    assert load_c4(path).objects[:2] == ("object 1", "object 2")
    names = [f"thing{number},synonym" for number in range(10)]
    (tmp_path / "objects_vocab.txt").write_text("\n".join(names) + "\n")
    assert load_c4(path).objects == tuple(f"thing{number}" for number in range(10))
    (tmp_path / "attributes_vocab.txt").write_text("red\nblue\n")
    with pytest.raises(RequestError, match="2 names, the weights have 6"):
        load_c4(path)
    (tmp_path / "VG-SGG-dicts-vgoi6-clipped.json").write_text(
        json.dumps(
            {
                "label_to_idx": {"__background__": 0, **{f"o{i}": i for i in range(1, 11)}},
                "attribute_to_idx": {f"a{i}": i for i in range(1, 7)},
            }
        )
    )
    assert load_c4(path).attributes == ("a1", "a2", "a3", "a4", "a5", "a6")

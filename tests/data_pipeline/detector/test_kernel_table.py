"""Which implementation pools and suppresses on a GPU: the table, and what a recipe names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.detector import kernels
from data_pipeline.detector.extraction_recipe import ExtractRecipe
from data_pipeline.detector.extraction_run import extract
from trawl import recipe as recipes
from trawl.errors import RequestError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    kernels.override({}, "cpu")


@pytest.fixture
def _built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file stands for the libraries: nothing is loaded here."""
    monkeypatch.setattr(kernels, "library", lambda name: Path(__file__))


@pytest.fixture
def _not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "library", lambda name: tmp_path / f"{name}.so")


def asked(**keys: object) -> ExtractRecipe:
    content = {"name": "r", "source": "nowhere", **keys}
    return recipes.parse(content, ExtractRecipe, "regions extract")


@pytest.mark.usefixtures("_built")
def test_where_cuda_cpp_was_built_it_suppresses_and_pools_when_it_is_named() -> None:
    assert kernels.chosen("suppression") == "cuda-c++"
    assert kernels.chosen("roi_align") == "torchvision"
    kernels.override({"roi_align": "cuda-c++", "suppression": "triton"}, "cuda:0")
    assert kernels.chosen("suppression") == "triton"
    assert kernels.chosen("roi_align") == "cuda-c++"
    kernels.override({}, "cuda")
    assert kernels.chosen("roi_align") == "torchvision"


@pytest.mark.usefixtures("_not_built")
def test_where_it_was_not_built_others_run_and_to_name_it_is_an_error() -> None:
    assert kernels.chosen("roi_align") == "torchvision"
    with pytest.raises(
        RequestError, match=r"^kernels\.roi_pool: cuda-c\+\+: not built; run make cuda-kernels"
    ):
        kernels.override({"roi_pool": "cuda-c++"}, "cuda")


def test_on_a_cpu_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    recipe = asked(kernels={"suppression": "triton"}, source=str(tmp_path / "images"))
    with pytest.raises(RequestError, match=r"kernels\.suppression: triton: it needs cuda"):
        extract(recipe, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"roipool": "triton"}, "no kernel roipool; there are roi_pool, roi_align, suppression"),
        ({"roi_pool": "fast"}, r"no implementation fast; take triton, cuda-c\+\+"),
        ({"roi_pool": ""}, "has no implementation ; take triton"),
    ],
)
def test_a_recipe_cannot_name_what_there_is_not(wanted: dict[str, str], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        asked(kernels=wanted)

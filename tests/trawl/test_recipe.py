"""Recipes are strict: each wrong one is refused in a line that names file, key and fix."""

from pathlib import Path

import pytest
from pydantic import Field

from trawl import recipe
from trawl.errors import RequestError
from trawl.recipe import Recipe


class Batch(Recipe):
    samples: int = Field(8, ge=1)


class Stage(Recipe):
    name: str
    batch: Batch = Batch()


class Example(Recipe):
    name: str
    out: str = "here"
    stages: list[Stage] = []
    limit: float | None = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "example.yaml"
    file.write_text("name: one\nstages:\n- {name: first, batch: {samples: 4}}\n")
    return file


def test_defaults_and_overrides(path: Path) -> None:
    loaded = recipe.load(path, Example, ["stages.0.batch.samples=2", "limit=0.5", "out=s3://b/c"])
    assert loaded.stages[0].batch.samples == 2
    assert loaded.limit == 0.5
    assert loaded.out == "s3://b/c"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.0.batch.sample=2",
            r"unknown key stages\.0\.batch\.sample; did you mean samples\?",
        ),
        ("nmae=x", r"unknown key nmae; did you mean name\?"),
        (
            "stages.0.batch.samples=0",
            r"key stages\.0\.batch\.samples: .*greater than or equal to 1",
        ),
        ("stages.3.name=x", "3 is no index of a list of 1"),
        ("name.x=1", r"name\.x lies inside a single value"),
        ("name", "write it as KEY=VALUE"),
        ("limit=[", "the value is not YAML"),
    ],
)
def test_wrong_overrides_say_what_is_wrong(path: Path, override: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        recipe.load(path, Example, [override])


def test_wrong_files_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none\.yaml: no such file"):
        recipe.load(tmp_path / "none.yaml", Example)
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: one\nstages: [\n")
    with pytest.raises(RequestError, match=r"bad\.yaml: line 3"):
        recipe.load(bad, Example)
    bad.write_text("- one\n")
    with pytest.raises(RequestError, match="a recipe is a mapping"):
        recipe.load(bad, Example)
    bad.write_text("stages: []\n")
    with pytest.raises(RequestError, match=r"bad\.yaml: key name is missing; add it"):
        recipe.load(bad, Example)


def test_yaml_cannot_make_python_objects(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(RequestError, match=r"bad\.yaml: line 1"):
        recipe.load(bad, Example)


def test_the_resolved_recipe_reads_back_equal(path: Path, tmp_path: Path) -> None:
    loaded = recipe.load(path, Example)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.dump(loaded))
    assert recipe.load(resolved, Example) == loaded


def test_the_digest_tells_recipes_apart_but_for_what_is_left_out(path: Path) -> None:
    first, second = recipe.load(path, Example), recipe.load(path, Example, ["out=there"])
    assert recipe.digest(first) != recipe.digest(second)
    assert recipe.digest(first, exclude=["out"]) == recipe.digest(second, exclude=["out"])


def test_a_recipe_is_found_by_file_or_by_the_name_of_one_that_ships(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("name: small\n")
    assert recipe.find("small", tmp_path) == str(tmp_path / "small.yaml")
    for given in ("mine.yaml", "s3://bucket/mine", "./small"):
        assert recipe.find(given, tmp_path) == given
    with pytest.raises(RequestError, match="huge: no such recipe ships; give a file, or one of sm"):
        recipe.find("huge", tmp_path)

"""The recipe of a corpus: the names of the design, strictness, and what its hash is made of."""

import re
from pathlib import Path

import pytest
import yaml

from data_pipeline.recipe import CorpusRecipe
from trawl import recipe as recipes
from trawl.errors import RequestError

DESIGN = """
name: web-2026-11
out: s3://bucket/corpora/web-2026-11
collect:      {source: {kind: warc, uris: ["web/*.warc.gz"]}, languages: [en]}
download:     {source: web, per_host_per_second: 2, timeout_seconds: 20, max_bytes: 20_000_000,
               user_agent: "Trawl/0.1", allow_private: []}
image_filter: {min_side: 301, max_aspect: 4.0, natural: {threshold: 0.5}, unsafe: {model: null},
               watermark: {model: null}}
text_filter:  {min_words: 3, max_words: 60, max_oov: 0.5}
score:        {model: builtin, threshold: 0.2}
aggregate:    {near_duplicate_bits: 6, max_images_per_text: 10}
regions:      {detector: demo, weights: builtin, selection: butd-10-100, features: float16}
shards:       {samples: 1000, image: original}
compute:      {ray_address: null, cpus: null, gpus: 0}
"""
CRAWL = "collect.source={kind: crawl, seeds: [a.txt]}"
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "build-a-corpus.md").read_text()
SHIPPED = sorted((ROOT / "data_pipeline" / "recipes").glob("*.yaml"))


def _load(tmp_path: Path, text: str = DESIGN, *changes: str) -> CorpusRecipe:
    place = tmp_path / "recipe.yaml"
    place.write_text(text)
    return recipes.load(place, CorpusRecipe, changes)


def test_the_recipe_of_the_design_is_read(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    assert recipe.image_filter.min_side == 301
    assert _load(tmp_path, recipes.dump(recipe)) == recipe


@pytest.mark.parametrize("place", SHIPPED, ids=lambda place: place.stem)
def test_shipped_recipes_are_good(place: Path) -> None:
    recipe = recipes.load(place, CorpusRecipe)
    assert recipe.name == place.stem


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S))
def test_the_recipes_of_the_documentation_are_good(text: str) -> None:
    assert recipes.parse(yaml.safe_load(text), CorpusRecipe, "page").collect.source.kind


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("text_filter.min_word=3", "min_words"),
        ("collect.source.kind=warcs", "warc"),
        ("collect.source.uris=[]", "uris"),
        ("score.threshold=2", r"score\.threshold"),
        ("name=a/b", "name"),
        ("collect.source={kind: table, form: x}", r"key collect\.source\.format is missing"),
        ("collect.source.ur=1", r"unknown key collect\.source\.ur; did you mean uris\?"),
        ("collect.source.splits=[a]", r"splits; known keys: base, kind, uris"),
        ("regions.features=float64", r"regions\.features"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: str, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        _load(tmp_path, DESIGN, change)


def test_images_out_of_warc_files_need_warc_files(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="warc"):
        _load(tmp_path, DESIGN, CRAWL, "download.source=warc")


def test_the_hash_knows_what_shapes_the_corpus_and_not_where_it_lies(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    for change in ("out=elsewhere", "compute.cpus=1", "collect.source.uris=[other.warc]"):
        assert _load(tmp_path, DESIGN, change).digest() == recipe.digest()
    for change in ("score.threshold=0.3", "shards.samples=10", "collect.languages=[de]"):
        assert _load(tmp_path, DESIGN, change).digest() != recipe.digest()


def test_keys_that_came_later_leave_the_hash_of_recipes_without_them(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    # Of the first version of the recipe, before there were any of LATER.
    assert recipe.digest() == "a4f2cb92019f2c06244e2464baaa5c53f6cb17a930c3ecaa412ce9102ee732fd"
    captions = recipes.load(SHIPPED[0], CorpusRecipe)
    assert captions.digest() == "d37d9113da7267b34e1e9a5fccad7284a3360e1322272103fe2ee03b546b2412"
    later = ("regions.class_probabilities=true", "regions.number=bfloat16", "score.model=text")
    for change in (*later, "text_filter.undivided_words=9", "image_filter.natural.model=m", CRAWL):
        assert _load(tmp_path, DESIGN, change).digest() != recipe.digest()
    mapped = CRAWL.replace("}", ", sitemaps: {enabled: true}}")
    assert _load(tmp_path, DESIGN, mapped).digest() != _load(tmp_path, DESIGN, CRAWL).digest()


def test_caption_sets_are_not_judged_unless_asked(tmp_path: Path) -> None:
    text = "name: c\ncollect: {source: {kind: captions, captions: c.json, images: images}}\n"
    recipe = _load(tmp_path, text)
    judged = (recipe.text_filter, recipe.score, recipe.aggregate, recipe.image_filter.natural)
    assert not any(step.enabled for step in judged)
    asked = _load(tmp_path, text, "aggregate.enabled=true", "score.threshold=0.1")
    assert asked.aggregate.enabled
    assert not asked.score.enabled

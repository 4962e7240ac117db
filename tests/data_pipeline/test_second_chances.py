"""Retry and select: each equals the build that had it right at once, and fetches no more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from data_pipeline.build import build
from data_pipeline.cluster import cluster
from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.manifest import manifest_sha256, read_manifest
from data_pipeline.corpus.verify import verify
from data_pipeline.forgetting import forget
from data_pipeline.rates import STEPS, Rates, dump_rates, measure
from data_pipeline.recipe import Compute, CorpusRecipe
from data_pipeline.retry_state import retries
from data_pipeline.retrying import retry
from data_pipeline.selecting import select
from tests.data_pipeline.builds import content
from tests.data_pipeline.small_site import HOST, SmallSite, small_site
from trawl import recipe as recipes
from trawl.errors import RequestError

FAILING = {"/2.jpg": 503, "/5.jpg": 0, "/7.jpg": 404}


@pytest.fixture(scope="module")
def site() -> Iterator[SmallSite]:
    """The site, with one Ray for all builds of this file."""
    with small_site(9) as found, cluster(Compute(cpus=1)):
        yield found


def _built(recipe: CorpusRecipe, out: Path) -> str:
    build(recipe, str(out))
    return manifest_sha256(str(out))


@pytest.fixture(scope="module")
def whole(site: SmallSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of the site when all but what is gone for good answers."""
    out = tmp_path_factory.mktemp("whole") / "out"
    site.failing = {"/7.jpg": 404}
    _built(site.recipe(), out)
    return out


def test_a_retry_ends_as_if_all_had_come_at_once(
    site: SmallSite, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    site.failing = dict(FAILING)
    first = _built(site.recipe(), out)
    reasons = {row["url"]: row["reason"] for row in read_decisions(str(out)) if not row["kept"]}
    assert reasons[f"{HOST}/2.jpg"] == reasons[f"{HOST}/7.jpg"] == "http-error"
    assert reasons[f"{HOST}/5.jpg"] in ("connection", "truncated")
    assert retry(str(out)).changed == 0
    assert manifest_sha256(str(out)) == first

    out = out.rename(tmp_path / "moved")
    site.failing, site.asked = {"/7.jpg": 404}, []
    with monkeypatch.context() as patch:  # ends in the middle of building anew
        patch.setattr("data_pipeline.build.write_manifest", _stop)
        with pytest.raises(KeyboardInterrupt):
            retry(str(out))
    assert retries(str(out))[2] == "rebuilding"
    told = retry(str(out))
    assert (told.fetched, told.changed) == (2, 2)
    assert {path for path in site.asked if path.endswith(".jpg")} == {"/2.jpg", "/5.jpg"}
    assert content(out) == content(whole)
    assert [(name, faults) for name, faults in verify(str(out)) if faults] == []

    site.asked = []
    again = retry(str(out))
    assert (again.fetched, again.changed, site.asked) == (0, 0, [])


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_selection_is_the_build_of_its_recipe(
    site: SmallSite, whole: Path, tmp_path: Path
) -> None:
    site.failing = {"/7.jpg": 404}
    changes = {
        "score": {"threshold": 0.9},
        "aggregate": {"max_images_per_text": 1},
        "text_filter": {"min_words": 6},
        "image_filter": {"max_aspect": 1.3},
        "shards": {"samples": 2},
    }
    wanted = _built(site.recipe(**changes), tmp_path / "built")
    site.asked = []
    flat = [
        f"{step}.{key}={value}" for step, keys in changes.items() for key, value in keys.items()
    ]
    select(str(whole), str(tmp_path / "selected"), flat)
    assert manifest_sha256(str(tmp_path / "selected")) == wanted != manifest_sha256(str(whole))
    assert site.asked == []
    assert content(tmp_path / "selected") == content(tmp_path / "built")
    # And back again, from the selection: nothing was lost on the way.
    back = [
        f"{change.partition('=')[0]}={value}"
        for change, value in zip(flat, _known(site, flat), strict=True)
    ]
    select(str(tmp_path / "selected"), str(tmp_path / "back"), back)
    assert content(tmp_path / "back") == content(whole)


def _known(site: SmallSite, flat: list[str]) -> list[object]:
    """Return the values that the keys of `flat` have in the site's recipe."""
    values = []
    for change in flat:
        step, _, key = change.partition("=")[0].partition(".")
        values.append(getattr(getattr(site.recipe(), step), key))
    return values


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("collect.min_dominance=0.5", "never fetched"),
        ("download.max_bytes=5", "never fetched"),
        ("collect.languages=[de]", "never fetched"),
        ("score.treshold=1", "did you mean threshold"),
    ],
)
def test_what_needs_a_fetch_is_refused(
    site: SmallSite, whole: Path, tmp_path: Path, change: str, why: str
) -> None:
    with pytest.raises(RequestError, match=why):
        select(str(whole), str(tmp_path / "out"), [change])
    assert not (tmp_path / "out").exists()


def test_a_corpus_that_kept_no_work_says_so(site: SmallSite, tmp_path: Path) -> None:
    recipe = site.recipe(compute={"keep_work": False})
    site.failing = {}
    _built(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "work").exists()
    with pytest.raises(RequestError, match="keep_work"):
        retry(str(tmp_path / "out"))
    with pytest.raises(RequestError, match="keep_work"):
        select(str(tmp_path / "out"), str(tmp_path / "new"), ["score.threshold=0.5"])


def test_a_probe_measures_what_a_plan_needs(site: SmallSite, whole: Path) -> None:
    site.failing = {"/7.jpg": 404}
    rates = measure(site.recipe(), 1.0)
    manifest = read_manifest(str(whole))
    assert (rates.pages, rates.candidates, rates.kept) == (1, 9, manifest.samples)
    assert (rates.addresses, rates.images) == (9, 8)
    assert rates.sample_bytes == round(manifest.bytes / manifest.samples, 1)
    assert set(rates.cpu_seconds) == set(STEPS)
    assert rates.cpu_seconds["detect"] > 0
    assert recipes.parse(yaml.safe_load(dump_rates(rates)), Rates, "rates") == rates


def test_what_is_forgotten_stays_away(site: SmallSite, tmp_path: Path) -> None:
    """A takedown holds through a retry and a selection, under whatever address."""
    out = tmp_path / "out"
    site.failing = {"/2.jpg": 503}
    _built(site.recipe(), out)
    rows = {row["url"]: row for row in read_decisions(str(out))}
    assert rows[f"{HOST}/8.jpg"]["sha256"] == rows[f"{HOST}/0.jpg"]["sha256"]
    (tmp_path / "list").write_text(
        f"# on request\n{HOST}/0.jpg\n{rows[f'{HOST}/4.jpg']['phash']}\n"
    )
    record = forget(str(out), str(tmp_path / "list"))
    assert record.candidates == 3
    site.failing, site.asked = {}, []
    assert retry(str(out)).changed == 1
    select(str(out), str(tmp_path / "new"), ["score.threshold=0.0"])
    for corpus in (out, tmp_path / "new"):
        found = {row["url"]: row["reason"] for row in read_decisions(str(corpus))}
        assert found[f"{HOST}/2.jpg"] == "kept"
        for gone in (0, 8, 4):
            assert found[f"{HOST}/{gone}.jpg"] == "forgotten"
        assert [(name, faults) for name, faults in verify(str(corpus)) if faults] == []
    assert site.asked == ["/robots.txt", "/2.jpg"]
    kept = read_manifest(str(out)).samples
    assert kept > 3
    # And a build from nothing at the same place, where the records are all that is left.
    for name in ("manifest.json", "ledger", "work", "shards", "decisions"):
        _remove(out / name)
    _built(site.recipe(), out)
    found = {row["url"]: row["reason"] for row in read_decisions(str(out))}
    assert [found[f"{HOST}/{n}.jpg"] for n in (0, 8, 4)] == ["forgotten"] * 3
    assert read_manifest(str(out)).samples == kept


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path) if path.is_dir() else path.unlink()

"""Plans: arithmetic that can be checked by hand, and the rates that ship."""

import pytest
from typer.testing import CliRunner

from data_pipeline.cli import corpus
from data_pipeline.planning import Prices, plan, plan_lines
from data_pipeline.rates import STEPS, Rates, load_rates
from data_pipeline.recipe import CorpusRecipe

RATES = Rates(
    measured_on="paper",
    pages=100,
    candidates=1_000,
    addresses=500,
    images=400,
    described=200,
    detected=100,
    kept=50,
    cpu_seconds=dict.fromkeys(STEPS, 1.0),
    page_bytes=1e5,
    image_bytes=1e6,
    sample_bytes=2e6,
    table_bytes=1e3,
)
RECIPE = {"name": "t", "collect": {"source": {"kind": "warc", "uris": ["x"]}}}
PRICES = Prices(machines=2, cores=4, utilisation=0.5, megabits_per_second=8, core_hour=1.0)


def _recipe(**download: str) -> CorpusRecipe:
    return CorpusRecipe.model_validate({**RECIPE, "download": download})


def test_a_plan_scales_the_probe_to_the_pairs_that_are_wanted() -> None:
    made = plan(_recipe(source="web"), RATES, PRICES, 50 * 3600)
    assert {step.name: step.core_hours for step in made.steps} == dict.fromkeys(STEPS, 1.0)
    items = {step.name: step.items / 3600 for step in made.steps}
    assert items["collect"] == 100
    assert items["download"] == 500
    assert items["detect"] == 100
    assert made.bytes_in == pytest.approx((100 * 1e5 + 400 * 1e6) * 3600)
    assert made.stored == pytest.approx((50 * 2e6 + 1_000 * 1e3) * 3600)
    assert made.working == pytest.approx((400 * 1e6 + 1_000 * 1e3) * 3600)
    hours = made.hours()
    assert hours["cores"] == pytest.approx(len(STEPS) / (2 * 4 * 0.5))
    assert hours["network"] == pytest.approx(410e6 * 3600 / (2 * 1e6 * 3600 * 0.5))
    assert made.dollars()["cores"] == pytest.approx(max(hours.values()) * 8)
    assert made.partitions == 36
    twice = plan(_recipe(source="web"), RATES, PRICES, 100 * 3600)
    assert twice.core_hours == pytest.approx(2 * made.core_hours)


def test_gpus_take_the_detection() -> None:
    prices = Prices(machines=2, gpus=1, gpu_images_per_second=10)
    made = plan(_recipe(source="warc"), RATES, prices, 50 * 3600)
    steps = {step.name: step for step in made.steps}
    assert steps["download"].bytes == 400e6 * 3600
    assert steps["detect"].core_hours == 0
    assert steps["detect"].gpu_hours == pytest.approx(100 * 3600 / 10 / 3600)
    assert made.dollars()["gpus"] > 0
    lines = list(plan_lines(made, RATES))
    assert "180 k pairs" in lines[0]
    assert len(lines) == len(STEPS) + 6


def test_the_rates_that_ship_are_whole() -> None:
    rates = load_rates(None)
    assert set(rates.cpu_seconds) == set(STEPS)
    assert rates.kept <= rates.detected <= rates.images <= rates.addresses <= rates.candidates


def test_the_command_prints_a_plan_and_refuses_nonsense() -> None:
    run = CliRunner().invoke
    done = run(corpus, ["plan", "web-demo", "--pairs", "1e9", "--machines", "100"])
    assert done.exit_code == 0
    assert "1 B pairs" in done.output
    assert "cost $" in done.output
    assert run(corpus, ["plan", "web-demo", "--pairs", "0"]).exit_code != 0

"""The demo's report opens in a real browser and shows what it should."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.cluster.browser import chromium
from tests.trawl.demo.conftest import Demo

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path / "profile") as started:
        yield started


def test_the_report_shows_every_part_in_a_browser(
    small_demo: Demo, browser: webdriver.Chrome
) -> None:
    browser.get((small_demo.out / "report.html").as_uri())
    titles = [element.text for element in browser.find_elements(By.TAG_NAME, "h2")]
    for title in ("Summary", "Funnel", "Decisions against the truth", "Detector", "Retrieval"):
        assert any(shown.startswith(title) for shown in titles), title
    images = browser.find_elements(By.CSS_SELECTOR, "figure img")
    assert len(images) >= 12
    for image in images:
        browser.execute_script("arguments[0].loading = 'eager'", image)
    broken = browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.images].map(i => i.decode().then(() => 0, () => 1)))"
        ".then(results => done(results.reduce((a, b) => a + b, 0)));"
    )
    assert broken == 0
    assert browser.find_elements(By.CSS_SELECTOR, "figure svg rect")
    assert browser.find_elements(By.CSS_SELECTOR, "svg polyline")
    wide = browser.execute_script("return document.body.scrollWidth <= window.innerWidth")
    assert wide
    assert browser.get_log("browser") == []

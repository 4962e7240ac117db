"""The page in a real browser, the metrics in Prometheus' own parser, and what is refused."""

import http.client
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from launch import attempts
from launch.attempts import NodeEnding
from launch.dashboard.prometheus import exposition
from launch.dashboard.reading import Reading, Seen
from launch.dashboard.server import Dashboard
from launch.job import Job, Work
from launch.place import Place
from launch.state import State
from launch.status import status_of
from tests.cluster.browser import chromium
from tests.data_pipeline.build_here import logged_build
from tests.launch.test_status import a_run
from tests.pretrain import runs


@contextmanager
def served(state: Path) -> Iterator[Dashboard]:
    with Dashboard("127.0.0.1", 0, Reading(state)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def jobs(done_job: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A done training, a corpus that is built, a training that lost a machine, a broken folder."""
    state = tmp_path_factory.mktemp("jobs")
    shutil.copytree(done_job, state / "tiny")
    corpus = state.parent / f"{state.name}-corpus"
    recipe = logged_build(corpus)
    attempts.submit(state / "web", Job(name="web", run=Work(corpus=str(recipe))))
    attempts.begin(state / "web", 1, 0)
    attempts.end(state / "web", 1, 0, 1)
    (state / "lost").mkdir()
    a_run(state / "lost-run", done_job)
    (state / "lost-run" / "job").rename(state / "lost" / "job")
    shutil.copytree(state / "lost" / "job", state / "lost", dirs_exist_ok=True)
    shutil.rmtree(state / "lost" / "job")
    told = NodeEnding(1, "b", 71, "trawl: <b>no room</b>; make room there")
    attempts.write_ending(state / "lost", 1, told)
    attempts.end(state / "lost", 1, 71, 0, stopped=True)
    (state / "broken").mkdir()
    (state / "broken" / "job.yaml").write_text("name: [\n")
    return state


@pytest.mark.slow
def test_the_page_shows_every_job_in_a_browser(jobs: Path, done_job: Path, tmp_path: Path) -> None:
    run = done_job.parents[1] / "run"
    with served(jobs) as server, chromium(tmp_path / "profile") as browser:
        browser.get(server.address)
        cards = _cards(browser)
        assert set(cards) == {"tiny", "web", "job", "broken"}
        tiny, web, lost = (browser.find_element(By.ID, f"job-{n}") for n in ("tiny", "web", "job"))
        assert "samples a second" in cards["tiny"]
        assert "step 6" in cards["tiny"]
        assert len(tiny.find_elements(By.CSS_SELECTOR, ".charts svg polyline")) == 6
        assert len(tiny.find_elements(By.CSS_SELECTOR, ".stage.published")) == 2
        assert "complete" in cards["web"]
        assert "sentences: too-short" in cards["web"]
        assert web.find_elements(By.CSS_SELECTOR, ".charts svg rect")
        assert lost.get_attribute("class") == "job bad"
        assert "<b>no room</b>; make room there" in cards["job"]
        assert not lost.find_elements(By.CSS_SELECTOR, "td b, .why b")
        assert "cannot be read" in cards["broken"]
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            ground, ink = (
                browser.execute_script(f"return getComputedStyle(document.body).{name}")
                for name in ("backgroundColor", "color")
            )
            assert (_light(ground) > _light(ink)) == (scheme == "light")
        for width in (1200, 480):
            browser.set_window_size(width, 1000)
            script = "return document.documentElement.scrollWidth <= window.innerWidth"
            assert browser.execute_script(script)
        curve = browser.find_element(By.CSS_SELECTOR, "#job-tiny .charts svg")
        webdriver.ActionChains(browser).move_to_element(curve).perform()
        hint = browser.find_element(By.ID, "hint").text.split()
        assert hint[0] == "step"
        assert hint[2] in ("out", "in")
        stage, step = hint[2], int(hint[1])
        losses = {(line["stage"], line["step"]): line["loss"] for line in runs.lines(run)}
        told = losses[stage, step if stage == "out" else step - 8]
        assert float(hint[3]) == pytest.approx(told, abs=0.02)
        attempts.submit(jobs / "tiny", attempts.job_of(jobs / "tiny"))
        attempts.begin(jobs / "tiny", 2, 0)  # seen without loading the page again
        _until(lambda: "attempt 2" in _cards(browser)["tiny"])
        assert browser.get_log("browser") == []
        names = "return performance.getEntriesByType('resource').map(entry => entry.name)"
        assert set(browser.execute_script(names)) <= {f"{server.address}api/jobs"}
        server.shutdown()
        server.server_close()
        _until(lambda: browser.find_element(By.ID, "silence").is_displayed())


def _cards(browser: webdriver.Chrome) -> dict[str, str]:
    """The text of each job's card, by the job's name, once there are any."""
    script = (
        "return [...document.querySelectorAll('.job')]"
        ".map(card => [card.querySelector('h2').textContent, card.innerText])"
    )
    _until(lambda: bool(browser.execute_script(script)))
    return dict(browser.execute_script(script))


def _until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _light(colour: str) -> int:
    """The sum of red, green and blue of `rgb(1, 2, 3)`."""
    return sum(int(part) for part in colour.strip("rgba()").split(",")[:3])


def test_prometheus_reads_the_metrics(jobs: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    with served(jobs) as server:
        with urllib.request.urlopen(f"{server.address}metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = answer.read().decode()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    values = {
        (sample.name, sample.labels["job"]): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["trawl_steps", "tiny"] == 6
    assert values["trawl_checkpoint_step", "tiny"] == 6
    assert values["trawl_stages_published", "tiny"] == 2
    assert values["trawl_corpus_complete", "web"] == 1
    assert values["trawl_job_health", "job"] == 2
    assert values["trawl_job_readable", "broken"] == 0
    codes = {s.labels["host"]: s.value for s in families["trawl_node_exit_code"].samples}
    assert codes["b"] == 71
    assert all(family.documentation for family in families.values())


def test_labels_are_escaped(tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    place = Place.model_validate({"backend": "ssh", "ssh": {"hosts": ["a"]}})
    attempts.submit(tmp_path, Job(name="job", run=Work(corpus="none.yaml"), place=place))
    attempts.begin(tmp_path, 1, 0)
    host = 'a\\b"c\nd'
    attempts.beat(tmp_path, 1, 0, host)
    status = status_of(tmp_path, State("running", 1, "attempt-started"))
    text = exposition([Seen("job", tmp_path, status)])
    (family,) = (
        family
        for family in parser.text_string_to_metric_families(text)
        if family.name == "trawl_node_sign_timestamp_seconds"
    )
    assert family.samples[0].labels["host"] == host


def test_a_page_of_another_site_reads_nothing(jobs: Path) -> None:
    with served(jobs) as server:

        def asked(path: str, host: str, method: str = "GET") -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(*server.server_address[:2])  # type: ignore[arg-type]
            connection.request(method, path, headers={"Host": host})
            answer = connection.getresponse()
            assert "default-src 'none'" in str(answer.headers["Content-Security-Policy"])
            return answer.status, answer.read()

        port = server.server_address[1]
        assert asked("/api/jobs", f"evil.example:{port}")[0] == 403
        status, body = asked("/api/jobs", f"localhost:{port}")
        assert status == 200
        assert {job["name"] for job in json.loads(body)["jobs"]} >= {"tiny", "web"}
        assert asked("/../../etc/passwd", f"127.0.0.1:{port}")[0] == 404
        assert asked("/", f"127.0.0.1:{port}", "HEAD") == (200, b"")

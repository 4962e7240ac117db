"""The demo's web: what it holds, that its truth is complete, and that kills change nothing."""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.trawl.demo.page_reader import PageReader
from tests.trawl.demo.small_web import SCENES, SEED, SITES, small_plan, small_truth, small_web
from trawl.demo import prose
from trawl.demo.kinds import KINDS, words_of
from trawl.demo.routes import Route
from trawl.demo.scenes import SIZES
from trawl.demo.surfaces import COLOURS, PATTERNS
from trawl.demo.truth import REASONS, Row, truth_lines
from trawl.demo.web import plan_web, write_web
from trawl.errors import RequestError

NEVER_A_TRUE_REASON = {"not-dominant", "duplicate", "near-duplicate"}
COPIES = {"original", "identical", "re-encoded", "resized", "cropped", "thumbnail"}


def _route(url: str) -> Route:
    """The route at which an address ends."""
    for _ in range(10):
        route = small_plan().routes[url]
        location = dict(route.headers).get("Location")
        if location is None:
            return route
        url = location if "://" in location else "/".join(url.split("/")[:3]) + location
    raise AssertionError(f"{url} redirects for ever")


def _body(url: str) -> bytes:
    return (small_web() / "store" / str(_route(url).body)).read_bytes()


@cache
def _readers() -> dict[str, PageReader]:
    """All pages, read back."""
    found = {}
    for page in small_plan().pages:
        declared = dict(small_plan().routes[page.url].headers)["Content-Type"]
        charset = declared.partition("charset=")[2] or None
        found[page.url] = PageReader(page.url, _body(page.url), charset)
    return found


def _rows(**wanted: str) -> list[Row]:
    return [row for row in small_truth() if all(row[key] == wanted[key] for key in wanted)]


def test_a_plan_is_a_pure_function_of_its_arguments() -> None:
    one, other = small_plan(), plan_web(SEED, SCENES, SITES)
    assert truth_lines(one.truth()) == truth_lines(other.truth())
    assert one.routes == other.routes
    assert one.contents == other.contents
    assert truth_lines(plan_web(1, 40, 8).truth()) != truth_lines(plan_web(2, 40, 8).truth())


@pytest.mark.parametrize(("scenes", "sites"), [(39, 32), (60, 7), (60, 10_000)])
def test_webs_too_small_or_too_large_are_refused(scenes: int, sites: int) -> None:
    with pytest.raises(RequestError, match=r"web needs at least|names for"):
        plan_web(0, scenes, sites)


def test_there_are_as_many_sites_as_asked_for_in_several_looks_and_languages() -> None:
    sites = [site for site in small_plan().sites if site.role == "content"]
    assert len({site.host for site in sites}) == SITES
    assert all(site.host.endswith(".trawl.test") for site in small_plan().sites)
    assert len({site.template for site in sites}) >= 5
    assert {site.language for site in sites} == {"en", "de", "fr", "es", "nl"}
    assert {site.encoding for site in sites} == {"utf-8", "latin-1", "ascii"}


def test_there_are_as_many_keepable_pictures_as_scenes_were_asked_for() -> None:
    assert len({row["picture"] for row in _rows(verdict="keep")}) == SCENES


def test_every_reason_and_every_copy_occurs() -> None:
    assert {row["reason"] for row in small_truth()} == set(REASONS) - NEVER_A_TRUE_REASON
    assert {row["copy"] for row in small_truth()} == COPIES
    assert {row["copy"] for row in _rows(verdict="keep")} == COPIES - {"thumbnail"}


def test_the_truth_covers_every_candidate_of_every_page_and_no_other() -> None:
    truth: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for row in small_truth():
        assert row["image"] not in truth[row["page"]]
        truth[row["page"]][row["image"]] = set(row["also"])
    shown = {url: reader.pictures() for url, reader in _readers().items()}
    assert shown == truth


@pytest.mark.parametrize(
    "pattern",
    [
        r'srcset="[^"]+ \d+w, [^"]+ \d+w"',
        r'srcset="[^"]+ 1x, [^"]+ 2x"',
        r"<picture><source ",
        r'src="data:image/gif[^>]+ data-(src|original|lazy-src)="',
        r'data-srcset="',
        r"<noscript><img ",
        r'src="//',
        r'src="\.\./',
        r'src="\\',
        r'src="HTTP://',
        r'src="[^"]*#photo"',
        r'src="[^"]*&amp;',
        r'src="[^"]*my photos',
        r"<base href=",
        r"<figcaption>",
        r' aria-label="',
        r'<meta name="robots" content="noai',
        r"<HTML>",
        r"</article></span>",
        r'<meta charset="iso-8859-1">',
        r"<!-- <img",
    ],
)
def test_pages_use_what_real_ones_use(pattern: str) -> None:
    pages = small_plan().pages
    assert any(re.search(pattern, _body(page.url).decode("latin-1")) for page in pages)


def test_true_texts_stand_on_the_page_and_others_do_not() -> None:
    for row in small_truth():
        text = _readers()[row["page"]].text()
        if row["verdict"] == "keep":
            assert any(true in text for true in row["texts"]), row
        elif row["reason"] in ("placeholder", "spam", "no-text", "foreign-language", "wrong-text"):
            assert not row["texts"]


def test_filler_names_nothing_that_a_scene_can_show() -> None:
    told = [*prose.OPENERS, *prose.SUBJECTS, *prose.VERBS, *prose.OBJECTS, *prose.ENDINGS]
    told += [*prose.ADJECTIVES, *prose.NOUNS, *prose.FORMS, *prose.HEADINGS, *prose.COMMENTS]
    words = set(" ".join(told).lower().replace(",", " ").split())
    names = {word.lower() for kind in KINDS for word in words_of(kind)}
    assert not words & {*names, *COLOURS, *PATTERNS, *SIZES}


def test_a_crawl_from_the_seeds_finds_every_page_within_four_steps() -> None:
    seeds = (small_web() / "seeds.txt").read_text().split()
    assert len(seeds) <= SITES
    found, front = set(seeds), set(seeds)
    for _ in range(4):
        front = {url for page in front for url in _readers()[page].links() if url in _readers()}
        front = {url for url in front if "/private/" not in url} - found
        found |= front
    assert found == {page.url for page in small_plan().pages if not page.private}


def test_pages_weigh_as_much_as_real_ones() -> None:
    sizes = [len(_body(page.url)) for page in small_plan().pages]
    assert min(sizes) > 4_000
    assert max(sizes) < 40_000


def test_pictures_are_as_large_as_the_truth_says() -> None:
    sides = defaultdict(set)
    for row in small_truth():
        if row["verdict"] == "keep" or row["reason"] in ("too-small", "bad-aspect", "unnatural"):
            with Image.open(io.BytesIO(_body(row["image"]))) as image:
                width, height = image.size
            sides[row["reason"]].add(min(width, height))
            assert (min(width, height) <= 300) == ("too-small" in row["reasons"])
            assert (max(width, height) > 4 * min(width, height)) == ("bad-aspect" in row["reasons"])
    assert 300 in sides["too-small"]
    assert 301 in sides["kept"]


def test_broken_pictures_are_broken() -> None:
    for row in _rows(reason="not-an-image"):
        assert _body(row["image"]).startswith(b"<!doctype html>")
    for row in _rows(reason="truncated"):
        route, data = _route(row["image"]), _body(row["image"])
        assert route.truncated or not data.endswith(b"\xff\xd9")


def _hash(data: bytes) -> np.ndarray:
    """A perceptual hash of 64 bits: signs of low frequencies."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return low > np.median(low)


def test_copies_look_alike_and_other_pictures_do_not() -> None:
    files: dict[str, set[str]] = defaultdict(set)
    for row in _rows(verdict="keep"):
        files[row["picture"]].add(row["image"])
    hashes = {picture: [_hash(_body(url)) for url in urls] for picture, urls in files.items()}
    for copies in hashes.values():
        assert all((copies[0] != copy).sum() <= 8 for copy in copies)
    for one, other in combinations(hashes, 2):
        assert (hashes[one][0] != hashes[other][0]).sum() > 8


def test_identical_copies_have_equal_bytes_at_other_addresses() -> None:
    originals = {row["picture"]: row["image"] for row in _rows(copy="original", verdict="keep")}
    copies = _rows(copy="identical", verdict="keep")
    assert copies
    for row in copies:
        assert _body(row["image"]) == _body(originals[row["picture"]])
    assert any(row["image"] != originals[row["picture"]] for row in copies)
    assert any(row["image"] == originals[row["picture"]] for row in copies)


def test_one_caption_stands_by_more_pictures_than_may_share_one() -> None:
    stock = _rows(reason="text-too-common")
    assert len({row["picture"] for row in stock}) > 10
    assert len({row["text"] for row in stock}) == 1
    assert sum(row["text"] == stock[0]["text"] for row in small_truth()) == len(stock)


def test_no_true_text_is_common() -> None:
    pictures: dict[str, set[str]] = defaultdict(set)
    for row in _rows(verdict="keep"):
        for text in row["texts"]:
            pictures[text].add(row["picture"])
    assert max(map(len, pictures.values())) <= 3


def _tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _files(pattern: str, count: int) -> Callable[[Path], bool]:
    return lambda folder: sum(1 for _ in folder.glob(pattern)) >= count


_WRITE = "import sys; from trawl.demo.web import write_web; write_web(sys.argv[1], 5, 40, 8)"
_MOMENTS = [_files("plan.json", 1), _files("store/scene/*.jpg", 60), _files("warc/*.gz", 1)]


def test_killed_anywhere_and_started_again_it_writes_the_same_bytes(tmp_path: Path) -> None:
    write_web(tmp_path / "calm", 5, 40, 8, workers=1)
    killed = tmp_path / "killed"
    for reached in _MOMENTS:
        process = subprocess.Popen([sys.executable, "-c", _WRITE, killed], start_new_session=True)
        while not reached(killed) and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    write_web(killed, 5, 40, 8, workers=1)
    assert _tree_hash(killed) == _tree_hash(tmp_path / "calm")


def test_a_web_that_is_whole_is_left_alone() -> None:
    before = (small_web() / "web.json").stat().st_mtime_ns
    write_web(small_web(), SEED, SCENES, SITES)
    assert (small_web() / "web.json").stat().st_mtime_ns == before


def test_another_web_or_anything_else_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds another web"):
        write_web(small_web(), SEED + 1, SCENES, SITES)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="not empty"):
        write_web(tmp_path, SEED, SCENES, SITES)

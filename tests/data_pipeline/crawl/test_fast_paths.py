"""The short ways through ordinary attributes and texts lead where the long ways do."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.crawl.address import Base, _careful, canonical
from data_pipeline.crawl.dominance import FURNITURE, names_furniture
from data_pipeline.crawl.srcset import _careful_entries, _plain_entries, by_preference, entries
from data_pipeline.crawl.texts import MAX_SURROUNDING, _words_of, file_words, near_text

PAGE = "http://site.org/dir/sub/page.html?q"
SIZES = ("400w", "2x", "1.5x", "0w", "w", "x", "1e3w", "nanx", "1e9w", "80h", "(a, b)", "")
ENTRY = st.builds(
    lambda space, address, size: f"{space}{address} {size}",
    st.sampled_from(("", " ", "\n", ",")),
    st.sampled_from(("a.jpg", "/b,c.jpg", "d", "http://e.org/f.png", "g,", "")),
    st.sampled_from(SIZES),
)


@given(st.lists(ENTRY, max_size=5).map(",".join) | st.text("a,.4wx ()\n", max_size=20))
@example("a.jpg 400w, b.jpg 800w")
@example("a 1x 2x, b 3x")
def test_plain_srcsets(srcset: str) -> None:
    plain = _plain_entries(srcset)
    assert plain in ([], _careful_entries(srcset))
    assert entries(srcset) == _careful_entries(srcset)


def test_ordinary_srcsets_are_plain() -> None:
    assert _plain_entries("a.jpg 400w, b.jpg 800w") == [("a.jpg", 400, "w"), ("b.jpg", 800, "w")]


def test_wide_before_dense_before_lazy_before_small() -> None:
    image = {"src": "s", "data-src": "lazy", "srcset": "one, two 2x, w1 100w, w2 200w"}
    assert list(by_preference(image, [])) == ["w2", "w1", "two", "lazy", "s", "one"]


STEMS = st.text("abcXYZ019-_. %()", max_size=30) | st.text(max_size=12)


@given(STEMS)
@example("red-boat_01")
@example("IMG_20")
def test_file_names(stem: str) -> None:
    name = "a" + re.sub("[/?%]", "", stem)
    assert file_words(f"http://site.org/x/{name}.jpg") == _words_of(name)


@given(st.lists(st.sampled_from(("logo", "Icon", "x", "é", "-", " ", "btn2", "0"))).map("".join))
def test_furniture(text: str) -> None:
    words = re.findall("[a-z]+", text.lower())
    assert names_furniture(text) == (not FURNITURE.isdisjoint(words))


WORDS = st.lists(st.sampled_from(("boat", "a", "harbour", " ", "\n", "\xa0", "\u200b", "é" * 90)))


@given(st.builds(lambda words, times: " ".join(words) * times, WORDS, st.integers(1, 60)))
def test_surrounding_text(text: str) -> None:
    whole = " ".join(text[: 4 * MAX_SURROUNDING].split())
    head = whole[:MAX_SURROUNDING]
    expected = whole if whole == head else head.rpartition(" ")[0] or head
    assert near_text(text, after=True) == expected
    whole = " ".join(text[-4 * MAX_SURROUNDING :].split())
    tail = whole[-MAX_SURROUNDING:]
    expected = whole if whole == tail else tail.partition(" ")[2] or tail
    assert near_text(text, after=False) == expected


REFERENCE = st.lists(
    st.sampled_from(("/", ".", "..", "a", "b.jpg", "http:", "//", "?q=1", "#x", "%41", "~", "é"))
).map("".join)


@given(REFERENCE)
def test_addresses(reference: str) -> None:
    assert Base(PAGE)[reference] == canonical(reference, PAGE)


ORIGIN = st.sampled_from(
    (
        "site.org",
        "127.0.0.1:80",
        "127.0.0.1:81",
        "010.1.2.3",
        "a_b.org:443",
        "a..b",
        "x:99999",
        "1:",
    )
)


@given(st.sampled_from(("http://", "https://", "http:/")), ORIGIN, REFERENCE)
@example("http://", "127.0.0.1:8080", "/a/b.jpg")
@example("http://", "127.0.0.1:80", "/a/../b.jpg")
def test_whole_addresses(scheme: str, origin: str, path: str) -> None:
    address = f"{scheme}{origin}/{path}"
    assert canonical(address) == _careful(address.partition("#")[0], None)

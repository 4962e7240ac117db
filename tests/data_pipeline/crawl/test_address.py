"""Canonical addresses and the network guard's judgement of them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.crawl.address import (
    Base,
    _careful,
    canonical,
    host_of,
    origin_of,
    without_tracking,
)
from data_pipeline.crawl.guard import Guard, RefusedError, is_public
from data_pipeline.crawl.settings import DownloadSettings

BASE = "http://ex.org/a/b/c.html?q=1"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("x.jpg", "http://ex.org/a/b/x.jpg"),
        ("../x.jpg", "http://ex.org/a/x.jpg"),
        ("./y", "http://ex.org/a/b/y"),
        ("../../../../y", "http://ex.org/y"),
        ("a/..", "http://ex.org/a/b/"),
        ("/z/w", "http://ex.org/z/w"),
        ("//H.org:80/p", "http://h.org/p"),
        ("https:foo", "https://foo/"),
        ("http:foo.jpg", "http://ex.org/a/b/foo.jpg"),
        ("?k=v w", "http://ex.org/a/b/c.html?k=v%20w"),
        ("#part", BASE),
        ("", BASE),
        ("images\\t.jpg", "http://ex.org/a/b/images/t.jpg"),
        ("..\\..\\x", "http://ex.org/x"),
        ("a b.jpg", "http://ex.org/a/b/a%20b.jpg"),
        (" http://e.org/a\nb ", "http://e.org/ab"),
        ("HTTP://Ex.ORG:8080/%7euser/%2f?a=é#x", "http://ex.org:8080/~user/%2F?a=%C3%A9"),
        ("https://e.org:443", "https://e.org/"),
        ("http://e.org:/x", "http://e.org/x"),
        ("http:///e.org/x", "http://e.org/x"),
        ("http://e.org./x", "http://e.org/x"),
        ("http://münchen.de/", "http://xn--mnchen-3ya.de/"),
        ("http://127。0。0。1/", "http://127.0.0.1/"),
        ("http://[::FFFF:127.0.0.1]:80/", "http://[::ffff:7f00:1]/"),
        ("100%", "http://ex.org/a/b/100%25"),
        ("a%zz", "http://ex.org/a/b/a%25zz"),
        ("a\udce9.jpg", "http://ex.org/a/b/a%E9.jpg"),
        ("data:image/png;base64,xx", None),
        ("javascript:void(0)", None),
        ("mailto:a@ex.org", None),
        ("http://user@e.org/", None),
        ("http://e.org:99999/", None),
        ("http://e..org/", None),
        ("http://[::1/", None),
        ("//", None),
        ("x" * 5000, None),
    ],
)
def test_references_resolve_as_in_a_browser(reference: str, expected: str | None) -> None:
    assert canonical(reference, BASE) == expected


def test_a_reference_without_base_must_be_absolute() -> None:
    assert canonical("x.jpg") is None
    assert canonical("http://ex.org") == "http://ex.org/"


@given(st.text(max_size=60), st.sampled_from([None, BASE, "https://[::1]:8443/x/?y"]))
def test_any_text_has_one_canonical_spelling_or_none(text: str, base: str | None) -> None:
    found = canonical(text, base)
    if found is not None:
        assert found.isascii()
        assert canonical(found) == found
        assert canonical(found, BASE) == found
        assert found.startswith(("http://", "https://"))
        assert origin_of(found)
        assert host_of(found)


@given(st.from_regex(r"(https?://[a-z]{1,4}\.org)?/?([a-zA-Z0-9._~%-]{0,5}/){0,4}[a-z.#?=]{0,6}"))
def test_the_fast_path_agrees_with_the_slow_one(reference: str) -> None:
    slow = _careful(reference.partition("#")[0], BASE)
    assert canonical(reference, BASE) == Base(BASE)[reference] == slow


def test_tracking_parameters_fall_away() -> None:
    assert without_tracking("http://e.org/?utm_source=x&id=3&fbclid=y") == "http://e.org/?id=3"
    assert without_tracking("http://e.org/?utm_source=x") == "http://e.org/"
    assert without_tracking("http://e.org/?id=3") == "http://e.org/?id=3"


PUBLIC = """
8.8.8.8 1.1.1.1 2606:4700::1111 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808
2002:808:808::1
"""
NOT_PUBLIC = """
127.0.0.1 127.8.9.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 192.0.0.8
192.88.99.1 198.18.0.1 203.0.113.5 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ::1 :: fe80::1
fc00::1 fec0::1 ff02::1 2001:db8::1 3fff::1 100::1 2001:2::1 ::7f00:1 ::ffff:127.0.0.1
::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808 2002:7f00:1::1
2002:a9fe:a9fe::1 2001:0:4136:e378:8000:63bf:3fff:fdd2
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses_pass(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_other_addresses_do_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_networks_and_schemes_of_the_recipe() -> None:
    guard = Guard(DownloadSettings(allow_private=["10.0.0.0/8", "::1"], schemes=["https"]))
    guard.check_address("x.org", "10.1.2.3")
    guard.check_socket("::1")
    with pytest.raises(RefusedError):
        guard.check_socket("127.0.0.1")
    with pytest.raises(RefusedError) as refusal:
        guard.checked_url("http://x.org/")
    assert refusal.value.reason == "bad-url"
    assert guard.checked_url("https://X.org") == "https://x.org/"


@pytest.mark.parametrize("target", ["localhost:80", "127.0.0.1", "127.0.0.1:99999", "::1:80", "x"])
def test_connect_to_wants_address_and_port(target: str) -> None:
    with pytest.raises(ValueError, match="connect_to"):
        DownloadSettings(connect_to={"*": target})


def test_the_name_for_robots_is_the_first_word_of_the_agent() -> None:
    settings = DownloadSettings(user_agent="Some-Bot/2.1 (x)", contact="mail@ex.org")
    assert settings.agent_token == "Some-Bot"
    assert settings.agent_header == "Some-Bot/2.1 (x) (+mail@ex.org)"

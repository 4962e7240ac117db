"""Fixtures that every test may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import radosgw, s3_servers

_OPTION = "--s3-server"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the S3 server of the tests be chosen."""
    parser.addoption(
        _OPTION,
        choices=["moto", "radosgw"],
        default="moto",
        help="S3 server that the tests start; with radosgw those run alone that need one",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put first what takes longest in one piece: no process is left alone with it (xdist)."""
    if config.getoption(_OPTION) == "radosgw":
        if missing := radosgw.missing():
            raise pytest.UsageError(f"not installed: {', '.join(missing)}; make test-radosgw does")
        others = [item for item in items if not _needs_s3(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _needs_s3(item)]

    def is_long(item: pytest.Item) -> bool:
        shared = {"small_demo", "undisturbed"} & set(getattr(item, "fixturenames", ()))
        return bool(shared) or item.path.parent.name == "docs"

    items.sort(key=lambda item: not is_long(item))


def _needs_s3(item: pytest.Item) -> bool:
    """Return whether a test has to do with an S3 server, by a fixture or a parameter."""
    call = getattr(item, "callspec", None)
    parameters = call.params.values() if call else ()
    asked = {*getattr(item, "fixturenames", ()), *filter(_is_text, parameters)}
    return not asked.isdisjoint(("s3", "s3_settings"))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared test data beside this checkout")
    return folder


@pytest.fixture(scope="session")
def s3_settings(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of a client of a real S3 server over HTTP with a bucket called `trawl`."""
    server = radosgw.radosgw if request.config.getoption(_OPTION) == "radosgw" else s3_servers.moto
    with server() as url:
        yield s3_servers.settings_of(url)


@pytest.fixture
def s3(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of the bucket of a running S3 server, with this process set up as its client."""
    from trawl.object_store import S3

    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    S3.clear_instance_cache()
    return "s3://trawl"

"""The fetcher and the names of hosts: what they lead to is what was checked, and in time."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from data_pipeline.crawl.fetch import Fetcher
from data_pipeline.crawl.resolve import Lookup, system_lookup
from tests.data_pipeline.crawl.scripted_server import ScriptedServer, answer


def run_with_lookup(
    lookup: Lookup, body: Callable[[Fetcher, ScriptedServer, ScriptedServer], Awaitable[None]]
) -> None:
    """Run with an allowed server on 127.0.0.1 and a forbidden one on 127.0.0.2, same port."""

    async def main() -> None:
        async with ScriptedServer({"/": answer(200, b"allowed")}) as allowed:
            forbidden = ScriptedServer({"/": answer(200, b"forbidden")}, "127.0.0.2")
            forbidden._port = lambda: allowed.port  # type: ignore[method-assign]
            async with forbidden:
                settings = allowed.settings(connect_to={}, retries=0)
                async with Fetcher(settings, lookup) as fetcher:
                    await body(fetcher, allowed, forbidden)

    asyncio.run(main())


def test_a_name_that_changes_its_address_leads_only_where_it_was_checked() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    asked: list[str] = []

    def rebinding(host: str) -> list[str]:
        asked.append(host)
        return next(answers)

    async def body(fetcher: Fetcher, allowed: ScriptedServer, forbidden: ScriptedServer) -> None:
        url = f"http://rebind.test:{allowed.port}/"
        assert (await fetcher.fetch(url)).body == b"allowed"
        # Checking and connecting took one look-up between them: there was no second answer to use.
        assert asked == ["rebind.test"]
        assert (await fetcher.fetch(url)).body == b"allowed"
        fetcher._resolver._answers.clear()
        refused = await fetcher.fetch(url)
        assert (refused.error, refused.body) == ("private-address", None)
        assert forbidden.requests == []

    run_with_lookup(rebinding, body)


def test_of_several_addresses_only_the_allowed_are_tried() -> None:
    async def body(fetcher: Fetcher, allowed: ScriptedServer, forbidden: ScriptedServer) -> None:
        result = await fetcher.fetch(f"http://mixed.test:{allowed.port}/")
        assert result.body == b"allowed"
        assert forbidden.requests == []

    run_with_lookup(lambda host: ["127.0.0.2", "::1", "127.0.0.1"], body)


def test_a_failing_lookup_is_a_connection_error() -> None:
    def failing(host: str) -> list[str]:
        raise UnicodeError("label too long")

    async def body(fetcher: Fetcher, allowed: ScriptedServer, forbidden: ScriptedServer) -> None:
        result = await fetcher.fetch("http://nowhere.test/")
        assert (result.error, result.transient) == ("connection", True)

    run_with_lookup(failing, body)
    assert system_lookup("127.0.0.1") == ["127.0.0.1"]


def test_a_lookup_that_hangs_ends_at_the_deadline() -> None:
    over = threading.Event()

    def hanging(host: str) -> list[str]:
        over.wait(60)
        return []

    async def body(fetcher: Fetcher, allowed: ScriptedServer, forbidden: ScriptedServer) -> None:
        fetcher._settings = fetcher._settings.model_copy(update={"timeout_seconds": 0.2})
        result = await fetcher.fetch("http://nowhere.test/")
        over.set()
        assert (result.error, result.attempts) == ("timeout", 1)

    run_with_lookup(hanging, body)

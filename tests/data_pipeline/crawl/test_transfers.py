"""Transfers side by side on one loop."""

import asyncio

import pycurl
import pytest

from data_pipeline.crawl.transfers import Transfers
from tests.data_pipeline.crawl.scripted_server import Script, ScriptedServer, answer, raw

SCRIPTS: dict[str, Script] = {"/well": answer(200, b"hello"), "/never": raw(b"", pause=60)}


def handle(server: ScriptedServer, path: str, pieces: list[bytes]) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"http://127.0.0.1:{server.port}{path}")
    curl.setopt(pycurl.WRITEFUNCTION, pieces.append)
    curl.setopt(pycurl.TIMEOUT_MS, 20_000)
    return curl


def test_one_that_is_cut_off_leaves_the_others_alone() -> None:
    async def main() -> None:
        async with ScriptedServer(SCRIPTS) as server:
            transfers, pieces = Transfers(8), list[bytes]()
            hanging = handle(server, "/never", pieces)
            task = asyncio.create_task(transfers.perform(hanging))
            assert await transfers.perform(handle(server, "/well", pieces)) is None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hanging.close()
            assert await transfers.perform(handle(server, "/well", pieces)) is None
            transfers.close()
            assert pieces == [b"hello"] * 2

    asyncio.run(main())


def test_a_handle_serves_again_after_its_time_was_up() -> None:
    async def main() -> None:
        async with ScriptedServer(SCRIPTS) as server:
            transfers, pieces = Transfers(8), list[bytes]()
            curl = handle(server, "/never", pieces)
            curl.setopt(pycurl.TIMEOUT_MS, 50)
            error = await transfers.perform(curl)
            assert error is not None
            assert error.args[0] == pycurl.E_OPERATION_TIMEDOUT
            curl.setopt(pycurl.URL, f"http://127.0.0.1:{server.port}/well")
            curl.setopt(pycurl.TIMEOUT_MS, 20_000)
            assert await transfers.perform(curl) is None
            transfers.close()
            assert pieces == [b"hello"]

    asyncio.run(main())


def test_those_who_wait_are_cancelled_at_the_end() -> None:
    async def main() -> None:
        async with ScriptedServer(SCRIPTS) as server:
            transfers = Transfers(8)
            task = asyncio.create_task(transfers.perform(handle(server, "/never", [])))
            await asyncio.sleep(0)
            transfers.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())

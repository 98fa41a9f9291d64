"""One machine's gateways use a PostgreSQL database, as the apps' files are there."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moorage.errors import AlreadyRunning
from moorage.gateway.data_directory import open_data_directory
from moorage.gateway.leadership import open_lease
from moorage.settings import load_settings
from moorage.storage.migrate import migrate
from moorage.storage.opening import Purpose
from moorage.storage.several.leases import LeaderLease
from support.books.postgres_fixture import PostgresServer
from support.gateway.clock import MovableClock

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


async def opened(stack: AsyncExitStack, data_dir: Path, url: str, *, name: str = "") -> LeaderLease:
    """The lease of a gateway: of another machine if the directory is another."""
    await asyncio.to_thread(open_data_directory, data_dir, Purpose.SERVE, url)
    settings = load_settings(
        file=None, environ={}, data_dir=str(data_dir), database_url=url, gateway_name=name
    )
    await asyncio.to_thread(migrate, settings.database)
    return await open_lease(stack, settings, MovableClock())


@pytest.mark.parametrize("name", ["", "three"])
async def test_gateway_of_a_second_machine_does_not_start(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sleep, here = asyncio.sleep, asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        first = await opened(stack, tmp_path / "first", url, name="one")
        assert await first.take()
        assert not await (await opened(stack, tmp_path / "first", url, name="two")).take()

        async def wait(seconds: float) -> None:
            """The first has its lease again while the second waits; waiting takes no time.

            In this loop alone: a chain that mines in a thread of its own sleeps as before.
            """
            if asyncio.get_running_loop() is here:
                await first.give_back()
                assert await first.take()
                seconds = 0
            await sleep(seconds)

        monkeypatch.setattr(asyncio, "sleep", wait)
        with pytest.raises(AlreadyRunning, match="another machine"):
            await opened(stack, tmp_path / "second", url, name=name)
    await sleep(0)  # a closed connection's transport is done in the loop's next turn

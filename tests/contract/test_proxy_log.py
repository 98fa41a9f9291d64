"""The proxy's own access log, read while it is written."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from harbour import App, Harbour, get, running_proxies

from moorage.address import Address
from moorage.records.usage import Position
from moorage.routing.access_log import AccessLog
from moorage.routing.haproxy import ACCESS_LOGS
from moorage.routing.probe import probe
from support.gateway.waiting import until

HOST = "my-app.localhost"
TOKEN = "0123456789abcdef" * 2
LONG = "x" * 30_000
TURNS, AT_ONCE = 4, 50


@pytest.fixture
def address(directory: Path) -> Address:
    """One: to what is shown here it makes no difference."""
    return Address.unix(directory / "one.sock")


class Reader:
    """Follows the log, and keeps count."""

    def __init__(self, harbour: Harbour) -> None:
        self.log = AccessLog(harbour.settings.state_dir / ACCESS_LOGS, probe_token=TOKEN)
        self.position: Position | None = None
        self.requests: Counter[str] = Counter()
        self.bytes_in = 0

    def follow(self) -> None:
        while (batch := self.log.read(self.position)) is not None:
            self.position = batch.position
            for (host, _), traffic in batch.traffic.items():
                self.requests[host] += traffic.requests
                self.bytes_in += traffic.bytes_in

    def has(self, requests: int) -> bool:
        self.follow()
        return self.requests.total() >= requests


async def test_no_request_is_lost_or_doubled_when_the_proxy_is_killed_and_started_again(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    reader = Reader(harbour)
    for turn in range(1, TURNS + 1):
        asked = (get(client, harbour, HOST) for _ in range(AT_ONCE))
        assert await asyncio.gather(*asked) == [(200, "one")] * AT_ONCE
        # A client may have its answer before the proxy has written the line.
        await until(lambda: reader.has(turn * AT_ONCE))  # noqa: B023
        (pid,) = running_proxies(harbour.settings)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not harbour.proxy.alive())
        await harbour.proxy.start()
    assert reader.requests == {HOST: TURNS * AT_ONCE}
    assert len(list((harbour.settings.state_dir / ACCESS_LOGS).iterdir())) <= 2


async def test_lines_are_short_whatever_a_visitor_sends(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    (log,) = (harbour.settings.state_dir / ACCESS_LOGS).iterdir()
    await get(client, harbour, HOST, f"/{LONG}?{LONG[:100]}", **{"X-Moorage-Probe": LONG[:5_000]})
    async with client.request(LONG[:5_000], harbour.url(), headers={"Host": HOST}):
        pass
    await until(lambda: log.read_text().count("\n") >= 2)
    assert max(len(line) for line in log.read_text().splitlines()) < 200


async def test_only_what_visitors_asked_of_an_app_is_counted(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    reader = Reader(harbour)
    await probe(harbour.port, HOST, timeout_seconds=60, token=TOKEN)
    assert all("X-Moorage-Probe" not in request.headers for request in app.requests)
    await get(client, harbour, "nobody.localhost")
    async with client.post(
        harbour.url("/digest"), data=b"12345", headers={"Host": f"{HOST}:81"}
    ) as response:
        assert response.status == 200
    await until(lambda: reader.has(1))
    assert reader.requests == {HOST: 1}
    assert 100 < reader.bytes_in < 1_000  # with the head

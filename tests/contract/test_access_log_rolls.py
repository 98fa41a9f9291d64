"""The proxy's own access log, read while it is written and rolled."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from harbour import App, Harbour, get

from moorage.address import Address
from moorage.gateway.platform.opening import find_tool
from moorage.records.traffic import Position
from moorage.routing.access_log import AccessLog
from moorage.routing.caddy import Caddy
from moorage.routing.caddy_config import ACCESS_LOG
from moorage.routing.probe import probe
from waiting import until

HOST = "my-app.localhost"
TOKEN = "of-this-gateway"
LONG = "x" * 30_000
REQUESTS = 7_000  # with the longest probe some 170 bytes each, of which a file of 1 MiB is full
AT_ONCE = 50


@pytest.fixture
def address(directory: Path) -> Address:
    """One: to what is shown here it makes no difference."""
    return Address.unix(directory / "one.sock")


class Reader:
    """Follows the log, and keeps count."""

    def __init__(self, harbour: Harbour) -> None:
        self.log = AccessLog(harbour.settings.state_dir / ACCESS_LOG, probe_token=TOKEN)
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


async def test_no_request_is_lost_or_doubled_while_the_log_rolls(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    await harbour.caddy.stop()
    caddy = Caddy(find_tool("caddy"), replace(harbour.settings, log_file_mib=1))
    await caddy.start()
    reader, longest = Reader(harbour), {"X-Moorage-Probe": LONG[:64]}
    for number in range(REQUESTS // AT_ONCE):
        await asyncio.gather(*(get(client, harbour, HOST, **longest) for _ in range(AT_ONCE)))
        if number % 10 == 5:
            reader.follow()
    await until(lambda: reader.has(REQUESTS))
    await caddy.stop()
    rolled = list(harbour.settings.state_dir.glob("access-*.log"))
    assert len(rolled) == 1
    assert reader.requests == {HOST: REQUESTS}
    again = Reader(harbour)
    again.follow()
    assert again.requests == reader.requests


async def test_lines_are_short_whatever_a_visitor_sends(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    log = harbour.settings.state_dir / ACCESS_LOG
    await get(client, harbour, HOST, f"/{LONG}?{LONG[:100]}", **{"X-Moorage-Probe": LONG[:5_000]})
    await get(client, harbour, f"{LONG[:5_000]}.localhost")
    async with client.request(LONG[:5_000], harbour.url(), headers={"Host": HOST}):
        pass
    await until(lambda: log.exists() and log.read_text().count("\n") >= 3)
    lines = log.read_text().splitlines()
    assert max(len(line) for line in lines) < 300
    assert LONG[:64] in {json.loads(line).get("probe") for line in lines}


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
    assert reader.bytes_in == 5

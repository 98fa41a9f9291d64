"""The proxy's own access log, read while it is written and rolled."""

from collections import Counter

import aiohttp
from test_routing import App, Harbour, app, client, directory, get, harbour, lone_harbour

from moorage.deploy.traffic import Position
from moorage.routing.access_log import AccessLog
from moorage.routing.caddy_config import ACCESS_LOG
from moorage.routing.probe import probe
from waiting import until

__all__ = ["app", "client", "directory", "harbour", "lone_harbour"]

HOST = "my-app.localhost"
TOKEN = "of-this-gateway"
LONG = "x" * 60_000  # 20 MB of log are some 350 requests
REQUESTS = 450


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
    reader = Reader(harbour)
    for number in range(REQUESTS):
        await get(client, harbour, HOST, f"/{LONG}")
        if number % 100 == 50:
            reader.follow()
    await until(lambda: reader.has(REQUESTS))
    rolled = list(harbour.settings.state_dir.glob("access-*.log"))
    assert len(rolled) == 1
    assert reader.requests == {HOST: REQUESTS}
    again = Reader(harbour)
    again.follow()
    assert again.requests == reader.requests


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

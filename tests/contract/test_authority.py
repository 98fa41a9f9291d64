"""The certificate authority is asked before anybody pays, and its answer is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from moorage.certificates.availability import Availability
from moorage.errors import ProxyFailed
from moorage.operate.check.configuration import check_authority
from moorage.settings import Settings, load_settings
from support.gateway.clock import MINUTE_MS, MovableClock

FIVE_MINUTES_MS = 5 * MINUTE_MS
DIRECTORY = {"newNonce": "n", "newAccount": "a", "newOrder": "o"}


def settings(**given: Any) -> Settings:
    return load_settings(file=None, environ={}, tls=True, **given)


class Server:
    """An authority whose answer a test changes."""

    def __init__(self) -> None:
        self.answer: object = DIRECTORY
        self.asked = 0
        self.url = ""

    async def _serve(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.answer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/directory", self._serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/directory"
        try:
            yield
        finally:
            await runner.cleanup()


async def test_readiness_follows_the_authority_and_the_log_tells_of_it_once() -> None:
    server = Server()
    async with server.running():
        clock = MovableClock()
        authority = Availability([server.url], root_file="", clock=clock)
        with capture_logs() as logs:
            await authority.poll()
            await authority.check()
            server.answer = {"error": "moved"}
            for _ in range(2):
                clock.advance(FIVE_MINUTES_MS)
                await authority.poll()
        assert [line["event"] for line in logs] == ["no certificates can be had"]
        with pytest.raises(ProxyFailed, match="not as an authority does"):
            await authority.check()
        server.answer = DIRECTORY
        clock.advance(FIVE_MINUTES_MS)
        with capture_logs() as logs:
            assert await authority.poll()
        assert [line["event"] for line in logs] == ["certificates can be had again"]
        await authority.check()
    clock.advance(FIVE_MINUTES_MS)
    assert not await authority.poll()
    with pytest.raises(ProxyFailed, match="cannot be asked"):
        await authority.check()


async def test_authority_that_is_away_is_asked_soon_and_then_less_often() -> None:
    server, clock = Server(), MovableClock()
    async with server.running():
        authority = Availability([server.url], root_file="", clock=clock)
        server.answer = {}
        asked = []
        for second in range(0, 700, 10):
            before = server.asked
            assert not await authority.poll()
            asked += [second] if server.asked > before else []
            clock.advance(10_000)
    assert asked == [0, 10, 30, 70, 150, 310, 610]


async def test_check_names_an_authority_that_does_not_answer() -> None:
    server = Server()
    async with server.running():
        (good,) = await check_authority(settings(acme_directories=(server.url,)))
        assert good.ok
    (bad,) = await check_authority(settings(acme_directories=(server.url,)))
    assert (bad.ok, bad.blocks) == (False, False)
    assert bad.remedy


async def test_nobody_is_asked_where_no_certificate_is_needed() -> None:
    for given in (
        {"acme_directories": ("internal",)},
        {"wildcard_certificate": ("/a.pem", "/a.key")},
        {"tls": False},
    ):
        without = load_settings(file=None, environ={}, **{"tls": True, **given})
        assert not without.asks_elsewhere
        assert await check_authority(without) == []


async def test_one_of_two_authorities_is_enough() -> None:
    server = Server()
    async with server.running():
        away = "http://127.0.0.1:1/directory"
        for directories in ([away, server.url], [server.url, away]):
            authority = Availability(directories, root_file="", clock=MovableClock())
            await authority.poll()
            await authority.check()
    authority = Availability([away, server.url], root_file="", clock=MovableClock())
    await authority.poll()
    with pytest.raises(ProxyFailed, match=r"cannot be asked.*cannot be asked"):
        await authority.check()


def test_authorities_are_asked_in_the_order_of_the_settings() -> None:
    lets_encrypt = "https://acme-v02.api.letsencrypt.org/directory"
    assert settings().acme_directories == (lets_encrypt,)
    both = (lets_encrypt, "https://ca.example/dir")
    assert settings(acme_directories=both).acme_directories == both


def test_gateway_trusts_its_own_authority_or_the_one_that_is_named() -> None:
    own = settings(acme_directories=("internal",), data_dir="/data")
    assert own.roots == (Path("/data/certificates/root.pem"),)
    named = settings(acme_root_file="/etc/root.pem")
    assert named.roots == (Path("/etc/root.pem"),)
    assert settings().roots == ()

"""The certificate authority is asked before anybody pays, and its answer is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from moorage.routing.caddy_config import Tls, caddy_config
from structlog.testing import capture_logs

from clock import MINUTE_MS, MovableClock
from moorage.errors import ProxyFailed
from moorage.gateway.platform.authority import Authority, needs_authority, own_roots
from moorage.gateway.platform.proxy import proxy_settings
from moorage.operate.check.authority import check_authority
from moorage.settings import Settings, load_settings

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
        authority = Authority(settings(acme_directory=server.url), clock=clock)
        with capture_logs() as logs:
            await authority.look()
            await authority.check()
            server.answer = {"error": "moved"}
            for _ in range(2):
                clock.advance(FIVE_MINUTES_MS)
                await authority.look()
        assert [line["event"] for line in logs] == ["no certificates can be had"]
        with pytest.raises(ProxyFailed, match="not as an authority does"):
            await authority.check()
        server.answer = DIRECTORY
        clock.advance(FIVE_MINUTES_MS)
        with capture_logs() as logs:
            assert await authority.look()
        assert [line["event"] for line in logs] == ["certificates can be had again"]
        await authority.check()
    clock.advance(FIVE_MINUTES_MS)
    assert not await authority.look()
    with pytest.raises(ProxyFailed, match="cannot be asked"):
        await authority.check()


async def test_authority_that_is_away_is_asked_soon_and_then_less_often() -> None:
    server, clock = Server(), MovableClock()
    async with server.running():
        authority = Authority(settings(acme_directory=server.url), clock=clock)
        server.answer = {}
        asked = []
        for second in range(0, 700, 10):
            before = server.asked
            assert not await authority.look()
            asked += [second] if server.asked > before else []
            clock.advance(10_000)
    assert asked == [0, 10, 30, 70, 150, 310, 610]


async def test_check_names_an_authority_that_does_not_answer() -> None:
    server = Server()
    async with server.running():
        (good,) = await check_authority(settings(acme_directory=server.url))
        assert good.ok
    (bad,) = await check_authority(settings(acme_directory=server.url))
    assert (bad.ok, bad.blocks) == (False, False)
    assert bad.remedy


async def test_nobody_is_asked_where_no_certificate_is_needed() -> None:
    for given in (
        {"internal_authority": True},
        {"wildcard_certificate": ("/a.pem", "/a.key")},
        {"tls": False},
    ):
        without = load_settings(file=None, environ={}, **{"tls": True, **given})
        assert not needs_authority(without)
        assert await check_authority(without) == []


def test_settings_of_tls_reach_the_proxy() -> None:
    given = settings(
        acme_directory="https://ca.example/dir",
        acme_email="a@b.example",
        acme_root_file="/etc/root.pem",
        public_url="https://gateway.example",
    )
    made = proxy_settings(given, Path("/state"), Path("/run"), given.public_url)
    assert made.tls == Tls(
        ask_url="http://127.0.0.1:8403/certificate",
        email="a@b.example",
        acme_directory="https://ca.example/dir",
        acme_root=Path("/etc/root.pem"),
    )
    policies = caddy_config(made)["apps"]["tls"]["automation"]["policies"]
    assert policies[0]["issuers"] == [
        {
            "module": "acme",
            "email": "a@b.example",
            "ca": "https://ca.example/dir",
            "trusted_roots_pem_files": ["/etc/root.pem"],
        }
    ]
    assert own_roots(given) == (Path("/etc/root.pem"),)


def test_internal_authority_signs_and_is_trusted_by_the_gateway_itself() -> None:
    given = settings(internal_authority=True, data_dir="/data", acme_email="a@b.example")
    made = proxy_settings(given, Path("/state"), Path("/run"), "http://127.0.0.1:8402")
    policies = caddy_config(made)["apps"]["tls"]["automation"]["policies"]
    assert policies[0]["issuers"] == [{"module": "internal"}]
    root = "proxy/certificates/pki/authorities/local/root.crt"
    assert own_roots(given) == (Path("/data") / root,)


def test_internal_authority_lies_with_the_certificates_that_proxies_share() -> None:
    given = settings(internal_authority=True, data_dir="/data", certificates_dir="/shared")
    assert own_roots(given) == (Path("/shared/pki/authorities/local/root.crt"),)

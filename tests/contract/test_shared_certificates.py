"""Proxies of several machines share certificates by a directory: one obtains, all have it."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from moorage.gateway.platform.opening import find_tool
from moorage.routing.caddy import Caddy
from moorage.routing.caddy_config import ProxySettings, Tls
from ports import quiet_port
from waiting import until_read

HOST = "my-app.localhost"


@pytest_asyncio.fixture
async def ask_url() -> AsyncIterator[str]:
    async def permit(_: web.Request) -> web.Response:
        return web.Response()

    asked = web.Application()
    asked.router.add_get("/ask", permit)
    runner = web.AppRunner(asked)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"{site.name}/ask"
    await runner.cleanup()


async def certificate_at(port: int) -> str:
    """The SHA-256 of what a proxy presents for the host; "" while it has none."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # they are compared only
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust, server_hostname=HOST
        )
    except OSError:
        return ""
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return hashlib.sha256(found).hexdigest()


async def test_two_proxies_present_the_same_certificate(tmp_path: Path, ask_url: str) -> None:
    proxies = []
    for name in ("one", "two"):
        tls = Tls(ask_url=ask_url, https_port=quiet_port(), internal=True)
        settings = ProxySettings(
            run_dir=tmp_path / name / "run",
            state_dir=tmp_path / name / "proxy",
            base_domain="localhost",
            http_port=0,
            tls=tls,
            certificates=tmp_path / "certificates",
        )
        proxies.append((Caddy(find_tool("caddy"), settings), tls.https_port))
    try:
        seen = []
        for caddy, port in proxies:
            await caddy.start()
            seen.append(await until_read(partial(certificate_at, port), bool))
    finally:
        for caddy, _ in proxies:
            await caddy.stop()
    assert seen[0] == seen[1]
    assert not (tmp_path / "one/proxy/certificates").exists()

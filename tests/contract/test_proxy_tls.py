"""Certificates in a running proxy: given, renewed, taken away, and still there after a start."""

import hashlib
import os
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from harbour import DEADLINE_SECONDS, App, Harbour, running, running_proxies

from moorage.address import Address
from moorage.errors import ProxyFailed
from moorage.gateway.platform import find_tool
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import ProxySettings
from moorage.routing.probe import Answer, probe
from moorage.routing.router import Router
from support.gateway.ports import quiet_port
from support.gateway.self_signed import self_signed
from support.gateway.waiting import until

HOST, OTHER = "my-app.apps.localhost", "other.apps.localhost"


class Secure:
    """A proxy with TLS, and an app at two hosts."""

    def __init__(self, proxy: HAProxy, settings: ProxySettings, port: int, app: App) -> None:
        self.settings = settings
        self.proxy = proxy
        self.port = port
        self.app = app

    async def asked(self, host: str, root: str) -> Answer:
        """Who answers over HTTPS, if `root` is trusted."""
        trust = ssl.create_default_context(cadata=root)
        seen = await probe(self.port, host, timeout_seconds=DEADLINE_SECONDS, tls=trust)
        return seen.answer

    async def asked_plainly(self, host: str) -> tuple[int, str]:
        """Status and location over plain HTTP."""
        async with (
            aiohttp.ClientSession() as client,
            client.get(
                f"http://127.0.0.1:{self.proxy.port}/a?b",
                headers={"Host": host},
                allow_redirects=False,
            ) as response,
        ):
            return response.status, response.headers.get("Location", "")


@pytest_asyncio.fixture
async def secure(directory: Path, harbour: Harbour) -> AsyncIterator[Secure]:
    port = quiet_port()
    settings = replace(
        harbour.settings,
        run_dir=directory / "secure",
        state_dir=directory / "secure-state",
        base_domain="apps.localhost",
        http_port=quiet_port(),
        https_port=port,
    )
    proxy = HAProxy(find_tool("haproxy"), settings)
    await proxy.start()
    router = Router(settings.run_dir, "apps.localhost")
    try:
        async with running("one", Address.unix(directory / "one.sock")) as app:
            for host in (HOST, OTHER):
                await router.point(host, app.address)
            yield Secure(proxy, settings, port, app)
    finally:
        await proxy.stop()


async def test_host_is_served_over_https_from_its_certificate_on_and_plainly_before(
    secure: Secure,
) -> None:
    pem, root = self_signed(HOST)
    assert await secure.asked(HOST, root) is Answer.UNREACHABLE
    assert await secure.asked_plainly(HOST) == (200, "")
    await secure.proxy.certificates.install(HOST, pem)
    assert secure.proxy.certificates.installed() == {HOST: hashlib.sha256(pem).hexdigest()}
    assert await secure.asked(HOST, root) is Answer.APP
    assert secure.app.requests[-1].headers["X-Forwarded-Proto"] == "https"
    location = f"https://{HOST}:{secure.port}/a?b"
    assert await secure.asked_plainly(HOST) == (308, location)
    assert await secure.asked_plainly(OTHER) == (200, "")
    assert await secure.asked(OTHER, root) is Answer.UNREACHABLE
    await secure.proxy.certificates.remove(HOST)
    assert await secure.asked(HOST, root) is Answer.UNREACHABLE
    assert await secure.asked_plainly(HOST) == (200, "")


async def test_renewed_certificate_takes_the_place_of_the_earlier_one(secure: Secure) -> None:
    (first, old_root), (second, root) = self_signed(HOST), self_signed(HOST)
    await secure.proxy.certificates.install(HOST, first)
    assert await secure.asked(HOST, old_root) is Answer.APP
    await secure.proxy.certificates.install(HOST, second)
    assert await secure.asked(HOST, root) is Answer.APP
    assert await secure.asked(HOST, old_root) is Answer.UNREACHABLE


async def test_wildcard_serves_the_names_below_it_and_no_deeper_ones(secure: Secure) -> None:
    pem, root = self_signed("*.apps.localhost")
    await secure.proxy.certificates.install("*.apps.localhost", pem)
    assert await secure.asked(HOST, root) is Answer.APP
    assert (await secure.asked_plainly(OTHER))[0] == 308
    assert (await secure.asked_plainly("deep.my-app.apps.localhost"))[0] == 503  # no redirect


async def test_certificates_are_there_again_when_the_proxy_was_killed(secure: Secure) -> None:
    pem, root = self_signed(HOST)
    await secure.proxy.certificates.install(HOST, pem)
    (pid,) = running_proxies(secure.settings)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not secure.proxy.alive())
    await secure.proxy.start()
    assert await secure.asked(HOST, root) is Answer.APP
    assert (await secure.asked_plainly(HOST))[0] == 308


async def test_what_is_no_certificate_is_refused_and_changes_nothing(secure: Secure) -> None:
    pem, root = self_signed(HOST)
    await secure.proxy.certificates.install(HOST, pem)
    with pytest.raises(ProxyFailed, match="does not take the certificate"):
        await secure.proxy.certificates.install(HOST, b"-----BEGIN NOTHING-----\n")
    with pytest.raises(ProxyFailed, match="does not take the certificate"):
        await secure.proxy.certificates.install(OTHER, pem.partition(b"-----BEGIN PRIV")[0])
    assert list(secure.proxy.certificates.installed()) == [HOST]
    assert await secure.asked(HOST, root) is Answer.APP
    assert await secure.asked_plainly(OTHER) == (200, "")

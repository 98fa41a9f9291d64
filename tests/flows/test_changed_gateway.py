"""An operator changes settings, at a start and while it serves: what was given out goes on."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.chains.chain_fixture import LocalChains
from support.clients.visitor import fetch
from support.clients.wallet import HELLO, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.served import ServedGateway, served
from support.gateway.waiting import until, until_read


@pytest.fixture
async def gateway(tmp_path: Path, local_chains: LocalChains) -> AsyncIterator[ServedGateway]:
    with served(tmp_path / "served", local_chains) as started:
        yield started


async def guide(gateway: ServedGateway) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/llms.txt") as response,
    ):
        return await response.text()


async def test_settings_change_while_it_serves_and_a_file_with_a_mistake_changes_nothing(
    gateway: ServedGateway,
) -> None:
    wallet, pid = await Wallet(gateway).fund(), gateway.pid
    open_402 = await wallet.deploy(fresh_name())
    assert (open_402.status, "terms" in open_402.body) == (402, False)

    terms = "https://example.com/terms"
    changes = {"terms_url": terms, "contact": "ann@example.com", "retention_days": 99}
    await gateway.reload(**changes, requests_per_minute=77, app_memory_mib=1024)
    told = await wallet.deploy(fresh_name())
    assert (told.body["terms"], told.body["contact"]) == (terms, "ann@example.com")
    for words in (terms, "99 days", "77"):
        assert words in await guide(gateway)
    assert "app_memory_mib" in gateway.log  # it waits for a restart
    _, history = await gateway.command("operator", "config", "history")
    recorded = {change["setting"]: change["after"] for change in history["changes"]}
    assert recorded["retention_days"] == "99"
    assert "app_memory_mib" not in recorded

    gateway.write(listed_wallets_only=True, projects_per_wallet="many")
    os.kill(gateway.pid, signal.SIGHUP)
    await until(lambda: "settings are not read again" in gateway.log)
    assert (await wallet.deploy(fresh_name())).status == 402

    await gateway.reload(projects_per_wallet=None)
    refused = await wallet.deploy(fresh_name())
    assert (refused.status, refused.body["code"]) == (403, "wallet_not_listed")
    for path, body in (("/deploy", deploy_body(fresh_name(), HELLO)), ("/credits", None)):
        alone = await call(gateway, "POST", path, json=body)
        assert (alone.status, alone.body["code"]) == (403, "wallet_not_listed"), path
    assert gateway.pid == pid


pytestmark = pytest.mark.root

NEW = "apps.localhost"


async def moorage(gateway: DevGateway, *arguments: str) -> Any:
    """The document of an operator's command."""
    code, document = await gateway.command(*arguments)
    assert code == 0, document
    return document


async def answered_at(gateway: DevGateway, host: str) -> int:
    return (await fetch(gateway, "", headers={"Host": host})).status


async def serves(gateway: DevGateway, host: str) -> None:
    await until_read(lambda: answered_at(gateway, host), lambda status: status == 200)


async def test_apps_keep_their_addresses_below_a_former_domain_until_it_is_retired(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "data", requests_per_minute="100000") as gateway:
        wallet, name = await Wallet(gateway).fund(), fresh_name()
        deployed = await wallet.deploy_paid(name, {"index.html": "hello"})
        assert (await wallet.settled(deployed))["status"] == "ready"
        old, new = f"{name}.localhost", f"{name}.{NEW}"
        assert (await answered_at(gateway, old), await answered_at(gateway, new)) == (200, 404)

        gateway.stop()
        gateway.start(base_domain=NEW)
        for host in (old, new):
            await serves(gateway, host)
        status = await wallet.status(deployed)
        assert status.body["endpoint"].startswith(f"http://{new}")
        (change,) = (await moorage(gateway, "operator", "config", "history"))["changes"]
        assert [change[key] for key in ("setting", "before", "after")] == [
            *("base_domain", '"localhost"', f'"{NEW}"'),
        ]

        await moorage(
            gateway, "operator", "base-domain", "retire", "localhost", "--reason", "moved"
        )
        (act,) = (await moorage(gateway, "operator", "acts"))["acts"]
        assert (act["act"], act["subject"], act["reason"]) == (
            *("base-domain retire", "localhost", "moved"),
        )
        gateway.stop()
        gateway.start(base_domain=NEW)
        await serves(gateway, new)
        assert await answered_at(gateway, old) == 404

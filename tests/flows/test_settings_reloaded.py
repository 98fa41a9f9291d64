"""SIGHUP: what can change without a restart does, at once, all of it or nothing."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.chains.chain_fixture import LocalChains
from support.clients.wallet import HELLO, Wallet, call, deploy_body, fresh_name
from support.gateway.served import ServedGateway, served
from support.gateway.waiting import until

pytestmark = pytest.mark.root


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

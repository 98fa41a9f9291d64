"""An operator changes what a gateway was started with: addresses that were given out go on."""

from pathlib import Path
from typing import Any

import pytest

from support.clients.visitor import fetch
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until_read

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

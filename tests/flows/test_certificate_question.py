"""What the proxy is told when it asks whether a host may have a certificate."""

import aiohttp
import pytest

from gateway_fixture import DevGateway
from wallet import Wallet, fresh_name

pytestmark = pytest.mark.root


async def certificate(gateway: DevGateway, name: str) -> int:
    url = f"{gateway.info['operator']}/certificate"
    host = f"{name}.{gateway.info['base_domain']}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, params={"domain": host}) as response,
    ):
        return response.status


async def test_project_whose_deploys_all_failed_has_no_certificate(
    dev_gateway: DevGateway,
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    failing, serving = fresh_name(), fresh_name()
    ends = {"index.js": "process.exit(1)"}
    first = await wallet.deploy_paid(failing, ends)
    assert (await wallet.settled(first))["status"] == "failed"
    assert await certificate(dev_gateway, failing) == 404
    again = await wallet.deploy(failing, ends | {"again.txt": ""})
    assert (await wallet.settled(again))["status"] == "failed"
    assert await certificate(dev_gateway, failing) == 404
    deployed = await wallet.deploy(serving)
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await certificate(dev_gateway, serving) == 200
    assert await certificate(dev_gateway, serving.upper()) == 200
    assert await certificate(dev_gateway, fresh_name()) == 404

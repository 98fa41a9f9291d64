"""A domain of the deployer's own, from its claim to a visitor, over real DNS and proxy."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway_fixture import DevGateway, running
from name_server import NameServer, name_server
from visitor import address
from wallet import HELLO, Wallet, fresh_name

pytestmark = pytest.mark.root

SHOP = "shop.example"


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        yield server


@pytest.fixture
async def gateway(names: NameServer, tmp_path: Path) -> AsyncIterator[DevGateway]:
    settings = {"dns_servers": names.address, "requests_per_minute": "100000"}
    with running(tmp_path / "data", **settings) as made:
        yield made


async def visit(gateway: DevGateway, host: str) -> tuple[int, str]:
    headers = {"Host": host}
    async with (
        aiohttp.ClientSession() as session,
        session.get(address(gateway), headers=headers) as response,
    ):
        return response.status, await response.text()


async def test_domain_that_is_proved_serves_until_its_project_is_gone(
    gateway: DevGateway, names: NameServer
) -> None:
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    deployed = await wallet.deploy_paid(name)
    assert (await wallet.settled(deployed))["status"] == "ready"
    path = f"/agent/projects/{deployed.body['projectId']}/domains"

    claimed = await wallet.call("POST", path, json={"domain": "Shop.Example"})
    assert (claimed.status, claimed.body["status"]) == (200, "pending")
    record, alias = claimed.body["records"]
    assert record["name"] == "_moorage.shop.example"
    assert record["value"].startswith("moorage-verification=")
    assert alias == {
        "type": "CNAME",
        "name": SHOP,
        "value": f"{name}.{gateway.info['base_domain']}",
    }
    looked = await wallet.call("POST", f"{path}/{SHOP}/verify")
    assert (looked.status, looked.body["status"]) == (200, "pending")
    assert (await visit(gateway, SHOP))[0] == 404

    names.texts[record["name"]] = [record["value"]]
    found = await wallet.call("POST", f"{path}/{SHOP}/verify")
    assert (found.status, found.body["status"], found.body["problem"]) == (200, "verified", "")
    assert await visit(gateway, SHOP) == (200, "hello world")

    gateway.kill()
    gateway.start()
    assert await visit(gateway, SHOP) == (200, "hello world")
    listed = await wallet.call("GET", path)
    assert [item["status"] for item in listed.body["domains"]] == ["verified"]

    again = await wallet.deploy(name, HELLO | {"extra.txt": "a new version"})
    assert (await wallet.settled(again))["status"] == "ready"
    assert await visit(gateway, SHOP) == (200, "hello world")

    await wallet.call("DELETE", f"/agent/projects/{deployed.body['projectId']}")
    status, page = await visit(gateway, SHOP)
    assert (status, "app_not_found" in page) == (404, True)
    told = await wallet.call("GET", "/agent/events")
    kinds = [event["type"] for event in told.body["events"]]
    assert "domain.verified" in kinds
    assert "domain.lost" not in kinds


@pytest.mark.parametrize(
    "domain", ["127.0.0.1", "localhost", "*.example.com", "x.localhost", 5, "a" * 92 + ".example"]
)
async def test_what_is_no_domain_of_anybodys_is_refused(
    dev_gateway: DevGateway, domain: object
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    deployed = await wallet.deploy_paid(fresh_name())
    path = f"/agent/projects/{deployed.body['projectId']}/domains"
    refused = await wallet.call("POST", path, json={"domain": domain})
    assert (refused.status, refused.body["code"]) == (400, "invalid_field")


async def test_domains_are_their_owners_business(dev_gateway: DevGateway) -> None:
    owner, other = await Wallet(dev_gateway).fund(), Wallet(dev_gateway)
    deployed = await owner.deploy_paid(fresh_name())
    path = f"/agent/projects/{deployed.body['projectId']}/domains"
    for method, below in [("GET", ""), ("POST", "/a.example/verify"), ("DELETE", "/a.example")]:
        assert (await other.call(method, path + below)).body["code"] == "wrong_wallet"
        assert (await owner.call(method, path + below)).body.get("code") in (
            None,
            "domain_not_found",
        )
    refused = await other.call("POST", path, json={"domain": "a.example"})
    assert refused.body["code"] == "wrong_wallet"

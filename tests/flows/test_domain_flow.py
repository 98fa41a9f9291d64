"""A domain of the deployer's own, from its claim to a visitor, over real DNS and proxy."""

import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.chains.chain_fixture import LocalChains
from support.clients.visitor import address
from support.clients.wallet import HELLO, Wallet, fresh_name
from support.engines.name_server import NameServer, name_server
from support.gateway.acme_authority import acme_authority
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.served import served
from support.gateway.waiting import until_read

pytestmark = pytest.mark.root

SHOP = "shop.example"
APART = f"127.87.{os.getpid() % 250}.30"  # where the ports of HTTP and HTTPS are free


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


async def test_app_and_domain_have_their_certificates_before_anybody_visits(
    names: NameServer, tmp_path: Path, local_chains: LocalChains
) -> None:
    """The deploy is ready once its certificate is there; the domain has one once it is proved."""
    authority, name = acme_authority(tmp_path / "authority"), fresh_name()
    app = f"{name}.localhost"
    with authority.running({app: APART, SHOP: APART}):
        await authority.until_ready()
        made = served(
            tmp_path / "gateway",
            local_chains,
            dns_servers=[names.address],
            tls=True,
            proxy_listen=f"{APART}:80",
            acme_directories=[authority.url],
            acme_root_file=str(authority.root_file),
        )
        with made as gateway:
            trust = ssl.create_default_context(cafile=str(authority.root_file))
            wallet = await Wallet(gateway).fund()
            deployed = await wallet.deploy_paid(name)
            status = await wallet.settled(deployed)
            assert (status["status"], "note" in status) == ("ready", False)
            assert await page(app, trust) == (200, "hello world")
            assert await redirected(app) == f"https://{app}/"

            path = f"/agent/projects/{deployed.body['projectId']}/domains"
            claimed = await wallet.call("POST", path, json={"domain": SHOP})
            record, _ = claimed.body["records"]
            names.texts[record["name"]] = [record["value"]]
            found = await wallet.call("POST", f"{path}/{SHOP}/verify")
            assert found.body["status"] == "verified"
            await until_read(lambda: redirected(SHOP), lambda where: where == f"https://{SHOP}/")
            assert await page(SHOP, trust) == (200, "hello world")
            with pytest.raises(aiohttp.ClientConnectorError):
                await page("www.shop.example", trust)


async def page(host: str, trust: ssl.SSLContext) -> tuple[int, str]:
    """What a visitor gets over HTTPS."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"https://{APART}/", headers={"Host": host}, server_hostname=host, ssl=trust
        ) as response,
    ):
        return response.status, await response.text()


async def redirected(host: str) -> str:
    """Where plain HTTP leads a visitor."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{APART}/", headers={"Host": host}, allow_redirects=False) as response,
    ):
        return response.headers.get("Location", "")

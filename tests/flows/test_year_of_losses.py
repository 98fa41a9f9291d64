"""A year in which all is lost once, the gateway at last.

The books are audited after each step. Beside it, `test_year` lives one of changes.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from moorage.certificates.availability import EVERY_SECONDS
from moorage.gateway.duplicate_gateway_check import ROOTS_LOCK_FILE
from support.chains.chain_fixture import LocalChains
from support.chains.rpc_proxy import RpcProxy
from support.clients.wallet import HELLO, Answer, Wallet, fresh_name
from support.engines.remains import of_gateway, processes_saying
from support.engines.small_disk import fill, small_disk
from support.gateway.acme_authority import acme_authority
from support.gateway.gateway_fixture import MOORAGE
from support.gateway.ports import quiet_port
from support.gateway.second_machine import SecondMachine, second_machine
from support.gateway.served import ServedGateway, ended
from support.gateway.waiting import until_read

pytestmark = [pytest.mark.root, pytest.mark.long]

DISK_MIB, RESERVE_MIB = 900, 100
APART = f"127.86.{os.getpid() % 250}.30"  # where the ports of HTTP and HTTPS are free


@pytest.fixture
async def node(local_chains: LocalChains) -> AsyncIterator[RpcProxy]:
    """The only node of the only chain."""
    async with RpcProxy(local_chains.base.rpc_urls[0]) as proxy:
        yield proxy


@pytest.fixture
def elsewhere() -> Iterator[SecondMachine]:
    with second_machine() as machine:
        yield machine


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, DISK_MIB) as mounted:
        yield mounted


@pytest.fixture
async def gateway(
    disk: Path, local_chains: LocalChains, node: RpcProxy, elsewhere: SecondMachine
) -> AsyncIterator[ServedGateway]:
    """Not started yet. Clients reach it where the other machine does."""
    made = ServedGateway(
        disk / "gateway",
        local_chains,
        app_disk_mib=64,
        disk_reserve_mib=RESERVE_MIB,
        disk_overcommit=100,
        operator_listen=f"127.0.0.1:{quiet_port()}",
    )
    _, _, port = made.written["listen"].rpartition(":")
    listen = f"{elsewhere.ours}:{port}"
    base = {"base": {"rpc_urls": [node.url]}}
    made.write(chains=base, offer_first=None, listen=listen, public_url=f"http://{listen}")
    with ended(made):
        yield made


async def put_back(backup: Path, data_dir: Path) -> None:
    command = [MOORAGE, "operator", "restore", str(backup), "--data-dir", str(data_dir)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


async def audited(gateway: ServedGateway) -> None:
    code, document = await gateway.command("operator", "audit")
    assert (code, document["report"]["findings"]) == (0, []), document


async def deployed(wallet: Wallet, name: str, files: dict[str, str] | None = None) -> None:
    """For credits; with a variable, which the gateway's key seals."""
    answer = await wallet.deploy(
        name,
        files,
        headers={"X-Use-Existing-Credits": "true"},
        settings={"runEnvs": {"GREETING": "again"}},
    )
    assert answer.status == 200, answer.body
    status = await wallet.settled(answer)
    assert status["status"] == "ready", status


async def paid(wallet: Wallet, amount: int) -> None:
    """More is credited by so much, less what apps burn meanwhile."""
    before = await balance(wallet)
    await wallet.pay(amount, chain="base")
    await until_read(lambda: balance(wallet), lambda now: now > before + amount / 1e6 - 0.01)


async def balance(wallet: Wallet) -> float:
    answer = await wallet.call("GET", "/agent/credits")
    assert answer.status == 200, answer.body
    return float(answer.body["balance_usd"])


async def states(gateway: ServedGateway) -> dict[str, str]:
    """What `/ready` says of each part."""
    url = f"{gateway.info['operator']}/ready"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return dict((await response.json())["parts"])


async def visited(wallet: Wallet, name: str, page: str = "hello again") -> None:
    await until_read(lambda: wallet.visit(name), lambda answer: answer == (200, page))


async def over_tls(name: str, *, scheme: str) -> str:
    """The page of an app, where the gateway has the ports of HTTP and HTTPS."""
    host = f"{name}.localhost"
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{scheme}://{APART}/", headers={"Host": host}, server_hostname=host, ssl=False
        ) as response,
    ):
        return await response.text()


def on_a_machine_of_its_own(machine: SecondMachine, tmp_path: Path) -> tuple[str, ...]:
    """What a gateway is run by that sees no lock of the first machine's."""
    own = tmp_path / "addresses.lock"
    own.touch(mode=0o600)
    script = f'mount --bind {own} {ROOTS_LOCK_FILE} && exec "$@"'
    return (*machine.inside, "unshare", "--mount", "sh", "-c", script, "sh")


def is_without_room(answer: Answer) -> bool:
    """As soon as the gateway has noticed; no answer of then is another fault's."""
    assert answer.status in (402, 503), answer.body
    return bool(answer.body["code"] == "no_capacity")


async def unavailable(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


async def test_a_year_of_losses_loses_no_money_and_no_project(
    gateway: ServedGateway,
    node: RpcProxy,
    disk: Path,
    elsewhere: SecondMachine,
    local_chains: LocalChains,
    tmp_path: Path,
) -> None:
    # The first customer comes.
    await asyncio.to_thread(gateway.start)
    bob = await Wallet(gateway).fund(chain="base")
    await paid(bob, 3_000_000)
    await deployed(bob, "kept", {"index.html": "still mine"})
    await visited(bob, "kept", "still mine")
    await audited(gateway)
    await until_read(lambda: who_answers(gateway), lambda by: by == {"this"}, seconds=180)

    # Another customer comes.
    alice, shop = await Wallet(gateway).fund(chain="base"), fresh_name()
    await paid(alice, 3_000_000)
    await deployed(alice, shop)
    await audited(gateway)

    # The disk is full: nobody is asked to pay for what it can't hold, and who pays is credited.
    filler = await asyncio.to_thread(fill, disk)
    bidding = Wallet(gateway)
    await until_read(lambda: bidding.deploy(fresh_name()), is_without_room)
    assert (await states(gateway))["disk"] != "ok"
    await paid(alice, 700_000)
    await audited(gateway)
    filler.unlink()
    await visited(alice, shop)
    await visited(bob, "kept", "still mine")
    await until_read(lambda: bidding.deploy(fresh_name()), lambda it: it.status == 402)
    await deployed(alice, shop, HELLO | {"more.txt": "there is room again"})
    await audited(gateway)

    # The node is lost: apps go on, the operator is told, and what is paid meanwhile is found.
    node.respond = unavailable
    await until_read(lambda: states(gateway), lambda parts: parts["chain base"] != "ok")
    before = await balance(alice)
    await alice.pay(800_000, chain="base")
    await visited(alice, shop)
    code, document = await gateway.command("operator", "audit")
    assert (code, document["report"]["findings"]) == (4, [])
    node.behave()
    await until_read(lambda: balance(alice), lambda now: now > before + 0.79)
    await audited(gateway)

    # The certificate authority is lost: an app is served without, for nothing, until it is back.
    authority = acme_authority(tmp_path / "authority")
    with authority.running({}):
        await authority.until_ready()
    by = {"acme_directories": [authority.url], "acme_root_file": str(authority.root_file)}
    proxy_listen = gateway.written["proxy_listen"]
    await asyncio.to_thread(gateway.restart, tls=True, proxy_listen=f"{APART}:80", **by)
    await until_read(lambda: states(gateway), lambda parts: parts["certificates"] != "ok")
    stall = fresh_name()
    await deployed(alice, stall)
    assert await over_tls(stall, scheme="http") == "hello again"
    await audited(gateway)
    with authority.running({f"{stall}.localhost": APART}):
        await until_read(
            lambda: told(alice),
            lambda kinds: "project.certified" in kinds,
            seconds=2 * EVERY_SECONDS,  # it is asked as rarely once it was long away
        )
        assert await over_tls(stall, scheme="https") == "hello again"
    await audited(gateway)
    without = {**dict.fromkeys(("tls", *by)), "proxy_listen": proxy_listen}
    await asyncio.to_thread(gateway.restart, **without)

    # The machine is lost. What was put back from its backup does not serve beside it,
    saved = tmp_path / "gateway.backup"
    code, _ = await gateway.command("operator", "backup", str(saved))
    assert code == 0
    second = ServedGateway(tmp_path / "second", local_chains)
    places = ("data_dir", "listen", "proxy_listen")
    second.write(**{name: gateway.written[name] for name in gateway.written if name not in places})
    second.write(operator_listen=f"127.0.0.1:{quiet_port()}", offer_first=None)
    await put_back(saved, second.data_dir)
    assert "on this machine" in await asyncio.to_thread(second.refused)
    its_address = f"{elsewhere.address}:{quiet_port()}"
    async with RpcProxy(local_chains.base.rpc_urls[0], host=elsewhere.ours) as there:
        second.write(
            chains={"base": {"rpc_urls": [there.url]}},
            listen=its_address,
            public_url=f"http://{its_address}",
            proxy_listen=f"{elsewhere.address}:{quiet_port()}",
            base_domain="elsewhere.localhost",
        )
        # nor on another machine while the old one answers where it did;
        second.inside = on_a_machine_of_its_own(elsewhere, tmp_path)
        said = await asyncio.to_thread(second.refused)
        assert f"Another gateway answers at {gateway.written['public_url']}" in said
        await visited(alice, shop)
        await alice.pay(900_000, chain="base")
        gateway.kill()
        code, _ = await gateway.command("operator", "stop", "--reason", "the machine is lost")
        assert code == 0

        # but there, under another domain, once the old one is gone.
        second.inside = elsewhere.inside
        with ended(second):
            await asyncio.to_thread(second.start)
            await until_read(lambda: checked(second), lambda said: said == "this answers")
            alice.gateway = bob.gateway = second
            for wallet, name, page in (
                (alice, shop, "hello again"),
                (alice, stall, "hello again"),
                (bob, "kept", "still mine"),
            ):
                await visited(wallet, name, page)
            await audited(second)

            # The end: who is owed something is told, and nothing is left.
            second.stop()
            books = str(tmp_path / "books")
            code, document = await second.command("operator", "retire", books, "--reason", "sold")
            assert (code, document["retired"]) == (1, False)
            owed = {each["wallet"]: each["projects"] for each in document["left"]["owed"]}
            assert owed[alice.address.lower()] == sorted([shop, stall])
            code, _ = await second.command(
                "operator", "retire", books, "--reason", "sold", "--i-know"
            )
            assert code == 0
            left = of_gateway(second.data_dir, second.instance_id)
            assert {kind: found for kind, found in left.items() if found} == {}
            assert processes_saying(str(second.data_dir)) == set()
            await audited(second)


async def who_answers(gateway: ServedGateway) -> set[str]:
    """Who answers at its public address, as its metrics say."""
    url = f"{gateway.info['operator']}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return set(re.findall(r'address_answers{by="(\w+)"} 1', await response.text()))


async def checked(gateway: ServedGateway) -> str:
    """What `moorage check` says of who answers at its public address."""
    _, document = await gateway.command("check")
    said = {each["name"]: str(each["detail"]) for each in document["findings"]}
    return said[f"gateway at {gateway.written['public_url']}"]


async def told(wallet: Wallet) -> list[str]:
    answer = await wallet.call("GET", "/agent/events")
    return [event["type"] for event in answer.body["events"]]

"""Clients that others wrote, unmodified: each pays the price once and reaches its running app."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account
from multidict import CIMultiDict

from support.chains.paying import rpc, token_balance
from support.clients.wallet import Answer, Wallet, call, deploy_body, fresh_name, new_key
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.receiver import receiving

pytestmark = pytest.mark.root

DIRECTORY = Path(__file__).parent
REPOSITORY = DIRECTORY.parents[1]
INTERPRETERS = {".mjs": "node", ".py": str(REPOSITORY / ".venv-clients/bin/python")}
PRICE = 500_000
FUNDS = 4_000_000
GAS = 10**16
PATIENCE_SECONDS = 240

AUTHORIZING = ("pay_mppx.mjs", "pay_x402.mjs", "pay_pympp.py", "pay_x402.py")
"""Scripts that sign what the gateway is to send; their wallets need no gas."""


JAVASCRIPT = ("fetch", "v1", "axios", "faremeter", "agentkit")
PYTHON = ("httpx", "requests", "pympp")


@pytest.mark.parametrize("chain", ["arbitrum", "base"])
async def test_client_that_transfers_pays_once_and_reaches_its_app(
    dev_gateway: DevGateway, chain: str
) -> None:
    agent = await funded_agent(dev_gateway, chain, gas=GAS)

    told = await run("pay_viem.mjs", agent)

    await assert_paid_and_reached(agent, told)


@pytest.mark.parametrize("chain", ["arbitrum", "base"])
@pytest.mark.parametrize("script", AUTHORIZING)
async def test_client_that_authorizes_pays_once_without_gas_and_reaches_its_app(
    dev_gateway: DevGateway, script: str, chain: str
) -> None:
    agent = await funded_agent(dev_gateway, chain, gas=0)

    told = await run(script, agent)

    await assert_paid_and_reached(agent, told)
    assert "payment-receipt" in told["headers"]
    assert ("payment-response" in told["headers"]) == ("x402" in script)


@pytest.mark.parametrize("script", ["pay_mppx.mjs", "pay_pympp.py"])
async def test_shop_that_relays_our_challenge_to_a_client_gets_nothing_its_customer_had(
    dev_gateway: DevGateway, script: str
) -> None:
    """The client signs what it signs for any purchase; the shop has the gateway ask for it."""
    agent = await funded_agent(dev_gateway, "arbitrum", gas=0)
    bought = await run(script, agent)
    own, stolen = (
        deploy_body(name, {"index.html": "the shop's"}) for name in (fresh_name(), agent["name"])
    )
    told = list[Answer]()

    async def shop(request: web.Request) -> web.StreamResponse:
        payment = request.headers.get("Authorization")
        by = {"X-Payment-Chain": "arbitrum"} if payment is None else {"Authorization": payment}
        body = own if payment is None else stolen
        told.append(await call(dev_gateway, "POST", "/deploy", json=body, headers=by))
        offers = [
            ("WWW-Authenticate", str(each))
            for each in CIMultiDict(told[-1].headers).getall("WWW-Authenticate", [])
        ]
        return web.json_response(told[-1].body, status=told[-1].status, headers=CIMultiDict(offers))

    async with receiving() as receiver:
        receiver.answer = shop
        relayed = await run(script, agent | {"gateway": f"http://127.0.0.1:{receiver.port}"})

    assert [answer.status for answer in told] == [402, 400]
    assert (relayed["status"], relayed["body"]["code"]) == (400, "name_unavailable")
    assert relayed["body"]["payment"]["state"] == "unused"
    assert await balance(agent) == FUNDS - PRICE
    wallet = Wallet(dev_gateway, key=agent["key"])
    status, page = await wallet.visit(agent["name"])
    assert (status, page) == (200, bought["page"])


@pytest.fixture(scope="module")
def usual_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """A gateway whose operator says nothing of what is offered first."""
    settings = {"offer_first": "", "requests_per_minute": "100000"}
    with running(tmp_path_factory.mktemp("usual"), **settings) as gateway:
        yield gateway


@pytest.mark.parametrize("alone", [False, True])
async def test_mppx_that_is_told_nothing_pays_on_base(
    usual_gateway: DevGateway, alone: bool
) -> None:
    """It answers the first challenge or none. `alone`: it sends no wallet headers either."""
    agent = await funded_agent(usual_gateway, "base", gas=0)

    told = await run("pay_mppx.mjs", agent | {"plain": True, "alone": alone})

    await assert_paid_and_reached(agent, told)


async def test_mppx_on_the_command_line_that_is_told_nothing_pays_on_base(
    usual_gateway: DevGateway,
) -> None:
    await assert_paid_on_the_command_line(usual_gateway, "base")


async def test_client_that_signs_in_with_ethereum_is_its_wallet_once(
    dev_gateway: DevGateway,
) -> None:
    agent = await funded_agent(dev_gateway, "base", gas=0)

    told = await run("sign_in.mjs", agent)

    assert (told["status"], told["again"]) == (200, "nonce_reused"), told
    assert told["body"] == {"wallet": address_of(agent), "count": 0, "projects": []}
    assert told["offered"] == [402, address_of(agent)], told


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("script", ["pay_mppx_mcp.mjs", "pay_x402_mcp.py"])
async def test_client_that_pays_a_tools_call_pays_once_and_reaches_its_app(
    dev_gateway: DevGateway, script: str, signs: bool
) -> None:
    agent = await funded_agent(dev_gateway, "arbitrum", gas=0)

    told = await run(script, agent | {"signs": signs})

    assert told["page"] == f"<h1>{agent['name']}</h1>", told
    assert await balance(agent) == FUNDS - PRICE


@pytest.mark.parametrize(
    ("script", "chain", "clients", "alone"),
    [
        ("pay_fixed_headers.mjs", "base", JAVASCRIPT, False),
        ("pay_fixed_headers.mjs", "base", JAVASCRIPT, True),
        ("pay_fixed_headers.py", "arbitrum", PYTHON, False),
        ("pay_fixed_headers.py", "base", PYTHON, True),
    ],
)
async def test_client_that_repeats_its_first_headers_pays_once_and_reaches_its_app(
    dev_gateway: DevGateway, script: str, chain: str, clients: tuple[str, ...], alone: bool
) -> None:
    """`alone`: it sends no header of ours, and the payment says who asks."""
    agent = await funded_agent(dev_gateway, chain, gas=0)

    told = await run(script, agent | {"alone": alone})

    assert tuple(told) == clients
    for client, answer in told.items():
        assert answer["status"] == 200, (client, answer)
        assert answer["page"] == f"<h1>{agent['name']}-{client}</h1>"
        receipt = {"pympp": "payment-receipt", "v1": "x-payment-response"}
        assert receipt.get(client, "payment-response") in answer["headers"]
    assert await balance(agent) == FUNDS - PRICE * len(clients)


@pytest.mark.parametrize("chain", ["arbitrum", "base"])
async def test_mppx_on_the_command_line_pays_once_and_reaches_its_app(
    dev_gateway: DevGateway, chain: str
) -> None:
    await assert_paid_on_the_command_line(dev_gateway, chain, "--protocol", "x402")


async def assert_paid_on_the_command_line(gateway: DevGateway, chain: str, *options: str) -> None:
    agent = await funded_agent(gateway, chain, gas=0)
    wallet = Wallet(gateway, key=agent["key"])
    headers = wallet.signed() | ({"X-Payment-Chain": chain} if options else {})

    answer = await mppx(
        agent,
        *("--silent", *options),
        *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")),
        *("-J", json.dumps(deploy_body(agent["name"], {"index.html": "hello"}))),
        f"{gateway.url}/agent/deploy",
    )

    deployed = Answer(200, answer, {})
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(agent["name"]) == (200, "hello")
    assert await balance(agent) == FUNDS - PRICE


async def assert_paid_and_reached(agent: dict[str, Any], told: dict[str, Any]) -> None:
    assert told["status"] == 200, told
    assert told["page"] == f"<h1>{agent['name']}</h1>"
    assert await balance(agent) == FUNDS - PRICE


async def funded_agent(gateway: DevGateway, chain: str, *, gas: int) -> dict[str, Any]:
    """What an agent is given: a key with tokens, a gateway, a name to deploy under."""
    described = gateway.info["chains"][chain]
    agent = {
        "gateway": gateway.url,
        "name": fresh_name(),
        "key": new_key(),
        "chain": chain,
        "chainId": described["chain_id"],
        "token": described["tokens"]["usdc"],
        "rpcUrl": described["rpc_url"],
    }
    address = address_of(agent)
    await rpc(agent["rpcUrl"], "anvil_setBalance", address, hex(gas))
    await rpc(agent["rpcUrl"], "anvil_dealERC20", address, agent["token"], hex(FUNDS))
    return agent


def address_of(agent: dict[str, Any]) -> str:
    """The wallet of its key."""
    return str(Account.from_key(agent["key"]).address)


async def balance(agent: dict[str, Any]) -> int:
    """The tokens it still holds, in atomic units."""
    return await token_balance(agent["rpcUrl"], agent["token"], address_of(agent))


async def run(script: str, agent: dict[str, Any]) -> dict[str, Any]:
    """Run an agent's script to its end; what it told of the last answer and of its app."""
    path = DIRECTORY / script
    return await output([INTERPRETERS[path.suffix], str(path)], AGENT=json.dumps(agent))


async def mppx(agent: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """Run mppx on the command line; the body of the last answer."""
    program = DIRECTORY / "node_modules/.bin/mppx"
    return await output([str(program), *arguments], MPPX_PRIVATE_KEY=agent["key"])


async def output(command: list[str], **environ: str) -> dict[str, Any]:
    """What a program prints, as JSON."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"NO_UPDATE_NOTIFIER": "1"} | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, complaints = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (out, complaints.decode())
    told: dict[str, Any] = json.loads(out)
    return told

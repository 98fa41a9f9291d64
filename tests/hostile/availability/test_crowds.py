"""Two hundred addresses ask all that their limits allow; who has paid, or comes new, goes first."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from neighbour import settle

from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = [pytest.mark.root, pytest.mark.long]

CROWD = Path(__file__).with_name("crowd.py")
QUESTIONS = 24
PAUSE_SECONDS = 0.25
AT_MOST_SECONDS = 100  # only to end a hung test
TIMES_AS_FAST = 8


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("crowds")) as started:
        yield started


async def asked(wallet: Wallet, path: str, address: str) -> float:
    """The seconds that a wallet's question from an address takes."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    headers, began = wallet.signed(), time.monotonic()
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(wallet.gateway.url + path, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        return time.monotonic() - began


async def test_crowd_within_its_limits_holds_up_neither_who_has_paid_nor_a_newcomer(
    gateway: DevGateway,
) -> None:
    neighbour = await settle(gateway)
    ids = neighbour.deployed.body
    status = f"/agent/deploy/{ids['projectId']}/{ids['deploymentId']}/status"
    pipe = asyncio.subprocess.PIPE
    crowd = await asyncio.create_subprocess_exec(
        sys.executable, str(CROWD), gateway.url, stdin=pipe, stdout=pipe
    )
    of_paid, of_new = list[float](), list[float]()
    async with asyncio.timeout(AT_MOST_SECONDS):
        for number in range(QUESTIONS):
            of_paid.append(await asked(neighbour.wallet, status, "127.0.9.1"))
            newcomer = Wallet(gateway), f"127.0.10.{number + 1}"
            of_new.append(await asked(newcomer[0], "/agent/projects", newcomer[1]))
            await asyncio.sleep(PAUSE_SECONDS)
        told, _ = await crowd.communicate(b"")  # which ends its input
    crowds = json.loads(told)
    assert crowds["statuses"]["402"] >= 400  # each connection at least once
    assert crowds["statuses"].keys() <= {"402", "429"}
    assert statistics.median(of_paid) * TIMES_AS_FAST < crowds["seconds"]
    assert statistics.median(of_new) * TIMES_AS_FAST < crowds["seconds"]

"""Clients that mean harm, over real HTTP: after each, the gateway is as it was."""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.clients.raw_http import RawConnection, connected, request
from support.clients.wallet import HELLO, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

MIB = 1024 * 1024
DRY_RUN = ("X-Dry-Run", "true")
HEALTHY_SECONDS = 30.0
"""On a machine that others share."""

MOST_GROWTH_MIB = 64
PROBLEM = re.compile(r'"level": ?"(error|critical)"|Traceback|"exception"')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("hostile")
    with running(directory, requests_per_minute="100000", payment_wait_seconds="0") as started:
        yield started


@pytest.fixture(scope="module")
def files_before() -> list[int]:
    """How many files the gateway had open before each test."""
    return []


@pytest.fixture(autouse=True)
async def unharmed(gateway: DevGateway, files_before: list[int]) -> AsyncIterator[None]:
    """What every test here asserts at its end."""
    # Fewer than before, while a process that reads uploads is being replaced.
    files_before.append(open_files(gateway))
    files, memory, logged = max(files_before), memory_mib(gateway), len(gateway.log)
    yield
    started = time.monotonic()
    assert (await call(gateway, "GET", "/health")).status == 200
    assert time.monotonic() - started < HEALTHY_SECONDS
    async with asyncio.timeout(60):
        while open_files(gateway) > files or uploads(gateway):
            await asyncio.sleep(0.05)
    assert memory_mib(gateway) < memory + MOST_GROWTH_MIB
    assert PROBLEM.findall(gateway.log[logged:]) == []


def open_files(gateway: DevGateway) -> int:
    """How many it has open, but for its connections to the chains' nodes: those come and go."""
    own = connections_to_nodes(gateway)
    held = []
    for entry in Path(f"/proc/{gateway.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.append(str(entry.readlink()))
    return sum(name not in own for name in held)


def connections_to_nodes(gateway: DevGateway) -> set[str]:
    urls = [chain["rpc_url"] for chain in gateway.info["chains"].values()]
    nodes = {f"0100007F:{int(url.rpartition(':')[2]):04X}" for url in urls}
    rows = Path(f"/proc/{gateway.pid}/net/tcp").read_text().splitlines()[1:]
    return {f"socket:[{row[9]}]" for row in map(str.split, rows) if row[2] in nodes}


def memory_mib(gateway: DevGateway) -> float:
    status = Path(f"/proc/{gateway.pid}/status").read_text(errors="replace")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def uploads(gateway: DevGateway) -> list[Path]:
    return [path for name in ("spool", "sources") for path in (gateway.data_dir / name).iterdir()]


@pytest.fixture
def wallet(gateway: DevGateway) -> Wallet:
    return Wallet(gateway)


def upload_head(wallet: Wallet, *headers: tuple[str, str], closes: bool = False) -> bytes:
    """A deploy's head, signed; what it says about its body is in `headers`."""
    end = [("Connection", "close")] if closes else []
    return request("POST", "/agent/deploy", [*wallet.signed().items(), DRY_RUN, *headers, *end])


# Bodies that never come, or come wrong


async def test_five_hundred_silent_clients_keep_nobody_waiting(gateway: DevGateway) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(500):
            connection = await stack.enter_async_context(connected(gateway.url))
            await connection.send(b"GET /health HTTP/1.1\r\nX-Slow: ")

        started = time.monotonic()
        assert (await call(gateway, "GET", "/health")).status == 200
        assert time.monotonic() - started < HEALTHY_SECONDS


async def test_clients_that_leave_amid_their_upload_leave_nothing(wallet: Wallet) -> None:
    body = json.dumps(deploy_body(fresh_name(), {"big.bin": "x" * 3 * MIB})).encode()
    async with AsyncExitStack() as stack:
        for _ in range(20):
            connection = await stack.enter_async_context(connected(wallet.gateway.url))
            head = upload_head(wallet, ("Content-Length", str(len(body))))
            await connection.send(head, body[: 2 * MIB])
        async with asyncio.timeout(60):
            while len(uploads(wallet.gateway)) < 20:
                await asyncio.sleep(0.02)


async def test_body_of_a_refused_request_is_never_the_next_one(gateway: DevGateway) -> None:
    inner = request("DELETE", "/agent/projects/smuggled")
    async with connected(gateway.url) as connection:
        await connection.send(
            request("POST", "/agent/deploy", body=inner), request("GET", "/health")
        )
        assert [(await connection.answer()).status for _ in range(2)] == [401, 200]

    assert "smuggled" not in gateway.log


async def test_client_that_expects_100_gets_it_only_for_a_body_that_is_wanted(
    wallet: Wallet,
) -> None:
    body = json.dumps(deploy_body(fresh_name(), HELLO)).encode()
    expect = ("Expect", "100-continue")
    async with connected(wallet.gateway.url) as connection:
        await connection.send(upload_head(wallet, expect, ("Content-Length", str(len(body)))))
        interim = await connection.interim()
        await connection.send(body)
        assert (interim, (await connection.answer()).status) == (100, 200)

        await connection.send(request("POST", "/agent/deploy", [expect], b""))
        assert (await connection.answer()).status == 401


async def test_old_clients_are_answered_and_let_go(gateway: DevGateway) -> None:
    async with connected(gateway.url) as connection:
        await connection.send(b"GET /health HTTP/1.0\r\n\r\n")

        assert (await connection.answer()).json == {"status": "ok"}
        assert await connection.closed() == b""


# Everything at once


def scrambled(data: bytes, chance: random.Random, *, within: int) -> bytes:
    scrambled = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(min(within, len(scrambled)))
        scrambled[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 2))
    return bytes(scrambled)


FULL = deploy_body("app-fuzz", HELLO, description="d", months=2) | {
    "settings": {
        "port": 3000,
        "runtime": "node",
        "useBuildAI": True,
        "hasDockerfile": False,
        "buildCommand": "a",
        "runCommand": "b",
        "installCommand": None,
        "framework": "next",
        "directoryPath": "",
        "buildDir": "dist",
        "runEnvs": {"A": "b"},
        "buildVars": {"C": "d"},
    }
}


@pytest.mark.parametrize("seed", range(4))
async def test_scrambled_requests_are_never_a_5xx(wallet: Wallet, seed: int) -> None:
    chance = random.Random(seed)
    body = json.dumps(FULL).encode()
    for _ in range(50):
        head = upload_head(wallet, ("Content-Length", str(len(body))), closes=True)
        async with connected(wallet.gateway.url) as connection:
            await connection.send(scrambled(head, chance, within=len(head)), body)
            connection.writer.write_eof()
            for status in await statuses(connection):
                assert status < 500


async def statuses(connection: RawConnection) -> list[int]:
    """Of all answers until the connection closes; there may be none."""
    said = await connection.closed()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]

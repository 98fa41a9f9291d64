"""Requests of every kind to every operation: each is answered, none with a fault, nothing grows."""

import asyncio
import os
import re
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from coincurve import PrivateKey
from fuzzing import Fuzzed, Fuzzer, Signer

from support.clients.raw_http import RawConnection, connected
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

COUNT = int(os.environ.get("FUZZ", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "1")) or secrets.randbelow(2**32) + 1
CONNECTIONS = 8
MEMORY_BYTES = 96 * 1024**2
"""What the gateway may have more of at the end than after it was warm, however many were sent."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    settings = {"requests_per_minute": "3000", "payment_wait_seconds": "1"}
    with running(tmp_path_factory.mktemp("fuzzed"), **settings) as started:
        yield started


def resident_bytes(gateway: DevGateway) -> int:
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def descriptors(gateway: DevGateway) -> int:
    return len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))


def rows(gateway: DevGateway) -> dict[str, int]:
    with closing(sqlite3.connect(gateway.data_dir / "moorage.db")) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        return {
            name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
            for (name,) in tables
        }


class Sender:
    """Sends a fuzzer's requests over some connections, and counts what comes back."""

    def __init__(self, gateway: DevGateway, fuzzer: Fuzzer) -> None:
        self._gateway = gateway
        self._fuzzer = fuzzer
        self.statuses: Counter[int] = Counter()
        self.faults: list[tuple[Fuzzed, object]] = []

    async def send(self, numbers: range) -> None:
        """All of these, `CONNECTIONS` at a time."""
        left = iter(numbers)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._send_in_turn(left))

    async def _send_in_turn(self, left: Iterator[int]) -> None:
        number = next(left, None)
        while number is not None:
            async with connected(self._gateway.url) as connection:
                while number is not None:
                    is_open = await self._send(connection, self._fuzzer.make(number))
                    number = next(left, None)
                    if not is_open:
                        break

    async def _send(self, connection: RawConnection, fuzzed: Fuzzed) -> bool:
        """Whether the connection is good for another one."""
        await connection.send(fuzzed.sent)
        if fuzzed.is_cut:
            connection.writer.write_eof()
        try:
            answer = await connection.answer(to=fuzzed.method)
        except (asyncio.IncompleteReadError, TimeoutError, LookupError, ValueError) as error:
            self.statuses[0] += 1
            if not fuzzed.is_cut:
                self.faults.append((fuzzed, repr(error)))
            return False
        self.statuses[answer.status] += 1
        if answer.status >= 500:
            self.faults.append((fuzzed, answer))
        is_streamed = answer.header("transfer-encoding") is not None  # a log that is followed
        is_closed = answer.header("connection") == "close"
        return not (fuzzed.is_cut or is_streamed or is_closed)


async def fuzzer(gateway: DevGateway) -> Fuzzer:
    """With a wallet that paid, one that has tokens and some that have nothing."""
    paid = await Wallet(gateway).fund()
    deployed = await paid.deploy_paid(fresh_name())
    assert (await paid.settled(deployed))["status"] == "ready"
    funded = await Wallet(gateway).fund()
    fresh = [Wallet(gateway) for _ in range(6)]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/openapi.json") as response,
    ):
        document = await response.json()
    signers = [Signer(PrivateKey.from_hex(w.key[2:])) for w in (paid, paid, funded, *fresh)]
    ids = {name: deployed.body[name] for name in ("projectId", "deploymentId")}
    values = ["latest", "arbitrum", "usdc", "base", paid.address, "my-app-1", "true", "build"]
    return Fuzzer(document, signers, values, ids=ids, seed=SEED)


async def test_no_request_is_answered_with_a_fault_and_nothing_grows(gateway: DevGateway) -> None:
    sender = Sender(gateway, await fuzzer(gateway))
    warm = min(COUNT // 5, 5_000)
    await sender.send(range(warm))
    memory, opened = resident_bytes(gateway), descriptors(gateway)
    started = time.monotonic()
    await sender.send(range(warm, COUNT))
    seconds = time.monotonic() - started
    seen = (
        f"seed {SEED}: {dict(sender.statuses)}, {seconds:.0f} s, memory {memory >> 20} MiB before"
    )
    seen += f", {resident_bytes(gateway) >> 20} after, descriptors {opened}, {descriptors(gateway)}"
    print(seen, {name: count for name, count in rows(gateway).items() if count > 20})
    assert not sender.faults, (seen, len(sender.faults), sender.faults[:10])
    assert sender.statuses[429] < COUNT / 2, seen
    assert resident_bytes(gateway) < memory + MEMORY_BYTES, seen
    assert descriptors(gateway) < opened + 50, seen
    assert max(rows(gateway).values()) < 10_000, rows(gateway)
    assert not list((gateway.data_dir / "spool").glob("*"))
    assert "Traceback" not in gateway.log
    assert re.findall(r'"level": ?"(?:error|critical)"', gateway.log) == []

"""Signed uploads of unfunded keys that come slowly, in any number: whoever else comes is served."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from neighbour import Neighbour, settle

from support.clients.raw_http import RawAnswer, RawConnection, connected, request
from support.clients.wallet import HELLO, Wallet, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

UPLOADS = 1_200
DESCRIPTORS = 4_096
MIB = 1024 * 1024
DROPPED = {(408, "body_stalled"), (503, "upload_displaced"), (429, "too_many_uploads")}

ONE_ADDRESS = ["127.0.1.1"]
SIXTY_ADDRESSES = [f"127.0.1.{number}" for number in range(1, 61)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("slow-uploads")
    with running(directory, requests_per_minute="100000") as started:
        yield started


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """This process plays all the clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, DESCRIPTORS), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def upload_head(wallet: Wallet, length: int, path: str = "/agent/deploy") -> bytes:
    headers = [*wallet.signed().items(), ("Content-Length", str(length))]
    return request("POST", path, headers)


class SlowUploads:
    """Uploads that never end, each of a key of its own; what the dropped ones were answered."""

    def __init__(self, gateway: DevGateway, addresses: Sequence[str]) -> None:
        self._gateway = gateway
        self._addresses = addresses
        self.answers: Counter[tuple[int, str]] = Counter()
        self.begun = 0

    @contextlib.asynccontextmanager
    async def going_on(self, count: int) -> AsyncIterator[None]:
        """While `count` of them go on, as far as they are not dropped."""
        at_once = asyncio.Semaphore(50)
        addresses = itertools.islice(itertools.cycle(self._addresses), count)
        tasks = [asyncio.create_task(self._upload(each, at_once)) for each in addresses]
        while self.begun < count:
            await asyncio.sleep(0.05)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for done in await asyncio.gather(*tasks, return_exceptions=True):
                assert done is None or isinstance(done, asyncio.CancelledError), done

    async def _upload(self, address: str, at_once: asyncio.Semaphore) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with at_once:
                # Signed in its turn: it is good for a minute, and the last waits for many others.
                head = upload_head(Wallet(self._gateway), MIB)
                client = await stack.enter_async_context(
                    connected(self._gateway.url, source=address)
                )
                await client.send(head, b'{"upload": ')
            self.begun += 1
            trickle = asyncio.create_task(_trickle(client))
            try:
                with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError):
                    answer = await client.answer()
                    self.answers[answer.status, answer.json["code"]] += 1
            finally:
                trickle.cancel()


async def _trickle(client: RawConnection) -> None:
    while True:
        await asyncio.sleep(5)
        await client.send(b" ")


async def quote_in_pieces(
    wallet: Wallet, *, source: str, pieces: int, pause_seconds: float, size: int = 100
) -> RawAnswer:
    """A quote whose body comes in pieces, far enough apart that the gateway has to wait for it."""
    files = HELLO | {"filler.txt": "x" * size}
    body = json.dumps(deploy_body(fresh_name(), files)).encode()
    step = -(-len(body) // pieces)
    async with connected(wallet.gateway.url, source=source) as client:
        await client.send(upload_head(wallet, len(body), "/agent/quote"))
        for start in range(0, len(body), step):
            await asyncio.sleep(pause_seconds)
            await client.send(body[start : start + step])
        return await client.answer()


@pytest.mark.parametrize("addresses", [ONE_ADDRESS, SIXTY_ADDRESSES], ids=["one", "sixty"])
async def test_slow_uploads_leave_places_to_everybody_else(
    gateway: DevGateway, addresses: list[str]
) -> None:
    neighbour: Neighbour = await settle(gateway)
    attack = SlowUploads(gateway, addresses)
    async with attack.going_on(UPLOADS), neighbour.unharmed():
        stranger = quote_in_pieces(
            Wallet(gateway), source="127.0.2.1", pieces=4, pause_seconds=0.5, size=40_000
        )
        paying = quote_in_pieces(
            neighbour.wallet, source="127.0.0.1", pieces=4, pause_seconds=2, size=200_000
        )
        assert [each.status for each in await asyncio.gather(stranger, paying)] == [200, 200]
    assert set(attack.answers) <= DROPPED
    assert attack.answers[503, "upload_displaced"] > UPLOADS / 2


async def test_dropped_upload_is_told_so_and_that_its_payment_counts(gateway: DevGateway) -> None:
    proof = [("X-Payment-Tx", "0x" + "ab" * 32), ("Content-Length", str(MIB))]
    async with connected(gateway.url, source="127.0.3.1") as client:
        headers = [*Wallet(gateway).signed().items(), *proof]
        await client.send(request("POST", "/agent/deploy", headers, b"{"))
        answer = await client.answer()
    assert (answer.status, answer.json["code"]) == (408, "body_stalled")
    assert answer.json["retryable"] is True
    assert "payment made still counts" in answer.json["error"]
    assert "amount_token" not in answer.json


def spooled_bytes(gateway: DevGateway) -> int:
    """What uploads take on disk."""
    total = 0
    for directory, _, names in os.walk(gateway.data_dir / "spool"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(directory) / name).stat().st_size
    return total


async def test_uploads_that_stop_halfway_take_a_bounded_part_of_the_disk(
    gateway: DevGateway,
) -> None:
    neighbour = await settle(gateway)
    answers: list[RawAnswer] = []
    most_bytes = 0
    piece = base64.b64encode(os.urandom(3 * MIB // 4))

    async def upload() -> None:
        beginning = b'{"upload": {"type": "zip", "data": "'
        async with connected(gateway.url, source="127.0.4.1") as client:
            await client.send(upload_head(Wallet(gateway), 50 * MIB), beginning)
            for _ in range(48):  # 36 MiB, decoded
                await client.send(piece)
            trickle = asyncio.create_task(_trickle(client))
            try:
                answers.append(await client.answer())
            finally:
                trickle.cancel()

    async with neighbour.unharmed(), asyncio.timeout(600):
        async with asyncio.TaskGroup() as tasks:
            uploads = [tasks.create_task(upload()) for _ in range(12)]
            newcomer = tasks.create_task(
                quote_in_pieces(
                    Wallet(gateway), source="127.0.2.1", pieces=4, pause_seconds=1, size=2 * MIB
                )
            )
            while not all(task.done() for task in uploads):
                most_bytes = max(most_bytes, spooled_bytes(gateway))
                await asyncio.sleep(0.1)
        assert newcomer.result().status == 200
    assert 36 * MIB < most_bytes <= (341 + 64) * MIB  # what was displaced is removed a little later
    assert {(answer.status, answer.json["code"]) for answer in answers} <= DROPPED
    assert len(answers) == 12
    assert spooled_bytes(gateway) == 0

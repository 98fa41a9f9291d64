"""What is true of every gateway."""

import asyncio
import base64
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from busy_app import BOUND_SECONDS, READY, node_app

from support.clients.visitor import address, fetch, host
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("every"), requests_per_minute="100000") as started:
        yield started


async def test_eight_apps_at_once_are_each_there_when_they_are_ready(gateway: DevGateway) -> None:
    async def deploy_and_visit(wallet: Wallet) -> str:
        name = fresh_name()
        deployed = await wallet.deploy_paid(name, node_app(f"s.end('{name}')"))
        while (await wallet.status(deployed)).body["status"] == "deploying":
            await asyncio.sleep(0.05)
        page = await fetch(gateway, name)
        assert page.text == name
        return name

    wallets = [await Wallet(gateway).fund() for _ in range(8)]

    async with asyncio.timeout(BOUND_SECONDS):
        names = await asyncio.gather(*(deploy_and_visit(wallet) for wallet in wallets))

    assert len(set(names)) == 8


async def test_redeploy_answers_when_it_is_ready_and_turns_nobody_away(wallet: Wallet) -> None:
    name = fresh_name()
    await wallet.settled(await wallet.deploy_paid(name, node_app("s.end('0')")))
    seen: list[str] = []

    async def visit_without_end() -> None:
        while True:
            page = await fetch(wallet.gateway, name)
            assert page.status == 200, page
            seen.append(page.text)

    async def until_seen(version: str) -> None:
        await until(lambda: version in seen or any(visitor.done() for visitor in visitors))

    visitors = [asyncio.create_task(visit_without_end()) for _ in range(3)]
    await until_seen("0")
    for version in "12345":
        deployed = await wallet.deploy(name, node_app(f"s.end('{version}')"))
        assert (await wallet.settled(deployed))["status"] == "ready"
        assert (await fetch(wallet.gateway, name)).text == version
        await until_seen(version)
    for visitor in visitors:
        assert not visitor.done(), visitor.result()
        visitor.cancel()

    assert set(seen) >= set("012345")


async def test_zip_of_a_python_app_deploys(wallet: Wallet) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in READY["python"].items():
            archive.writestr(f"project/{path}", text)
    data = base64.b64encode(packed.getvalue()).decode()
    name = fresh_name()

    deployed = await wallet.deploy_paid(
        name, upload={"type": "zip", "data": data, "filename": "project.zip"}
    )

    assert (await wallet.settled(deployed))["status"] == "ready"
    assert "requirements.txt" in (await fetch(wallet.gateway, name)).text


async def test_websocket_goes_through(gateway: DevGateway, busy_name: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address(gateway), headers=host(gateway, busy_name)) as socket,
    ):
        for word in ("hello", "again"):
            await socket.send_str(word)
            assert await socket.receive_str(timeout=BOUND_SECONDS) == word.upper()


async def test_server_sent_events_arrive_one_by_one(gateway: DevGateway, busy_name: str) -> None:
    async with (
        asyncio.timeout(BOUND_SECONDS),
        aiohttp.ClientSession() as session,
        session.get(address(gateway, "/events"), headers=host(gateway, busy_name)) as stream,
    ):
        assert stream.content_type == "text/event-stream"
        assert await stream.content.readuntil(b"\n\n") == b"data: one\n\n"
        await fetch(gateway, busy_name, "/release")
        assert await stream.content.readuntil(b"\n\n") == b"data: two\n\n"


async def test_hundred_megabytes_reach_the_app(gateway: DevGateway, busy_name: str) -> None:
    piece = bytes(range(256)) * (MIB // 256)
    digest = hashlib.sha256()
    for _ in range(100):
        digest.update(piece)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield piece

    page = await fetch(gateway, busy_name, "/upload", method="PUT", data=pieces())

    assert page.text == f"{100 * MIB} {digest.hexdigest()}"

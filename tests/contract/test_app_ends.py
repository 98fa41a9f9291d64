"""An app's end is told at once, and nobody is let in behind it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_process import Gateway

from moorage.address import Address
from moorage.engines.engine import AppExit, Incident, IncidentKind
from moorage.engines.sandbox.sandbox import Sandbox
from support.engines.small_apps import SERVER, build_and_start, fetch, is_open, plan, start

pytestmark = pytest.mark.root

MORTAL = (
    "const born = String(process.hrtime());\n"
    + SERVER.replace(
        "response.end('hello')",
        "request.url === '/exit' ? process.exit(7) : response.end(born)",
    )
    % "process.env.PORT"
)
BOUND_SECONDS = 60  # only to end a hung test


@pytest.fixture
def mortal(source: Path) -> Path:
    """The source of an app that ends when asked to."""
    (source / "index.js").write_text(MORTAL)
    return source


async def end(address: Address | None) -> None:
    """Ask for `/exit`: the app hangs up."""
    assert address is not None
    reader, writer = await address.connect()
    writer.write(b"GET /exit HTTP/1.1\r\nHost: app\r\n\r\n")
    assert await reader.read() == b""
    writer.close()


async def told_end_of(sandbox: Sandbox, deployment_id: str) -> None:
    """Return once the runtime tells of it."""
    async with asyncio.timeout(BOUND_SECONDS):
        told = await sandbox.next_incident()
    assert told == Incident(deployment_id, IncidentKind.ENDED)


async def test_end_is_told_and_the_door_is_closed(sandbox: Sandbox, mortal: Path) -> None:
    instance = await build_and_start(sandbox, mortal, plan())
    assert (await sandbox.inspect("first")).instance == instance
    await end(instance.address)
    await told_end_of(sandbox, "first")
    assert not await is_open(instance.address)
    assert (await sandbox.inspect("first")).instance is None
    assert (await sandbox.inspect("first")).exit == AppExit(exit_code=7, out_of_memory=False)


async def test_each_life_has_its_end_told_and_its_own_door(sandbox: Sandbox, mortal: Path) -> None:
    born = set()
    instance = await build_and_start(sandbox, mortal, plan())
    for _ in range(3):
        born.add(await fetch(instance.address))
        await end(instance.address)
        await told_end_of(sandbox, "first")
        instance = await start(sandbox, plan())
    assert len(born) == 3
    assert (await sandbox.inspect("first")).instance == instance


async def test_end_that_the_gateway_saw_to_is_not_told(sandbox: Sandbox, mortal: Path) -> None:
    instance = await build_and_start(sandbox, mortal, plan())
    for _ in range(2):
        await sandbox.stop("first")
        instance = await start(sandbox, plan())
    await end(instance.address)
    await told_end_of(sandbox, "first")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await sandbox.next_incident()


async def test_look_at_an_app_that_is_just_ending_sees_its_end(
    sandbox: Sandbox, mortal: Path
) -> None:
    instance = await build_and_start(sandbox, mortal, plan())
    await end(instance.address)
    async with asyncio.timeout(BOUND_SECONDS):
        while (await sandbox.inspect("first")).instance is not None:
            continue
    assert (await sandbox.inspect("first")).exit is not None


async def test_look_at_an_app_that_listens_no_more_sees_none(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(
        "const server = require('http').createServer((request, response) => {\n"
        "  response.setHeader('connection', 'close').end('hello'); server.close();\n"
        "}).listen(process.env.PORT);\n"
        "setInterval(() => {}, 1000);\n"
    )
    instance = await build_and_start(sandbox, source, plan())
    assert (await sandbox.inspect("first")).instance == instance
    await fetch(instance.address)
    async with asyncio.timeout(BOUND_SECONDS):
        while (await sandbox.inspect("first")).instance is not None:
            continue
    assert (await sandbox.inspect("first")).exit is None


async def test_end_of_an_adopted_app_is_told(gateway: Callable[..., Gateway], mortal: Path) -> None:
    first = gateway()
    address = await first.started()
    first.kill()
    second: Sandbox = await first.successor()
    await end(address)
    await told_end_of(second, "first")
    assert not await is_open(address)

"""A public address is asked over HTTP, and `moorage check` says who answers there."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from moorage.gateway import duplicate_gateway_check
from moorage.gateway.duplicate_gateway_check import InstanceToken, ask
from moorage.operate.check import configuration
from moorage.operate.check.configuration import Finding
from moorage.settings import load_settings
from support.books.records_fixture import ALICE

HERE = InstanceToken(run="here", books="ours", takes=frozenset({"a"}))
SIBLING = InstanceToken(run="sibling", books="ours", takes=frozenset({"a"}))
COPY = InstanceToken(run="copy", books="theirs", takes=frozenset({"a", "b"}))
OTHER = InstanceToken(run="other", books="theirs", takes=frozenset({"b"}))


@asynccontextmanager
async def answering(shown: InstanceToken | None) -> AsyncIterator[str]:
    """A gateway, or any other site, and its URL."""

    async def health(request: web.Request) -> web.Response:
        if shown is None or "Moorage-Gateway" not in request.headers:
            return web.json_response({})
        return web.json_response({}, headers={"Moorage-Gateway": shown.text})

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def found(there: InstanceToken | None, here: InstanceToken | None, **given: str) -> Finding:
    """What `check` finds where these answer; a loopback address counts as public."""
    async with answering(there) as url, answering(here) as local:
        port = int(local.rpartition(":")[2])
        settings = load_settings(file=None, environ={}, public_url=url, listen=port, **given)
        (finding,) = await configuration.check_address(settings)
    return finding


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a busy machine answer in time."""
    monkeypatch.setattr(duplicate_gateway_check, "ASK_SECONDS", 60)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "is_public", bool)


async def test_gateway_is_told_from_another_site_and_from_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with answering(HERE) as url:
        assert HERE in (await ask(f"{url}/")).gateways
    assert (await ask(url)).gateways == ()
    async with answering(HERE) as url:  # of this machine, which a start does not ask
        assert await ask(url, elsewhere=True) == ((), "")
    async with answering(None) as url:
        asked = await ask(url)
    assert asked.gateways == ()
    assert "is no gateway" in asked.problem
    monkeypatch.setattr(duplicate_gateway_check, "ASK_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = await ask(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert asked.gateways == ()
        assert asked.problem.startswith("127.0.0.1: no answer")
        asked = await ask(f"https://127.0.0.1:{silent.getsockname()[1]}")
        assert asked.gateways == ()
    assert (await ask("https://moorage-nowhere.invalid")).problem


@pytest.mark.parametrize(
    ("there", "here", "ok"),
    [
        (HERE, HERE, True),
        (SIBLING, HERE, True),
        (COPY, HERE, False),
        (OTHER, HERE, False),
        (COPY, None, False),
        (None, HERE, True),
    ],
    ids=["this", "sibling", "copy", "other", "before-the-start", "not-known"],
)
@pytest.mark.usefixtures("public")
async def test_check_names_a_gateway_that_must_not_answer(
    there: InstanceToken | None, here: InstanceToken | None, ok: bool
) -> None:
    finding = await found(there, here)
    assert (finding.ok, finding.ok or finding.blocks) == (ok, ok)
    assert ok or finding.remedy
    assert finding.warns == (there is None)  # what could not be asked is not called ok


@pytest.mark.usefixtures("public")
async def test_check_warns_of_an_address_where_nobody_can_be_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    settings = load_settings(file=None, environ={}, public_url=url)
    (finding,) = await configuration.check_address(settings)
    assert (finding.ok, finding.warns) == (True, True)
    assert finding.remedy


@pytest.mark.usefixtures("public")
async def test_check_warns_where_one_of_two_addresses_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(socket.AF_INET, 1, 6, "", (each, 0)) for each in ("127.0.0.1", "127.0.0.77")]

    async def both(*_: object, **__: object) -> Any:
        return found

    async with answering(HERE) as url:
        port = int(url.rpartition(":")[2])
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        settings = load_settings(file=None, environ={}, public_url=url, listen=port)
        (finding,) = await configuration.check_address(settings)
    assert (finding.ok, finding.warns) == (True, True)
    assert "127.0.0.77" in finding.detail


@pytest.mark.usefixtures("public")
async def test_check_leaves_it_to_the_start_whether_another_shares_the_server() -> None:
    finding = await found(SIBLING, None, database_url="postgresql://moorage@db.example/moorage")
    assert finding.ok
    assert "must share database_url" in finding.detail


async def test_check_asks_nobody_where_the_address_is_this_machines() -> None:
    settings = load_settings(file=None, environ={}, public_url="http://localhost:8402")
    assert await configuration.check_address(settings) == []


# The payments of an address


_HOLDER = """
import asyncio, contextlib, os, sys
from pathlib import Path
from types import SimpleNamespace
from moorage.gateway import duplicate_gateway_check

async def hold(lock, name, books, pay_to):
    async def watched(db):
        return frozenset()
    async def identity(db):
        return books
    duplicate_gateway_check.configuration.RECIPIENTS.in_use = watched
    duplicate_gateway_check.identity = identity
    duplicate_gateway_check.ROOTS_LOCK_FILE, os.geteuid = Path(lock), lambda: 0
    chain = SimpleNamespace(chain=lambda name: SimpleNamespace(chain_id=1))
    settings = SimpleNamespace(chains={"c": chain}, relayer_key_file=None, gateway_name=name)
    async with contextlib.AsyncExitStack() as stack:
        try:
            addresses = await duplicate_gateway_check.taken_addresses(settings, None, pay_to=pay_to)
            await duplicate_gateway_check.hold_addresses(stack, settings, None, addresses=addresses)
        except duplicate_gateway_check.AlreadyRunning:
            print("refused", flush=True)
            return
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(hold(*sys.argv[1:]))
"""
"""A gateway's process, as far as it holds addresses: until its input ends."""


async def hold(stack: AsyncExitStack, lock: Path, *, name: str, books: str) -> str:
    """Starts one, and returns what it says: held or refused."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLDER, str(lock), name, books, ALICE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stack.push_async_callback(process.communicate, b"")
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (("a", "books"), ("b", "books"), "held"),
        (("a", "books"), ("b", "others"), "refused"),
        (("a", "books"), ("", "books"), "refused"),
        (("", "books"), ("b", "books"), "refused"),
        (("", "books"), ("", "others"), "refused"),
    ],
    ids=["shared", "others", "no-name-second", "no-name-first", "no-names"],
)
async def test_gateways_of_one_database_alone_hold_an_address_together(
    tmp_path: Path, first: tuple[str, str], second: tuple[str, str], said: str
) -> None:
    lock = tmp_path / "moorage/addresses.lock"
    async with AsyncExitStack() as stack:
        assert await hold(stack, lock, name=first[0], books=first[1]) == "held"
        assert await hold(stack, lock, name=second[0], books=second[1]) == said

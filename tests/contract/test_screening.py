"""The operator's check of a payment: a real command, a real URL, and all they can do wrong."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from moorage.errors import PaymentPending
from moorage.payments.taking.screening import Screening
from support.books.records_fixture import ALICE, PAY_TO, transfer
from support.gateway.waiting import until

LATE_SECONDS = 60.0
"""Long enough for a Python to start on a busy machine."""


def command(path: Path, source: str, **given: float) -> Screening:
    """A check that runs these lines of Python."""
    program = path / "screen.py"
    program.write_text(source)
    return Screening(
        (sys.executable, "-I", "-S", str(program)),
        timeout_seconds=given.get("timeout_seconds", LATE_SECONDS),
        environment={**os.environ, "MOORAGE_RELAYER_KEY": "secret"},
    )


async def test_without_a_check_everything_is_allowed() -> None:
    assert await Screening().ask(transfer()) is None


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("", None),
        ("print('refuse this one')", None),  # what counts is how it exits
        ("import sys; print('on a list'); sys.exit(1)", "on a list"),
        ("import sys; print('two\\nlines \\x1b[31m'); sys.exit(1)", "two lines [31m"),
        ("import sys; print('x' * 9_000); sys.exit(1)", "x" * 500),
        ("import sys; sys.stdout.buffer.write(b'\\xff!'); sys.exit(1)", "\ufffd!"),
        ("import sys; sys.stdin.close(); print('unread'); sys.exit(1)", "unread"),
    ],
)
async def test_command_says_yes_or_no_by_its_exit_code(
    tmp_path: Path, source: str, verdict: str | None
) -> None:
    assert await command(tmp_path, source).ask(transfer()) == verdict


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError",  # exits with 1, as any Python that crashes
        "import sys; sys.exit(2)",
        "import sys; print('no'); sys.exit(3)",
        "import os; os.kill(os.getpid(), 9)",
        "while True: print('y' * 1_000)",
        "import sys; print('y' * 100_000); sys.exit(1)",
    ],
)
async def test_command_that_fails_gives_no_verdict(tmp_path: Path, source: str) -> None:
    with pytest.raises(PaymentPending, match="Do not pay again"):
        await command(tmp_path, source).ask(transfer())


async def test_command_that_prints_without_end_leaves_no_pipe_open(tmp_path: Path) -> None:
    flooding = command(tmp_path, "while True: print('y' * 1_000)")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(PaymentPending):
            await flooding.ask(transfer())
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


@pytest.mark.parametrize("name", ["missing", "directory", "unexecutable", "a\0b"])
async def test_command_that_cannot_run_gives_no_verdict(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "unexecutable").write_text("#!/bin/sh\n")
    with pytest.raises(PaymentPending):
        await Screening((str(tmp_path / name),)).ask(transfer())


async def test_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    # A shell, as it starts in a moment: all of this is to be there before the time is over.
    script = f"sleep 600 & echo $$ $! > {tmp_path / 'pids'}; wait"
    hanging = Screening(("/bin/sh", "-c", script), timeout_seconds=4.0)
    with pytest.raises(PaymentPending):
        await hanging.ask(transfer())
    started = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    await until(lambda: not any(map(lives, started)))


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_command_is_told_everything_about_the_transfer_and_no_secret(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    screening = command(
        tmp_path,
        "import json, os, pathlib, sys\n"
        f"pathlib.Path({str(told)!r}).write_text(json.dumps([json.load(sys.stdin), *os.environ]))",
    )
    sent = transfer(ALICE, 10**30, decimals=18)
    assert await screening.ask(sent) is None
    document, *variables = json.loads(told.read_text())
    assert document == {
        "chain_id": 42161,
        "tx_hash": sent.tx_hash,
        "log_index": 0,
        "token": "usdc",
        "token_address": "0xaf88d065e77c8cc2239327c5edb3a432268e5831",
        "payer": ALICE,
        "amount": "1000000000000000000000000000000",
        "decimals": 18,
        "block_number": 7,
        "block_hash": sent.block_hash,
        "recipient": PAY_TO,
    }
    assert "PATH" in variables
    assert not [name for name in variables if name.startswith("MOORAGE_")]


@asynccontextmanager
async def url(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers every request so."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/screen"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"allow": true}', None),
        ('{"allow": true, "reason": "fine", "more": 1}', None),
        ('{"allow": false, "reason": "on a list"}', "on a list"),
        ('{"allow": false}', "refused by screening"),
    ],
)
async def test_url_says_yes_or_no(answer: str, verdict: str | None) -> None:
    sent = transfer()
    seen = []

    async def respond(request: web.Request) -> web.Response:
        seen.append((request.method, (await request.json())["tx_hash"]))
        return web.Response(text=answer)

    async with url(respond) as address:
        asked = Screening((address,), timeout_seconds=LATE_SECONDS)
        assert await asked.ask(sent) == verdict
    assert seen == [("POST", sent.tx_hash)]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, ""),
        (200, "allow"),
        (200, "{}"),
        (200, '{"allow": 1}'),
        (200, '{"allow": "true"}'),
        (200, '{"allow": null}'),
        (200, '{"a":' * 10_000),
        (200, '{"allow": true, "reason": "' + "x" * 100_000 + '"}'),
        (204, ""),
        (301, '{"allow": true}'),
        (403, '{"allow": false}'),
        (500, '{"allow": true}'),
    ],
)
async def test_url_that_answers_anything_else_gives_no_verdict(status: int, text: str) -> None:
    async def respond(request: web.Request) -> web.Response:
        headers = {"Location": "/elsewhere"} if status == 301 else {}
        return web.Response(status=status, text=text, headers=headers)

    async with url(respond) as address:
        with pytest.raises(PaymentPending):
            await Screening((address,)).ask(transfer())


async def test_url_that_hangs_gives_no_verdict() -> None:
    async def respond(request: web.Request) -> web.Response:
        await asyncio.sleep(600)
        return web.Response()

    async with url(respond) as address:
        with pytest.raises(PaymentPending):
            await Screening((address,), timeout_seconds=0.2).ask(transfer())


async def test_url_that_never_finishes_gives_no_verdict() -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    async with url(respond) as address:
        with pytest.raises(PaymentPending):
            await Screening((address,), timeout_seconds=0.2).ask(transfer())


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "nonsense", "http://"])
async def test_url_that_cannot_be_reached_gives_no_verdict(address: str) -> None:
    with pytest.raises(PaymentPending):
        await Screening((address,)).ask(transfer())

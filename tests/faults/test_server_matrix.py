"""A sample of the matrix with the books on a PostgreSQL server, and faults of that."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import books
import pytest
import pytest_asyncio
from cell import Cell
from stage import PATIENCE_SECONDS, Stage
from ways import WAYS

from support.books.postgres_fixture import PostgresServer
from support.books.postgres_relay import PostgresRelay, relaying
from support.gateway.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.root]

SENT = "sent"
"""Before the request."""

KILLED = "killed"
"""`kill -9` of the gateway."""

RESTARTED = "server-restarted"
"""The server ends as by a crash, and starts again: every connection is lost."""

UNANSWERED = "commit-unanswered"
"""The next transaction is committed, and the gateway's connection lost before it is told."""

FAULTS = (UNANSWERED, KILLED, RESTARTED)
MATRIX = [
    pytest.param(way, step, fault := FAULTS[(at + first) % len(FAULTS)], id=f"{way}-{step}-{fault}")
    for first, way in enumerate(("transaction", "x402"))
    for at, step in enumerate((SENT, *WAYS[way][1]))
]


@pytest.fixture(scope="module")
def named(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@pytest.fixture(scope="module")
def relay(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PostgresRelay, Path]]:
    directory = tmp_path_factory.mktemp("relay")
    with relaying(postgres_server.directory, directory) as relay:
        yield relay, directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    postgres_server: PostgresServer,
    named: str,
    relay: tuple[PostgresRelay, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    by_relay = postgres_server.url(named, directory=relay[1])
    directory = tmp_path_factory.mktemp("server-faults")
    direct = postgres_server.url(named)
    async with Stage(directory, database_url=by_relay, books_url=direct) as started:
        yield started


@pytest.mark.parametrize(("way", "step", "fault"), MATRIX)
async def test_money_is_credited_once_and_one_app_runs(
    stage: Stage,
    relay: tuple[PostgresRelay, Path],
    postgres_server: PostgresServer,
    way: str,
    step: str,
    fault: str,
) -> None:
    async def begin() -> None:
        if fault == UNANSWERED:
            relay[0].loses_next_commit = True
        else:
            await asyncio.to_thread(postgres_server.restart)

    await stage.recover()
    cell = Cell(stage)
    await cell.pay(WAYS[way][0])

    async with asyncio.timeout(PATIENCE_SECONDS):
        if fault == KILLED:
            await suffer_death(cell, step)
        elif step == SENT:
            await begin()
            await cell.send()
        else:
            stage.prompt.at(step, begin)
            await cell.send()

    settled = await cell.insist()
    # A claim whose commit was not answered is nobody's until its lease ends, a minute later.
    await until(
        lambda: set(books.deployments(stage, cell.wallet)) <= {"ready", "failed"},
        seconds=PATIENCE_SECONDS,
    )
    await cell.until_ready(settled)
    await cell.insist()
    await cell.check()
    assert not (stage.data_dir / "moorage.db").exists()


async def suffer_death(cell: Cell, step: str) -> None:
    """Die at a step, and start again."""
    if step == SENT:
        cell.stage.kill()
    else:
        cell.stage.prompt.at(step, None)
        await cell.send()
        await cell.stage.until_dead()
    await cell.stage.run()

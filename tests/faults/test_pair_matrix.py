"""A sample of the matrix with two gateways: one dies at a step, and the other has the retry."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import books
import pytest
import pytest_asyncio
from cell import Cell
from stage import PATIENCE_SECONDS, LightGateway, Second, Stage
from ways import WAYS

from support.books.postgres_fixture import PostgresServer
from support.gateway.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.root]

SENT = "sent"
"""Before the request."""

STEPS = {
    "transaction": (SENT, "credited", "build", "route"),
    "x402": ("settlement_signed", "settlement_sent", "credited", "start", "ready"),
}
MATRIX = [(way, step) for way, steps in STEPS.items() for step in steps]

Gateways = tuple[Stage, Second]


@pytest.fixture(scope="module")
def named(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateways(
    postgres_server: PostgresServer, named: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateways]:
    directory = tmp_path_factory.mktemp("pair-faults")
    url = postgres_server.url(named)
    async with AsyncExitStack() as opened:
        stage = Stage(directory, database_url=url, books_url=url, name="first")
        await opened.enter_async_context(stage)
        second = Second(stage, directory)
        await second.listen(opened, directory / "second.sock")
        opened.push_async_callback(second.end)
        await second.run()
        yield stage, second
        await stage.recover()
        await second.recover()


@pytest.mark.parametrize(("way", "step"), MATRIX)
async def test_other_gateway_ends_what_the_dead_one_began(
    gateways: Gateways, way: str, step: str
) -> None:
    for gateway in gateways:
        await gateway.recover()
    cell = Cell(gateways[0])
    await cell.pay(WAYS[way][0])

    survivor = await other_after_a_death(gateways, cell, step)
    cell.wallet.gateway = survivor
    settled = await cell.insist()
    await cell.until_ready(settled)
    await cell.insist()
    await cell.check()
    assert set(books.deployments(cell.stage, cell.wallet)) == {"ready"}


async def other_after_a_death(gateways: Gateways, cell: Cell, step: str) -> LightGateway:
    """Whoever comes to the step first dies there; returns the one that lives."""
    if step == SENT:
        gateways[0].kill()
    else:
        for gateway in gateways:
            gateway.prompt.at(step, None)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await cell.send()
            await until(lambda: not all(gateway.runs for gateway in gateways))
    (survivor,) = (gateway for gateway in gateways if gateway.runs)
    survivor.prompt.forget()
    return survivor

"""Each way to pay, each step of it, each fault: the money is credited once, and one app runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import books
import pytest
import pytest_asyncio
from cell import Cell
from eth_account import Account
from stage import BETWEEN_LOOKS_SECONDS, PATIENCE_SECONDS, Stage
from ways import PRICE, SETTLED_BY_THE_GATEWAY, WAYS, WORK

from faults import FAULTS, OF_THE_DATABASE, Fault, reorganised
from support.chains.paying import mine
from support.clients.wallet import fresh_name
from support.gateway.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.root, pytest.mark.spread("way")]

SENT = "sent"
"""Before the request: the fault is there when it comes."""

RESUMED = "settlement_mined"
"""A step of none of the ways: what a request settles may come to its end without it."""

KILLED = "killed"
"""`kill -9` of the gateway."""

REFUSED = "database refuses"
"""What the gateway logs when it cannot write. Twice: what it does about the first fails as well."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage(tmp_path_factory.mktemp("faults")) as started:
        yield started


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_passes_the_steps_that_the_matrix_is_made_of(
    stage: Stage, way: str
) -> None:
    pay, steps = WAYS[way]
    cell = Cell(stage)
    stage.prompt.steps.clear()
    await cell.pay(pay)

    await cell.until_ready(await cell.insist())

    # On a busy machine some of them twice: by a request that is sent again, or by the follow-up.
    first_times = dict.fromkeys(stage.prompt.steps)
    assert tuple(step for step in first_times if step != RESUMED) == steps


MATRIX = [
    pytest.param(way, step, fault, id=f"{way}-{step}-{fault}")
    for way, (_, steps) in WAYS.items()
    for step in (SENT, *steps)
    for fault in (KILLED, *FAULTS)
    if fault != KILLED or step not in WORK  # those deaths are below, with another `pay_to` after
]


@pytest.mark.parametrize(("way", "step", "fault"), MATRIX)
async def test_money_is_credited_once_and_one_app_runs(
    stage: Stage, way: str, step: str, fault: str
) -> None:
    await stage.recover()
    cell = Cell(stage)
    await cell.pay(WAYS[way][0])

    async with asyncio.timeout(PATIENCE_SECONDS):
        if fault == KILLED:
            await suffer_death(cell, step)
        else:
            await suffer(cell, step, FAULTS[fault])

    await cell.until_ready(await cell.insist())
    await cell.insist()
    await cell.check()


@pytest.mark.parametrize(
    ("way", "step"),
    [
        pytest.param(way, step, id=f"{way}-{step}")
        for way, (_, steps) in WAYS.items()
        for step in (SENT, *steps)
    ],
)
async def test_money_that_the_chain_forgets_is_settled_again_or_taken_back(
    stage: Stage, way: str, step: str
) -> None:
    await stage.recover()
    cell = Cell(stage)
    await cell.pay(WAYS[way][0])
    lasting = PRICE if way in SETTLED_BY_THE_GATEWAY else 0

    async with asyncio.timeout(PATIENCE_SECONDS):
        await suffer(cell, step, reorganised(1, forgets=True))
        while await in_the_books(cell) != (lasting, lasting):
            await mine(cell.rpc_url, apart_seconds=0)  # or the authorization expires meanwhile
            await asyncio.sleep(0.05)

    if lasting:
        settled = await cell.insist()
        await until(lambda: books.projects(stage, cell.wallet) == ["active"])  # woken, if need be
        await cell.until_ready(settled)
        await cell.check()
    else:
        await until(
            lambda: set(books.projects(stage, cell.wallet)) <= {"suspended"},
            pause_seconds=BETWEEN_LOOKS_SECONDS,
        )
        assert await stage.audit() == []


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize(
    ("way", "step"),
    [
        pytest.param(way, step, id=f"{way}-{step}")
        for way, (_, steps) in WAYS.items()
        for step in (SENT, *steps)
        if way not in SETTLED_BY_THE_GATEWAY or step != SENT  # or nothing was spent by then
    ],
)
async def test_money_paid_to_what_was_pay_to_is_credited_once(
    stage: Stage, way: str, step: str, depth: int
) -> None:
    """It dies at a step, blocks are replaced, and it is started with another `pay_to`."""
    await stage.recover()
    cell = Cell(stage)
    await cell.pay(WAYS[way][0])

    async with asyncio.timeout(PATIENCE_SECONDS):
        if step == SENT:
            stage.kill()
        else:
            stage.prompt.at(step, None)
            await cell.send()
            await stage.until_dead()
        if depth:
            async with reorganised(depth)(cell):
                pass
        await stage.run_with(Account.create().address)

    await cell.until_ready(await cell.insist())
    await cell.insist()
    await mine(cell.rpc_url, 3)
    await until(
        lambda: books.finality(stage, cell.wallet) == ["finalized"],
        pause_seconds=BETWEEN_LOOKS_SECONDS,
    )
    await cell.check()


@pytest.mark.parametrize("fault", [KILLED, *FAULTS])
async def test_money_that_comes_with_a_refused_request_is_credited_and_told(
    stage: Stage, fault: str
) -> None:
    """Somebody else has the name. The first answer may be that of the fault."""
    await stage.recover()
    rival = Cell(stage)
    await rival.pay(WAYS["transaction"][0])
    await rival.until_ready(await rival.insist())
    cell = Cell(stage)
    cell.name = rival.name
    await cell.pay(WAYS["transaction"][0])

    async with asyncio.timeout(PATIENCE_SECONDS):
        if fault == KILLED:
            await suffer_death(cell, SENT)
        else:
            await suffer(cell, SENT, FAULTS[fault])
        while (answer := await cell.send()) is None or answer.body["code"] != "name_unavailable":
            await asyncio.sleep(0.02)

    assert answer.body["payment"]["state"] == "credited", answer
    assert books.credited(stage, cell.wallet) == PRICE
    cell.name = fresh_name()
    await cell.until_ready(await cell.insist())
    await cell.check()


async def in_the_books(cell: Cell) -> tuple[int, int]:
    """What arrived from its wallet, and what the wallet was credited."""
    arrived = await books.arrived(cell.stage, cell.wallet)
    return arrived, books.credited(cell.stage, cell.wallet)


async def suffer_death(cell: Cell, step: str) -> None:
    """Die at a step, and start again."""
    if step == SENT:
        cell.stage.kill()
    else:
        cell.stage.prompt.at(step, None)
        await cell.send()
        await cell.stage.until_dead()
    await cell.stage.run()


async def suffer(cell: Cell, step: str, fault: Fault) -> None:
    """Have the fault from a step on, until the request is answered and something went wrong."""
    begun = asyncio.Event()
    already = len(cell.stage.log)
    async with AsyncExitStack() as lasting:

        async def begin() -> None:
            await lasting.enter_async_context(fault(cell))
            begun.set()

        if step == SENT:
            await begin()
        else:
            cell.stage.prompt.at(step, begin)
        answer = await cell.send()
        await begun.wait()
        if fault in OF_THE_DATABASE and answer is not None and answer.status == 200:
            await until(
                lambda: cell.stage.log[already:].count(REFUSED) > 1 or over(cell),
                pause_seconds=BETWEEN_LOOKS_SECONDS,
            )


def over(cell: Cell) -> bool:
    """Whether its deployment went through all the same."""
    return "ready" in books.deployments(cell.stage, cell.wallet)

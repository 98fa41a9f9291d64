"""Which write transactions wait for which, of gateways that share a PostgreSQL server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from sqlalchemy import bindparam, func, select

from moorage.ledger.ledger import credit_transfers
from moorage.ledger.transfer import Transfer
from moorage.money import AtomicUnits
from moorage.storage.database import Database, Statement
from moorage.storage.opening import open_database
from moorage.storage.schema import entries, wallets
from postgres_fixture import PostgresServer
from records_fixture import ALICE, BOB
from waiting import until

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
BALANCE = Statement(
    select(wallets.c.balance_micro_usd).where(wallets.c.address == bindparam("of_wallet"))
)
ENTRIES = Statement(select(func.count(), func.sum(entries.c.amount_micro_usd)))
TX = "0x" + "ab" * 32
MANY = [f"0x{number:040x}" for number in range(31)]


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
async def gateways(url: str) -> AsyncIterator[tuple[Database, Database]]:
    one, two = open_database(url), open_database(url)
    yield one, two
    for each in (one, two):
        each.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn


@pytest.fixture
async def outsider(url: str) -> AsyncIterator["asyncpg.Connection"]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def write(db: Database, *names: str) -> None:
    async with db.transaction(durable=True, of=names):
        pass


async def test_transactions_that_name_nothing_of_the_same_run_beside_each_other(
    gateways: tuple[Database, Database],
) -> None:
    one, two = gateways
    async with one.transaction(durable=True, of=[ALICE, TX]):
        await write(two, BOB)
        await write(one, BOB)


@pytest.mark.parametrize(
    ("first", "second"),
    [([ALICE], [BOB, ALICE]), ([ALICE], []), ([], [ALICE]), ([], []), (MANY, [ALICE])],
    ids=["of-the-same", "of-all-after-some", "of-some-after-all", "of-all", "of-very-many"],
)
async def test_transaction_waits_for_one_that_may_concern_it(
    gateways: tuple[Database, Database],
    outsider: "asyncpg.Connection",
    first: list[str],
    second: list[str],
) -> None:
    one, two = gateways

    async def one_waits() -> bool:
        return bool(await outsider.fetchval(WAITING) == 1)

    async with one.transaction(durable=True, of=first):
        waiting = asyncio.create_task(write(two, *second))
        await until(one_waits)
        assert not waiting.done()
    await waiting


async def test_names_in_any_order_never_wait_for_each_other_in_a_circle(
    gateways: tuple[Database, Database],
) -> None:
    one, two = gateways
    names = [f"0x{number:040x}" for number in range(8)]
    both = ((one, names), (two, names[::-1]))
    await asyncio.gather(*(write(db, *order) for db, order in both for _ in range(20)))


async def test_chain_transaction_that_two_payers_claim_at_once_is_credited_once(
    gateways: tuple[Database, Database],
) -> None:
    """Each comes to another gateway; what it brings all payers is credited by who is first."""
    rounds = 10
    for number in range(rounds):
        tx_hash = f"0x{number:064x}"
        brought = [transfer(payer, tx_hash, at) for at, payer in enumerate((ALICE, BOB))]

        async def credit(db: Database, transfers: list[Transfer] = brought) -> None:
            names = {transfers[0].tx_hash, *(each.payer for each in transfers)}
            async with db.transaction(durable=True, of=names) as tx:
                await credit_transfers(tx, transfers, now_ms=1)

        await asyncio.gather(*map(credit, gateways))
    one, two = gateways
    assert await one.one(BALANCE, of_wallet=ALICE) == (5_000_000 * rounds,)
    assert await two.one(BALANCE, of_wallet=BOB) == (5_000_000 * rounds,)
    assert await one.one(ENTRIES) == (2 * 2 * rounds, 0)


def transfer(payer: str, tx_hash: str, log_index: int) -> Transfer:
    return Transfer(
        chain_id=8453,
        tx_hash=tx_hash,
        log_index=log_index,
        token="usdc",
        token_address="0x" + "33" * 20,
        payer=payer,
        amount=AtomicUnits(5_000_000),
        decimals=6,
        block_number=1,
        block_hash="0x" + "cd" * 32,
        recipient="0x" + "44" * 20,
    )

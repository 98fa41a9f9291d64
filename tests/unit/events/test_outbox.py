"""Events are part of what happened: in its transaction, in its order, and cheap."""

from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy import func, select

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import RateLimited
from moorage.events.delivery import Destinations
from moorage.events.webhooks import Webhooks
from moorage.records.event import EventKind
from moorage.storage import events
from moorage.storage.database import Database, Row, Statement, Transaction, Value
from moorage.storage.schema import webhooks as table
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE, BOB, CAROL, GATEWAY, fund
from support.gateway.clock import HOUR_MS, START_MS, MovableClock

DAY_MS = 24 * 3_600_000
URL = "https://example.com/hook"
WEBHOOKS = Statement(select(func.count()).select_from(table))


@pytest.fixture
def webhooks(db: Database, clock: MovableClock) -> Webhooks:
    return Webhooks(
        db=db,
        destinations=Destinations(),
        vault=Vault([bytes(32)]),
        strangers=MemoryRateLimiter(clock=clock),
        clock=clock,
    )


async def tell(
    db: Database,
    wallet: str = ALICE,
    *,
    hours: int = 24,
    now_ms: int = START_MS,
    leave: bool = False,
) -> None:
    async with db.transaction(durable=False) as tx:
        await events.record(
            tx, wallet=wallet, kind=EventKind.CREDITS_LOW, data={"hours": hours}, now_ms=now_ms
        )
        if leave:
            raise ZeroDivisionError


async def sequences(db: Database, wallet: str = ALICE) -> list[int]:
    return [event.sequence for event in await events.of_wallet(db, wallet, after=0, limit=100)]


async def test_sequences_count_each_wallets_events_from_1(db: Database) -> None:
    for wallet in (ALICE, BOB, ALICE, ALICE, BOB):
        await tell(db, wallet)

    assert await sequences(db, ALICE) == [1, 2, 3]
    assert await sequences(db, BOB) == [1, 2]


async def test_event_of_a_transaction_that_is_left_never_happened(db: Database) -> None:
    await tell(db)
    with pytest.raises(ZeroDivisionError):
        await tell(db, leave=True)
    await tell(db)

    assert await sequences(db) == [1, 2]


async def test_page_begins_after_the_sequence_asked_for(db: Database) -> None:
    for hours in range(5):
        await tell(db, hours=hours)

    page = await events.of_wallet(db, ALICE, after=2, limit=2)

    assert [(event.sequence, event.data) for event in page] == [
        (3, {"hours": 2}),
        (4, {"hours": 3}),
    ]


class CountingTransaction(Transaction):
    """Counts the statements of another one."""

    def __init__(self, counted: Transaction) -> None:
        self.counted = counted
        self.count = 0

    async def one(self, statement: Statement, **given: Value) -> Row | None:
        self.count += 1
        return await self.counted.one(statement, **given)

    async def all(self, statement: Statement, **given: Value) -> list[Row]:
        self.count += 1
        return await self.counted.all(statement, **given)

    async def execute(self, statement: Statement, **given: Value) -> int:
        self.count += 1
        return await self.counted.execute(statement, **given)

    async def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Value]]) -> None:
        self.count += len(rows)
        await self.counted.execute_many(statement, rows)


async def test_event_of_a_wallet_without_webhook_costs_two_statements(db: Database) -> None:
    async with db.transaction(durable=False) as tx:
        counting = CountingTransaction(tx)
        await events.record(
            counting, wallet=ALICE, kind=EventKind.CREDITS_LOW, data={}, now_ms=START_MS
        )

    assert counting.count == 2
    assert await events.due(db, holder=GATEWAY, now_ms=START_MS, limit=10) == []


async def test_earlier_events_are_not_sent_to_a_new_webhook(
    db: Database, webhooks: Webhooks
) -> None:
    await tell(db, hours=1)
    await webhooks.set(ALICE, URL)
    assert await events.first_pending(db, ALICE) is None

    await tell(db, hours=2)

    first = await events.first_pending(db, ALICE)
    assert first is not None
    assert first.event.data == {"hours": 2}


async def test_events_are_forgotten_after_60_days_but_for_the_last(
    db: Database, webhooks: Webhooks, clock: MovableClock
) -> None:
    await tell(db, now_ms=START_MS)
    await tell(db, now_ms=START_MS + 1)
    await tell(db, BOB, now_ms=START_MS)
    clock.advance(60 * DAY_MS)
    await webhooks.prune()
    assert await sequences(db) == [1, 2]

    clock.advance(DAY_MS)
    await webhooks.prune()
    await tell(db, now_ms=clock.now_ms())

    assert await sequences(db) == [2, 3]  # the numbers go on
    assert await sequences(db, BOB) == [1]


async def test_event_that_waits_for_its_delivery_is_not_forgotten(
    db: Database, webhooks: Webhooks, clock: MovableClock
) -> None:
    await webhooks.set(ALICE, URL)
    for _ in range(3):
        await tell(db)
    clock.advance(100 * DAY_MS)

    await webhooks.prune()
    assert await sequences(db) == [1, 2, 3]

    await webhooks.remove(ALICE)
    await webhooks.prune()
    assert await sequences(db) == [3]


async def test_webhooks_of_fresh_keys_are_bounded_by_address_and_kept_for_an_hour(
    db: Database, clock: MovableClock
) -> None:
    webhooks = Webhooks(
        db=db,
        destinations=Destinations(),
        vault=Vault([bytes(32)]),
        strangers=MemoryRateLimiter(clock=clock, limit=3, window_seconds=3600),
        clock=clock,
    )
    for number in range(3):
        await webhooks.set(f"0x{number}", URL, stranger_at="here")
    with pytest.raises(RateLimited):
        await webhooks.set("0x3", URL, stranger_at="here")
    await webhooks.set(BOB, URL, stranger_at="elsewhere")
    await webhooks.set(CAROL, URL)
    assert await db.one(WEBHOOKS) == (5,)

    await fund(db, BOB, 1)
    await fund(db, CAROL, 1)
    clock.advance(HOUR_MS)
    await webhooks.prune()
    assert await db.one(WEBHOOKS) == (5,)
    clock.advance(1)
    await webhooks.prune()
    assert await db.one(WEBHOOKS) == (2,)
    await webhooks.set("0x3", URL, stranger_at="here")

"""Two gateways on one database: whatever both would do happens once."""

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from moorage.events.delivery import DeliveryWorker, Destinations, Sender
from moorage.records.event import EventKind, Webhook
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.money import relays
from moorage.storage.vault import Vault
from support.books.faulty_database import FaultyDatabase
from support.books.overtaken import OvertakenDatabase
from support.books.records_fixture import ALICE, GATEWAY, OTHER_GATEWAY
from support.books.yielding import YieldingDatabase
from support.gateway.clock import START_MS, MovableClock
from support.gateway.waiting import until

VAULT = Vault([bytes(32)])
RELAYER = "0x" + "5e" * 20


async def nowhere(host: str) -> list[str]:
    raise AssertionError(f"{host} is not to be looked up")


class Receiver(Sender):
    """Answers 200, once it is let."""

    def __init__(self) -> None:
        super().__init__(destinations=Destinations(), resolve=nowhere)
        self.received: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        self.received.append(body)
        await self.open.wait()
        return 200


@pytest.fixture
def other_db(db_path: Path) -> Iterator[Database]:
    with closing(YieldingDatabase(db_path)) as database:
        yield database


@pytest.fixture
async def receiver(db: Database) -> Receiver:
    webhook = Webhook(ALICE, "https://a.example", VAULT.seal_secret("whsec_", ALICE), START_MS)
    async with db.transaction(durable=False) as tx:
        await events.set_webhook(tx, webhook)
    return Receiver()


def worker(db: Database, receiver: Receiver, holder: str, clock: MovableClock) -> DeliveryWorker:
    return DeliveryWorker(
        db=db, sender=receiver, vault=VAULT, at_once=4, holder=holder, clock=clock
    )


async def tell(db: Database) -> None:
    async with db.transaction(durable=False) as tx:
        await events.record(tx, wallet=ALICE, kind=EventKind.CREDITS_LOW, data={}, now_ms=START_MS)


async def waiting(db: Database) -> int:
    return (await events.delivery_state(db, ALICE)).waiting


async def test_event_is_sent_by_one_of_them(
    db: Database, other_db: Database, receiver: Receiver, clock: MovableClock
) -> None:
    both = [worker(db, receiver, GATEWAY, clock), worker(other_db, receiver, OTHER_GATEWAY, clock)]
    for number in range(1, 6):
        await tell(db)
        for _ in range(3):
            await asyncio.gather(*(one.begin_due() for one in both))
        await until(lambda: is_sent(db))
        assert len(receiver.received) == number


async def is_sent(db: Database) -> bool:
    return await waiting(db) == 0


async def test_event_of_a_gateway_that_is_gone_is_sent_by_the_other_a_minute_later(
    db: Database, other_db: Database, receiver: Receiver, clock: MovableClock
) -> None:
    await tell(db)
    receiver.open.clear()
    await worker(db, receiver, GATEWAY, clock).begin_due()  # and it ends before it notes anything
    await until(lambda: len(receiver.received) == 1)
    others = Receiver()
    second = worker(other_db, others, OTHER_GATEWAY, clock)
    await second.begin_due()
    clock.advance(59_999)
    await second.begin_due()
    assert others.received == []
    clock.advance(1)
    await second.begin_due()
    await until(lambda: is_sent(other_db))
    assert others.received == receiver.received


async def test_outcome_of_a_claim_that_ran_out_is_not_noted(
    db: Database, other_db: Database, receiver: Receiver, clock: MovableClock
) -> None:
    """The other gateway sends it too, as nobody knows; it alone says what comes next."""
    await tell(db)
    await tell(db)
    receiver.open.clear()
    first = worker(db, receiver, GATEWAY, clock)
    await first.begin_due()
    await until(lambda: len(receiver.received) == 1)
    clock.advance(60_000)
    others = Receiver()
    others.open.clear()
    await worker(other_db, others, OTHER_GATEWAY, clock).begin_due()
    await until(lambda: len(others.received) == 1)
    receiver.open.set()
    await first.begin_due()
    await asyncio.sleep(0)
    assert await waiting(db) == 2
    others.open.set()
    await until(lambda: one_waits(db))
    assert others.received == receiver.received


async def one_waits(db: Database) -> bool:
    return await waiting(db) == 1


async def claim_nonce(db: Database, subject_id: str) -> int:
    async with db.transaction(durable=True) as tx:
        return await relays.claim_nonce(
            tx, chain_id=1, sender=RELAYER, min_=7, subject_id=subject_id
        )


async def test_nonce_is_one_subjects(db: Database, db_path: Path) -> None:
    """Though another gateway claims one between a claim's read and its write."""
    theirs: list[int] = []

    async def claim_first() -> None:
        theirs.append(await claim_nonce(db, "a"))

    with closing(OvertakenDatabase(db_path, claim_first)) as overtaken:
        assert await claim_nonce(overtaken, "b") == 8
    assert theirs == [7]


async def test_forty_nonces_at_once_are_forty(db: Database, other_db: Database) -> None:
    nonces = await asyncio.gather(
        *(claim_nonce((db, other_db)[number % 2], f"{number}") for number in range(40))
    )
    assert sorted(nonces) == list(range(7, 47))


async def test_events_of_a_wallet_have_one_order(db: FaultyDatabase, other_db: Database) -> None:
    await asyncio.gather(*(tell((db, other_db)[number % 2]) for number in range(20)))
    found = await events.of_wallet(db, ALICE, after=0, limit=100)
    assert [event.sequence for event in found] == list(range(1, 21))
    with pytest.raises(sqlite3.IntegrityError):
        db.sql("UPDATE events SET sequence = 1 WHERE sequence = 2")

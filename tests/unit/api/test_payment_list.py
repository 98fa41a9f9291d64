"""What a wallet is told of its payments."""

from typing import Any

import pytest

from moorage.address import checksum_address
from moorage.api.http.caller import answered
from moorage.api.money import list_payments
from moorage.errors import InvalidField
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.records.payments import Finality, Refund, RefundStatus
from moorage.storage.database import Database
from moorage.storage.money import payments, refunds
from support.books.records_fixture import ALICE, ARBITRUM, BOB, PAY_TO, USDC, transfer
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock

GONE = "0x" + "f1" * 32


class Asking(Believed):
    """Asks for ALICE's payments, whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        super().__init__(db, clock, chains={"arbitrum": ARBITRUM})

    async def __call__(self, query: str = "") -> dict[str, Any]:
        return body_of(await answered(list_payments, self.room, request_of(query)))


@pytest.fixture
def ask(db: Database, clock: MovableClock) -> Asking:
    return Asking(db, clock)


async def pay(db: Database, wallet: str, amount: int, *, at_ms: int = START_MS) -> str:
    made = transfer(wallet, amount)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [made], now_ms=at_ms)
    return made.tx_hash


async def test_wallet_sees_its_own_payments_newest_first(db: Database, ask: Asking) -> None:
    first = await pay(db, ALICE, 1_500_000)
    await pay(db, BOB, 7_000_000, at_ms=START_MS + 1)
    last = await pay(db, ALICE, 500_001, at_ms=START_MS + 2)
    told = (await ask())["payments"]
    assert [each["tx_hash"] for each in told] == [last, first]
    assert [each["amount"] for each in told] == ["0.500001", "1.500000"]
    assert told[0] | {"at": ""} == {
        "chain": "arbitrum",
        "chain_id": ARBITRUM.chain_id,
        "tx_hash": last,
        "log_index": 0,
        "token": "usdc",
        "amount": "0.500001",
        "credited_micro_usd": 500_001,
        "pay_to": checksum_address(PAY_TO),
        "status": "credited",
        "at": "",
        "refunds": [],
    }


async def test_payment_tells_what_it_paid_for(db: Database, ask: Asking) -> None:
    tx_hash = await pay(db, ALICE, 500_000)
    async with db.transaction(durable=True) as tx:
        for wallet, project in ((ALICE, "mine"), (BOB, "another's")):
            await payments.add_use(
                tx,
                chain_id=ARBITRUM.chain_id,
                tx_hash=tx_hash,
                wallet=wallet,
                project_id=project,
                deployment_id=f"{project}, deployed",
            )
    (told,) = (await ask())["payments"]
    assert (told["projectId"], told["deploymentId"]) == ("mine", "mine, deployed")


async def test_payment_tells_what_went_back(db: Database, ask: Asking) -> None:
    tx_hash = await pay(db, ALICE, 500_000)
    sent_back = Refund(
        id="r",
        chain_id=ARBITRUM.chain_id,
        tx_hash=tx_hash,
        log_index=0,
        recipient=ALICE,
        token_address=USDC.key,
        amount_atomic="200000",
        debited_micro_usd=MicroUsd(200_000),
        reason="asked for",
        status=RefundStatus.SENT,
        refund_tx_hash=GONE,
        created_at_ms=START_MS,
        ended_at_ms=None,
        finality=Finality.PROVISIONAL,
    )
    async with db.transaction(durable=True) as tx:
        await refunds.add(tx, sent_back)
    (told,) = (await ask())["payments"]
    (refund,) = told["refunds"]
    assert (refund["amount"], refund["status"], refund["tx_hash"]) == ("0.200000", "sent", GONE)


async def test_pages_hold_every_payment_once_also_of_one_moment(db: Database, ask: Asking) -> None:
    paid = [await pay(db, ALICE, 500_000, at_ms=START_MS + number // 3) for number in range(7)]
    seen: list[str] = []
    query = "limit=2"
    for _ in range(4):
        page = await ask(query)
        seen += [each["tx_hash"] for each in page["payments"]]
        query = f"limit=2&before={page['next']}"
    assert page["next"] is None
    assert sorted(seen) == sorted(paid)


@pytest.mark.parametrize("query", ["before=1", "before=0x", "limit=0", "limit=101"])
async def test_queries_beyond_their_rules_are_refused(ask: Asking, query: str) -> None:
    with pytest.raises(InvalidField):
        await ask(query)

"""What a wallet is told of its payments, and how often."""

from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.money import payments
from support.books.records_fixture import ALICE, BOB, transfer
from support.gateway.clock import START_MS


async def credit(db: Database, *sent: Transfer, held: dict[str, str] | None = None) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, sent, held=held or {}, now_ms=START_MS)


async def kinds(db: Database, wallet: str = ALICE) -> list[str]:
    return [event.kind for event in await events.of_wallet(db, wallet, after=0, limit=100)]


async def test_payment_is_told_once_with_what_it_brought(db: Database) -> None:
    sent = transfer(ALICE, 1_250_000)
    await credit(db, sent)
    await credit(db, sent)

    (event,) = await events.of_wallet(db, ALICE, after=0, limit=100)
    assert event.kind == "payment.credited"
    assert event.data == {
        "chain_id": 42161,
        "tx_hash": sent.tx_hash,
        "log_index": 0,
        "token": "usdc",
        "amount_token": "1250000",
        "amount_usd": 1.25,
    }


async def test_each_payer_is_told_of_their_own(db: Database) -> None:
    await credit(db, transfer(ALICE), transfer(BOB))
    assert (await kinds(db, ALICE), await kinds(db, BOB)) == (["payment.credited"],) * 2


async def test_held_payment_is_told_as_held(db: Database) -> None:
    await credit(db, transfer(ALICE), held={ALICE: "on a list"})
    assert await kinds(db) == ["payment.held"]


async def test_reversal_is_told_once_and_the_return_again(db: Database) -> None:
    sent = transfer(ALICE)
    await credit(db, sent)
    for _ in range(2):
        async with db.transaction(durable=True) as tx:
            payment = await payments.one(tx, (sent.chain_id, sent.tx_hash, 0))
            assert payment is not None
            await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    await credit(db, sent)

    assert await kinds(db) == ["payment.credited", "payment.reversed", "payment.credited"]

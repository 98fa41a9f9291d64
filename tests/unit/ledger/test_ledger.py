import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select

from moorage.errors import UniqueViolation, WriteConflict
from moorage.ledger import ledger
from moorage.ledger.ledger import (
    EARNED,
    REFUNDED,
    Transfer,
    held_account,
    received_account,
    wallet_account,
)
from moorage.money import AtomicUnits, MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.payments import Payment, PaymentStatus
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.money import accounts
from moorage.storage.money import payments as stored
from moorage.storage.schema import entries, payments
from support.books.busy_books import refund_part
from support.books.records_fixture import ALICE, ARBITRUM, BOB, CAROL, fresh_hash, transfer
from support.gateway.clock import START_MS

ENTRIES = Statement(select(entries.c.posting_id, entries.c.account, entries.c.amount_micro_usd))
AMOUNTS = Statement(select(payments.c.amount_atomic, payments.c.credited_micro_usd))


async def credit(db: Database, *sent: Transfer, held: dict[str, str] | None = None) -> int:
    """What the first one's payer gained."""
    async with db.transaction(durable=True) as tx:
        gained = await ledger.credit_transfers(tx, sent, held=held or {}, now_ms=START_MS)
    return gained.get(sent[0].payer, 0)


async def burn(db: Database, wallet: str, amount: int, posting_id: str) -> int:
    async with db.transaction(durable=True) as tx:
        owed = ledger.Burn("p", wallet, MicroUsd(amount), posting_id, START_MS)
        (burned,) = await ledger.burn(tx, [owed], now_ms=START_MS)
    return burned.taken


async def change_balance(db: Database, wallet: str, amount: int) -> bool:
    async with db.transaction(durable=True) as tx:
        return await accounts.change_balance(tx, wallet, amount)


async def audited(db: Database) -> list[str]:
    async with db.snapshot() as snapshot:
        _, found = await audit_books(snapshot, [ARBITRUM])
    return [f"{each.row} {each.problem}" for each in found]


async def check_books(db: Database, **balances: int) -> None:
    """The ledger sums to zero, and the cached balances are the sums of their accounts."""
    assert await accounts.sum_of_entries(db) == 0
    for name, expected in balances.items():
        wallet = {"alice": ALICE, "bob": BOB, "carol": CAROL}[name]
        assert await accounts.balance(db, wallet) == expected
        assert await accounts.sum_of_account(db, wallet_account(wallet)) == expected


async def test_transfer_is_booked_twice_with_a_sum_of_zero(db: Database) -> None:
    sent = transfer(ALICE, 500_000)
    assert await credit(db, sent) == 500_000

    posting = f"payment:42161:{sent.tx_hash}:0"
    assert sorted(await db.all(ENTRIES)) == [
        (posting, "received:42161:usdc", -500_000),
        (posting, f"wallet:{ALICE}", 500_000),
    ]
    await check_books(db, alice=500_000)


async def test_replayed_transfer_credits_once(db: Database) -> None:
    sent = transfer(ALICE, 500_000)
    outcomes = [await credit(db, sent) for _ in range(3)]
    assert outcomes == [500_000, 0, 0]
    await check_books(db, alice=500_000)


async def test_forty_credits_of_one_transfer_at_once_credit_once(db: Database) -> None:
    sent = transfer(ALICE, 500_000)
    outcomes = await asyncio.gather(*(credit(db, sent) for _ in range(40)))
    assert sorted(outcomes) == [0] * 39 + [500_000]
    await check_books(db, alice=500_000)


async def test_same_hash_on_another_chain_or_in_another_log_is_other_money(db: Database) -> None:
    shared = fresh_hash()
    for changed in ({}, {"log_index": 1}, {"chain_id": 8453}):
        assert await credit(db, transfer(ALICE, 10, tx_hash=shared, **changed)) == 10
    await check_books(db, alice=30)
    assert await accounts.sum_of_account(db, received_account(8453, "usdc")) == -10


async def test_several_payers_of_one_transaction_are_each_credited_their_share(
    db: Database,
) -> None:
    shared = fresh_hash()
    sent = [
        transfer(wallet, amount, tx_hash=shared, log_index=index)
        for index, (wallet, amount) in enumerate([(ALICE, 3), (BOB, 5), (ALICE, 4)])
    ]
    async with db.transaction(durable=True) as tx:
        received = await ledger.credit_transfers(tx, sent, now_ms=START_MS)
        again = await ledger.credit_transfers(tx, sent, now_ms=START_MS)
    assert received == {ALICE: 7, BOB: 5}
    assert again == {}
    await check_books(db, alice=7, bob=5, carol=0)


@pytest.mark.parametrize(
    ("amount", "decimals", "credited"),
    [
        (10**19, 18, 10_000_000),  # ten dollars of a token with 18 decimals exceed 64 bits
        (10**12 * 10**18, 18, 10**18),  # the most that one transfer may be
        (999_999_999_999, 18, 0),  # less than a micro-USD, rounded down
        (1_000_000_000_001, 18, 1),
        (7, 2, 70_000),
        (3, 0, 3_000_000),
    ],
)
async def test_tokens_of_any_decimals_are_credited_rounded_down(
    db: Database, amount: int, decimals: int, credited: int
) -> None:
    sent = transfer(ALICE, AtomicUnits(amount), decimals=decimals)
    assert await credit(db, sent) == credited
    assert await db.all(AMOUNTS) == [(str(amount), credited)]
    await check_books(db, alice=credited)


async def test_failed_transaction_credits_nothing_and_the_transfer_counts_later(
    db: Database,
) -> None:
    sent = transfer(ALICE, 500_000)

    async def credit_and_fail(tx: Transaction) -> None:
        await ledger.credit_transfers(tx, [sent], now_ms=START_MS)
        raise OSError("the power went out")

    with pytest.raises(OSError, match="power"):
        await in_transaction(db, credit_and_fail)
    await check_books(db, alice=0)
    assert await credit(db, sent) == 500_000
    await check_books(db, alice=500_000)


async def in_transaction(db: Database, work: Callable[[Transaction], Awaitable[None]]) -> None:
    async with db.transaction(durable=True) as tx:
        await work(tx)


async def test_burn_moves_credits_to_what_was_earned(db: Database) -> None:
    await credit(db, transfer(ALICE, 100))
    assert await burn(db, ALICE, 30, "burn:1") == 30
    await check_books(db, alice=70)
    assert await accounts.sum_of_account(db, EARNED) == 30


async def test_burn_takes_no_more_than_there_is(db: Database) -> None:
    await credit(db, transfer(ALICE, 100))
    assert await burn(db, ALICE, 130, "burn:1") == 100
    assert await burn(db, ALICE, 1, "burn:2") == 0
    assert await burn(db, BOB, 1, "burn:3") == 0
    await check_books(db, alice=0, bob=0)


async def test_burn_of_nothing_books_nothing(db: Database) -> None:
    await credit(db, transfer(ALICE, 100))
    before = await db.all(ENTRIES)
    assert await burn(db, ALICE, 0, "burn:1") == 0
    assert await db.all(ENTRIES) == before


async def test_same_burn_twice_is_refused_and_changes_nothing(db: Database) -> None:
    await credit(db, transfer(ALICE, 100))
    await burn(db, ALICE, 30, "burn:1")
    with pytest.raises(UniqueViolation):
        await burn(db, ALICE, 30, "burn:1")
    await check_books(db, alice=70)


async def test_forty_debits_at_once_have_as_many_winners_as_the_balance_allows(
    db: Database,
) -> None:
    await credit(db, transfer(ALICE, 10 * 7 + 6))
    won = await asyncio.gather(*(change_balance(db, ALICE, -7) for _ in range(40)))
    assert won.count(True) == 10
    assert await accounts.balance(db, ALICE) == 6


async def test_forty_burns_at_once_take_exactly_the_balance(db: Database) -> None:
    await credit(db, transfer(ALICE, 76))
    taken = await asyncio.gather(*(burn(db, ALICE, 7, f"burn:{n}") for n in range(40)))
    assert sorted(taken) == [0] * 29 + [6] + [7] * 10
    await check_books(db, alice=0)
    assert await accounts.sum_of_account(db, EARNED) == 76


async def test_balance_that_is_out_of_step_with_the_books_stops_the_booking(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await credit(db, transfer(ALICE, 100))

    async def lying(*_: object) -> MicroUsd:
        return MicroUsd(1_000)

    monkeypatch.setattr(accounts, "balance", lying)
    with pytest.raises(WriteConflict):
        await burn(db, ALICE, 130, "burn:1")
    monkeypatch.undo()
    await check_books(db, alice=100)


async def test_posting_that_does_not_sum_to_zero_is_refused(db: Database) -> None:
    amounts = {"a": 1, "b": -2}
    with pytest.raises(ValueError, match="sum to zero"):
        async with db.transaction(durable=True) as tx:
            await accounts.add_posting(tx, posting_id="p", kind="burn", amounts=amounts, now_ms=1)
    with pytest.raises(ValueError, match="sum to zero"):
        async with db.transaction(durable=True) as tx:
            await accounts.add_postings(tx, kind="burn", amounts={"p": amounts}, now_ms=1)
    assert await accounts.sum_of_entries(db) == 0


BLOCK_A, BLOCK_B = "0x" + "aa" * 32, "0x" + "bb" * 32


async def reverse(db: Database, sent: Transfer) -> int:
    async with db.transaction(durable=True) as tx:
        (payment,) = await stored.of_transaction(tx, chain_id=sent.chain_id, tx_hash=sent.tx_hash)
        return await ledger.reverse_payment(tx, payment, now_ms=START_MS)


async def test_transaction_moved_to_another_block_is_credited_once(db: Database) -> None:
    shared = fresh_hash()
    first = transfer(ALICE, 70, tx_hash=shared, log_index=3, block_hash=BLOCK_A)
    moved = transfer(ALICE, 70, tx_hash=shared, log_index=5, block_hash=BLOCK_B)
    assert await credit(db, first) == 70
    assert await credit(db, moved) == 0
    await check_books(db, alice=70)
    assert await accounts.sum_of_account(db, received_account(42161, "usdc")) == -70


async def test_moved_transaction_that_pays_another_amount_leaves_that_amount(db: Database) -> None:
    shared = fresh_hash()
    await credit(db, transfer(ALICE, 70, tx_hash=shared, block_hash=BLOCK_A))
    await credit(db, transfer(BOB, 60, tx_hash=shared, block_hash=BLOCK_B))
    await check_books(db, alice=0, bob=60)


async def test_transfers_swapped_by_a_reorganisation_are_each_credited_once(db: Database) -> None:
    shared = fresh_hash()

    def both(block: str, *order: str) -> list[Transfer]:
        amounts = {ALICE: 3, BOB: 5}
        return [
            transfer(wallet, amounts[wallet], tx_hash=shared, log_index=index, block_hash=block)
            for index, wallet in enumerate(order)
        ]

    for block, order in ((BLOCK_A, (ALICE, BOB)), (BLOCK_B, (BOB, ALICE)), (BLOCK_A, (ALICE, BOB))):
        await credit(db, *both(block, *order))
        await check_books(db, alice=3, bob=5)


async def test_reversal_takes_back_what_was_spent_too(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent)
    await burn(db, ALICE, 30, "burn:1")
    assert await reverse(db, sent) == 100
    await check_books(db, alice=-30)
    assert await burn(db, ALICE, 1, "burn:2") == 0


async def test_payment_to_a_wallet_that_owes_pays_its_debt_first(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent)
    await burn(db, ALICE, 30, "burn:1")
    await reverse(db, sent)
    assert await credit(db, transfer(ALICE, 20)) == 20
    await check_books(db, alice=-10)
    assert await credit(db, transfer(ALICE, 20)) == 20
    await check_books(db, alice=10)


async def test_payment_is_reversed_once(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent)
    assert [await reverse(db, sent) for _ in range(3)] == [100, 0, 0]
    await check_books(db, alice=0)


async def test_reversed_payment_that_comes_back_is_credited_again(db: Database) -> None:
    sent = transfer(ALICE, 100)
    for _ in range(3):
        assert await credit(db, sent) == 100
        assert await credit(db, sent) == 0
        assert await reverse(db, sent) == 100
    assert await credit(db, sent) == 100
    await check_books(db, alice=100)


async def test_held_payment_is_set_apart_and_not_credited(db: Database) -> None:
    sent = transfer(ALICE, 100)
    assert await credit(db, sent, held={ALICE: "on a list"}) == 0
    assert await credit(db, sent) == 0
    await check_books(db, alice=0)
    assert await accounts.sum_of_account(db, held_account(ALICE)) == 100
    assert await reverse(db, sent) == 0
    await check_books(db, alice=0)
    assert await accounts.sum_of_account(db, held_account(ALICE)) == 0


async def stored_payment(db: Database, sent: Transfer) -> Payment:
    (payment,) = await stored.of_transaction(db, chain_id=sent.chain_id, tx_hash=sent.tx_hash)
    return payment


async def release(db: Database, payment: Payment) -> int:
    async with db.transaction(durable=True) as tx:
        return await ledger.release(tx, payment, now_ms=START_MS)


async def refund(db: Database, payment: Payment, refund_id: str, amount: int) -> bool:
    async with db.transaction(durable=True) as tx:
        return await ledger.refund(
            tx, payment, refund_id=refund_id, amount=MicroUsd(amount), now_ms=START_MS
        )


async def undo(db: Database, payment: Payment, refund_id: str, amount: int) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.undo_refund(
            tx, payment, refund_id=refund_id, amount=MicroUsd(amount), now_ms=START_MS
        )


async def test_released_payment_is_credited_once(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent, held={ALICE: "on a list"})
    payment = await stored_payment(db, sent)
    assert [await release(db, payment) for _ in range(2)] == [100, 0]
    await check_books(db, alice=100)
    assert await accounts.sum_of_account(db, held_account(ALICE)) == 0


async def test_released_payment_is_reversed_from_the_balance(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent, held={ALICE: "on a list"})
    await release(db, await stored_payment(db, sent))
    assert await reverse(db, sent) == 100
    await check_books(db, alice=0)
    assert await accounts.sum_of_account(db, held_account(ALICE)) == 0


async def test_refund_takes_from_the_balance_what_is_there(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent)
    await burn(db, ALICE, 30, "burn:1")
    payment = await stored_payment(db, sent)
    assert not await refund(db, payment, "one", 71)
    assert await refund(db, payment, "two", 70)
    await check_books(db, alice=0)
    assert await accounts.sum_of_account(db, REFUNDED) == 70


async def test_held_payment_is_refunded_once_and_not_released_after(db: Database) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent, held={ALICE: "on a list"})
    payment = await stored_payment(db, sent)
    assert [await refund(db, payment, name, 100) for name in ("one", "two")] == [True, False]
    assert await release(db, payment) == 0
    await check_books(db, alice=0)
    assert await accounts.sum_of_account(db, REFUNDED) == 100


@pytest.mark.parametrize("held", [{}, {ALICE: "on a list"}])
async def test_refund_that_is_undone_leaves_everything_as_it_was(
    db: Database, held: dict[str, str]
) -> None:
    sent = transfer(ALICE, 100)
    await credit(db, sent, held=held)
    before = await stored_payment(db, sent)
    for name in ("one", "two"):
        assert await refund(db, before, name, 100)
        await undo(db, await stored_payment(db, sent), name, 100)
    assert await stored_payment(db, sent) == before
    await check_books(db, alice=0 if held else 100)
    assert await accounts.sum_of_account(db, REFUNDED) == 0


async def test_undone_refund_is_given_back_to_a_wallet_that_owes(db: Database) -> None:
    sent, lost = transfer(ALICE, 100), transfer(ALICE, 50)
    await credit(db, sent)
    await credit(db, lost)
    await burn(db, ALICE, 110, "burn:1")
    payment = await stored_payment(db, sent)
    assert await refund(db, payment, "one", 20)
    await reverse(db, lost)
    await undo(db, payment, "one", 20)
    await check_books(db, alice=-10)


async def test_credits_bought_for_another_wallet_are_its_own_wherever_the_chain_has_them(
    db: Database,
) -> None:
    shared = fresh_hash()
    sent = transfer(ALICE, 500_000, tx_hash=shared)
    await credit(db, sent)

    async def give(taker: str) -> bool:
        async with db.transaction(durable=True) as tx:
            (payment,) = [
                each
                for each in await stored.of_transaction(tx, chain_id=42161, tx_hash=shared)
                if each.status is PaymentStatus.CREDITED
            ]
            return await ledger.give(tx, payment, taker, now_ms=START_MS)

    assert await asyncio.gather(*(give(BOB) for _ in range(10))) == [True] * 10
    await check_books(db, alice=0, bob=500_000)
    assert await give(CAROL) is False  # it is Bob's
    assert await audited(db) == []

    moved = transfer(ALICE, 500_000, tx_hash=shared, log_index=3, block_hash=BLOCK_B)
    await credit(db, moved)
    await check_books(db, alice=0, bob=500_000)
    assert await audited(db) == []

    async with db.transaction(durable=True) as tx:
        refundable = await stored.refundable(tx, ALICE, purse=None, above=MicroUsd(0), limit=10)
        assert refundable == []  # or its payer would take Bob's credits back
        for payment in await stored.of_transaction(tx, chain_id=42161, tx_hash=shared):
            await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    await check_books(db, alice=0, bob=0)
    assert await audited(db) == []


async def test_what_is_sent_back_of_credits_bought_for_another_is_that_wallets(
    db: Database,
) -> None:
    sent = transfer(ALICE, 500_000)
    await credit(db, sent)
    payment = await stored_payment(db, sent)
    async with db.transaction(durable=True) as tx:
        assert await ledger.give(tx, payment, BOB, now_ms=START_MS)
    payment = await stored_payment(db, sent)
    async with db.transaction(durable=True) as tx:
        assert await refund_part(tx, payment, 200_000, now_ms=START_MS)
    await check_books(db, alice=0, bob=300_000)
    assert await audited(db) == []


async def test_credits_that_were_used_or_sent_back_are_given_to_nobody(db: Database) -> None:
    sent = transfer(ALICE, 500_000)
    await credit(db, sent)
    await burn(db, ALICE, 1, "burn:1")
    async with db.transaction(durable=True) as tx:
        (payment,) = await stored.of_transaction(tx, chain_id=42161, tx_hash=sent.tx_hash)
        assert not await ledger.give(tx, payment, BOB, now_ms=START_MS)
    await check_books(db, alice=499_999, bob=0)

"""Payments as an operator sees them: their states, the unusual first, each with its life."""

import msgspec
import pytest

from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.pages.operator.customers import WORDS, life_of, state_of
from moorage.records.payments import (
    Finality,
    Payment,
    PaymentStatus,
    Quote,
    Refund,
    RefundStatus,
)
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments, quotes, refunds
from moorage.storage.operation import audit_log, payment_list
from moorage.storage.operation.payment_list import ListedPayment, PaymentFilter
from support.books.records_fixture import ALICE, BOB, CAROL, add_deployment, add_project, transfer
from support.gateway.clock import HOUR_MS, MINUTE_MS, START_MS, MovableClock
from support.gateway.operator_pages import OperatorPages

NOW_MS = START_MS + HOUR_MS


async def paid(
    db: Database,
    payer: str = ALICE,
    *,
    at_ms: int = START_MS,
    held: str | None = None,
    finality: Finality = Finality.SAFE,
) -> Payment:
    """A payment of half a dollar."""
    sent = transfer(payer)
    async with db.transaction(durable=True) as tx:
        reasons = {payer: held} if held else {}
        await ledger.credit_transfers(tx, [sent], held=reasons, now_ms=at_ms)
        (payment,) = await payments.of_transaction(tx, chain_id=sent.chain_id, tx_hash=sent.tx_hash)
        await payments.set_finality(tx, payment, finality)
    return payment


async def use(db: Database, payment: Payment, *, name: str = "", after_ms: int = 0) -> None:
    """A request names it: for a deploy of `name`, or for a top-up."""
    project_id = deployment_id = None
    if name:
        project = await add_project(db, payment.payer, name)
        at_ms = payment.claimed_at_ms + after_ms
        deployment = await add_deployment(db, project, created_at_ms=at_ms)
        project_id, deployment_id = project.id, deployment.id
    async with db.transaction(durable=True) as tx:
        await payments.add_use(
            tx,
            chain_id=payment.chain_id,
            tx_hash=payment.tx_hash,
            wallet=payment.payer,
            project_id=project_id,
            deployment_id=deployment_id,
        )


async def quote(db: Database, wallet: str, *, received: int) -> None:
    async with db.transaction(durable=True) as tx:
        await quotes.add(
            tx,
            Quote(
                id=wallet,
                wallet=wallet,
                unique_name="half-paid",
                months=1,
                price_micro_usd=MicroUsd(900_000),
                received_micro_usd=MicroUsd(received),
                created_at_ms=START_MS,
                expires_at_ms=START_MS + 2 * HOUR_MS,
                promised_at_ms=START_MS,
                counted_micro_usd=MicroUsd(received),
            ),
        )


async def listed(db: Database, which: PaymentFilter = PaymentFilter.ALL) -> list[ListedPayment]:
    return await payment_list.page(db, which, now_ms=NOW_MS, limit=100)


async def states(db: Database, which: PaymentFilter = PaymentFilter.ALL) -> dict[str, str]:
    return {each.payment.tx_hash: state_of(each) for each in await listed(db, which)}


async def test_a_payment_is_called_by_what_became_of_it(db: Database) -> None:
    settled, topped_up, late, unclaimed = [await paid(db) for _ in range(4)]
    await use(db, settled, name="settled", after_ms=5 * MINUTE_MS)
    await use(db, topped_up)
    await use(db, late, name="late", after_ms=31 * MINUTE_MS)
    young = await paid(db, finality=Finality.PROVISIONAL)
    await use(db, young)
    held = await paid(db, BOB, held="on a list")
    partial = await paid(db, CAROL)
    await quote(db, CAROL, received=500_000)
    assert await states(db) == {
        settled.tx_hash: "settled",
        topped_up.tx_hash: "settled",
        late.tx_hash: "late",
        unclaimed.tx_hash: "unclaimed",
        young.tx_hash: "provisional",
        held.tx_hash: "held",
        partial.tx_hash: "partial",
    }
    unusual = [late, unclaimed, held, partial]
    assert set(await states(db, PaymentFilter.UNUSUAL)) == {each.tx_hash for each in unusual}


@pytest.mark.parametrize(
    ("which", "state"),
    [
        (PaymentFilter.HELD, "held"),
        (PaymentFilter.UNCLAIMED, "unclaimed"),
        (PaymentFilter.LATE, "late"),
        (PaymentFilter.REVERSED, "reversed"),
        (PaymentFilter.PROVISIONAL, "provisional"),
        (PaymentFilter.PARTIAL, "partial"),
    ],
)
async def test_a_filter_finds_the_payments_of_its_state(
    db: Database, which: PaymentFilter, state: str
) -> None:
    await paid(db, BOB, held="on a list")
    await use(db, await paid(db), name="late", after_ms=HOUR_MS)
    await use(db, await paid(db, finality=Finality.PROVISIONAL))
    if state != "partial":
        await paid(db)
    gone = await paid(db)
    async with db.transaction(durable=True) as tx:
        await ledger.reverse_payment(tx, gone, now_ms=START_MS)
    await paid(db, CAROL)
    if state == "partial":
        await quote(db, CAROL, received=500_000)
    found = set((await states(db, which)).values())
    assert found == {state}


async def test_states_have_words(db: Database) -> None:
    assert {each.value for each in PaymentStatus} - {"credited"} <= WORDS.keys()


async def test_long_lists_come_in_parts_the_newest_first(
    pages: OperatorPages, db: Database
) -> None:
    async with db.transaction(durable=True) as tx:
        for number in range(120):
            await ledger.credit_transfers(tx, [transfer(ALICE)], now_ms=START_MS + number)
    newest = [each.payment.tx_hash for each in await listed(db)]
    first = await pages.shown("/operator/payments?state=unclaimed")
    last = await pages.shown("/operator/payments?state=unclaimed&page=3")
    assert newest[0] in first
    assert newest[-1] not in first
    assert (
        newest[-1] in last or (await pages.shown("/operator/payments?page=3")).count("<tr>") == 21
    )
    assert "state=unclaimed&amp;page=2" in first
    assert "page=4" not in last
    assert newest[0] in await pages.shown(f"/operator/payments?page={'9' * 5000}")


async def test_payments_are_found_by_payer_and_by_transaction(
    pages: OperatorPages, db: Database
) -> None:
    hers, his = await paid(db, ALICE), await paid(db, BOB)
    for text in (BOB, his.tx_hash, his.tx_hash.upper().replace("0X", "0x")):
        found = await pages.shown(f"/operator/payments?q={text}")
        assert his.tx_hash in found
        assert hers.tx_hash not in found


async def test_the_life_of_a_payment_is_told_in_order(pages: OperatorPages, db: Database) -> None:
    payment = await paid(db)
    await use(db, payment, name="hello", after_ms=MINUTE_MS)
    (this,) = await listed(db)
    steps = life_of(this, settlements=(), refunds=(), events=())
    assert [step.title for step in steps] == [
        "It arrived",
        "It paid for a deploy of hello",
        "Its block is to become final",
    ]
    text = await pages.shown(f"/operator/payments/42161/{payment.tx_hash}/0")
    assert "payment.credited" in text  # what the payer was told
    assert "received:42161:usdc" in text  # what the ledger says


async def test_a_held_payment_is_released_for_a_reason_and_once(
    pages: OperatorPages, db: Database
) -> None:
    payment = await paid(db, BOB, held="on a list")
    path = f"/operator/payments/42161/{payment.tx_hash}/0"
    assert (await pages.post(f"{path}/release", reason="asked them")).status == 400  # not confirmed
    assert (await pages.post(f"{path}/release", confirmed="true")).status == 400  # no reason
    done = await pages.post(f"{path}/release", reason="asked them", confirmed="true")
    assert (done.status, done.location) == (303, f"{path}?done=released")
    assert list((await states(db)).values()) == ["unclaimed"]
    again = await pages.post(f"{path}/release", reason="asked them", confirmed="true")
    assert again.status == 400
    assert [(act.who, act.act, act.reason) for act in await audit_log.since(db, 0)] == [
        ("ann", "payments release", "asked them")
    ]


async def test_a_gateway_without_a_key_says_which_command_refunds(
    pages: OperatorPages, db: Database, clock: MovableClock
) -> None:
    payment = await paid(db)
    pages = OperatorPages(db, clock, settings=msgspec.structs.replace(pages.settings, data_dir="/"))
    path = f"/operator/payments/42161/{payment.tx_hash}/0"
    assert f"moorage operator refund {payment.tx_hash} --chain arbitrum" in await pages.shown(path)
    refused = await pages.post(f"{path}/refund", reason="why", confirmed="true", earlier="0")
    assert refused.status == 409
    assert await audit_log.since(db, 0) == []


async def test_what_a_customer_asked_back_is_declined_with_one_button(
    pages: OperatorPages, db: Database
) -> None:
    payment = await paid(db)
    refund = Refund(
        id="r",
        chain_id=payment.chain_id,
        tx_hash=payment.tx_hash,
        log_index=0,
        recipient=ALICE,
        token_address=payment.token_address,
        amount_atomic="100000",
        debited_micro_usd=MicroUsd(100_000),
        reason="asked for",
        status=RefundStatus.QUEUED,
        refund_tx_hash=None,
        created_at_ms=START_MS,
        ended_at_ms=None,
        finality=Finality.PROVISIONAL,
        request_id="q",
        gas_micro_usd=MicroUsd(10_000),
    )
    async with db.transaction(durable=True) as tx:
        await refunds.add(tx, refund)
        await ledger.refund(
            tx,
            payment,
            refund_id="r",
            amount=MicroUsd(100_000),
            gas=MicroUsd(10_000),
            now_ms=START_MS,
        )
    assert "/operator/refunds/q" in await pages.shown("/operator/refunds")
    path, given = "/operator/refunds/q", {"act": "decline", "reason": "fraud"}
    assert (await pages.post(path, **given)).status == 400  # not confirmed
    await pages.post(path, **given, confirmed="true")
    assert await accounts.balance(db, ALICE) == 500_000
    assert (await pages.post(path, **given, confirmed="true")).status == 409
    assert [(act.act, act.subject) for act in await audit_log.since(db, 0)] == [
        ("refund decline", "q")
    ]


async def test_an_unknown_payment_is_said_to_be_unknown(pages: OperatorPages) -> None:
    assert (await pages.get(f"/operator/payments/42161/0x{'0' * 64}/0")).status == 400

import asyncio

import msgspec
import pytest
from sqlalchemy import func, select

from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import (
    ChainUnavailable,
    DatabaseUnavailable,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentHeld,
    PaymentNotFound,
    PaymentPending,
    RateLimited,
)
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.money import MicroUsd
from moorage.operate.refunds import release
from moorage.payments.protocols.evidence import (
    Evidence,
    PaymentMeans,
    PaymentWay,
    TransactionEvidence,
)
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.paywall import Paywall
from moorage.records.payments import PaymentStatus
from moorage.storage.database import Statement
from moorage.storage.money import accounts
from moorage.storage.money import payments as stored
from moorage.storage.schema import payments
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    CAROL,
    USDC,
    USDT,
    fresh_hash,
    transfer,
)
from support.clients.quoting import Quoting
from support.gateway.clock import START_MS, MovableClock
from support.gateway.fakes import FakeSettlements, FakeVerifier, authorizes, paywall_of

BODY = "00" * 32
BASE = KNOWN_CHAINS["base"]
_, BASE_USDT = BASE.tokens
COUNT = Statement(select(func.count()).select_from(payments))


@pytest.fixture
def chain() -> FakeVerifier:
    return FakeVerifier()


@pytest.fixture
def paywall(db: FaultyDatabase, clock: MovableClock, chain: FakeVerifier) -> Paywall:
    return paywall_of(db, chain, clock, ARBITRUM)


def shows(tx_hash: str, token: str = "usdc") -> TransactionEvidence:
    found = ARBITRUM.token(token)
    assert found is not None
    return TransactionEvidence(PaymentMeans(chain=ARBITRUM, token=found), tx_hash)


async def take(
    paywall: Paywall, tx_hash: str, wallet: str = ALICE, token: str = "usdc"
) -> PaymentReceipt:
    return await paywall.take(
        shows(tx_hash, token), wallet=wallet, body_digest=BODY, unique_name="hello"
    )


async def use(db: FaultyDatabase, tx_hash: str, wallet: str = ALICE, project: str = "p") -> None:
    """As admission does when a deployment is queued for the payment."""
    async with db.transaction(durable=True) as tx:
        await stored.add_use(
            tx,
            chain_id=ARBITRUM.chain_id,
            tx_hash=tx_hash,
            wallet=wallet,
            project_id=project,
            deployment_id=f"{project}-1",
        )


async def test_payment_is_credited_in_full_to_its_payer(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 1_700_000))
    assert await take(paywall, paid) == PaymentReceipt(
        chain_id=42161,
        tx_hash=paid,
        payer=ALICE,
        credited=MicroUsd(1_700_000),
        at_ms=START_MS,
        way=PaymentWay.TX_HASH,
        chain="arbitrum",
        token="usdc",
    )
    assert await accounts.balance(db, ALICE) == 1_700_000


async def test_logs_of_one_transaction_are_summed(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    tx_hash = fresh_hash()
    chain.pays(*(transfer(ALICE, n, tx_hash=tx_hash, log_index=n) for n in (1, 2, 3)))
    assert (await take(paywall, tx_hash)).credited == 6
    assert await accounts.balance(db, ALICE) == 6
    assert await db.one(COUNT) == (3,)


async def test_hash_shown_again_before_it_paid_for_anything_brings_nothing_new(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    await take(paywall, paid)
    asked = chain.asked
    assert (await take(paywall, paid)).credited == 5  # so much it was, and is
    assert chain.asked == asked  # what is in the books is not asked of the chain again
    assert await accounts.balance(db, ALICE) == 5


async def test_hash_that_paid_for_a_deployment_is_refused_with_its_ids(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    await take(paywall, paid)
    await use(db, paid)
    with pytest.raises(PaymentAlreadyUsed) as refused:
        await take(paywall, paid)
    assert (refused.value.project_id, refused.value.deployment_id) == ("p", "p-1")


async def test_used_hash_shown_by_a_stranger_is_refused_without_ids(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    await take(paywall, paid)
    await use(db, paid)
    with pytest.raises(PaymentAlreadyUsed) as refused:
        await take(paywall, paid, BOB)
    assert (refused.value.project_id, refused.value.deployment_id) == (None, None)


async def test_anothers_payment_is_credited_to_who_paid_and_never_to_the_caller(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    for _ in range(2):
        with pytest.raises(PayerMismatch):
            await take(paywall, paid, BOB)
    assert await accounts.balance(db, ALICE) == 5
    assert await accounts.balance(db, BOB) == 0
    assert (await take(paywall, paid, ALICE)).credited == 5  # it is there, and may be used
    await use(db, paid)


@pytest.mark.parametrize(
    "fault",
    [
        PaymentPending(),
        PaymentNotFound("reverted", looked_for={}),
        ChainUnavailable(),
    ],
)
async def test_what_the_chain_does_not_confirm_records_nothing_and_works_later(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier, fault: Exception
) -> None:
    sent = transfer(ALICE, 5)
    chain.missing = fault
    with pytest.raises(type(fault)):
        await take(paywall, sent.tx_hash)
    assert await db.one(COUNT) == (0,)
    chain.pays(sent)
    assert (await take(paywall, sent.tx_hash)).credited == 5


async def test_database_that_is_away_records_nothing_and_the_hash_works_later(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    db.refuse_writes()
    with pytest.raises(DatabaseUnavailable):
        await take(paywall, paid)
    db.allow_writes()
    assert (await take(paywall, paid)).credited == 5


async def test_forty_requests_with_one_hash_credit_once(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    chain.gate = asyncio.Event()
    asking = [asyncio.create_task(take(paywall, paid)) for _ in range(40)]
    while chain.asked < 40:
        await asyncio.sleep(0)
    chain.gate.set()
    receipts = await asyncio.gather(*asking)
    assert {receipt.credited for receipt in receipts} == {5}
    assert await accounts.balance(db, ALICE) == 5


async def test_payers_who_share_a_transaction_each_use_their_own_share(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    """As a bundler of user operations (ERC-4337) sends them."""
    tx_hash = fresh_hash()
    chain.pays(
        transfer(ALICE, 5, tx_hash=tx_hash, log_index=0),
        transfer(BOB, 7, tx_hash=tx_hash, log_index=1),
    )
    assert (await take(paywall, tx_hash, ALICE)).credited == 5
    await use(db, tx_hash, ALICE, "alices")
    assert (await take(paywall, tx_hash, BOB)).credited == 7
    assert await accounts.balance(db, BOB) == 7
    await use(db, tx_hash, BOB, "bobs")

    for wallet, project in ((ALICE, "alices"), (BOB, "bobs"), (CAROL, None)):
        with pytest.raises(PaymentAlreadyUsed) as refused:
            await take(paywall, tx_hash, wallet)
        assert refused.value.project_id == project


async def test_two_tokens_of_one_transaction_are_both_credited(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    tx_hash = fresh_hash()
    chain.pays(
        transfer(ALICE, 5, tx_hash=tx_hash, log_index=0),
        transfer(ALICE, 7, tx_hash=tx_hash, log_index=1, token=USDT.name, token_address=USDT.key),
    )
    for named in (USDC, USDT):
        receipt = await take(paywall, tx_hash, token=named.name)
        assert (receipt.credited, receipt.token) == (12, "usdc,usdt")
    assert await accounts.balance(db, ALICE) == 12


@pytest.mark.parametrize("seen_before", [False, True])
async def test_payment_on_another_chain_than_the_headers_name_is_credited_once_and_used_there(
    db: FaultyDatabase, clock: MovableClock, chain: FakeVerifier, *, seen_before: bool
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM, BASE)
    chain.missing = PaymentPending()
    chain.missing.seen = False
    sent = transfer(ALICE, 5, chain_id=BASE.chain_id, token="usdt", token_address=BASE_USDT.key)
    paid = chain.pays(sent)
    if seen_before:  # by the watcher
        async with db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, [sent], now_ms=clock.now_ms())
    receipt = await take(paywall, paid)
    assert (receipt.chain_id, receipt.chain, receipt.token) == (8453, "base", "usdt")
    assert (await take(paywall, paid)).credited == 5
    assert await accounts.balance(db, ALICE) == 5
    async with db.transaction(durable=True) as tx:
        use = {"wallet": ALICE, "project_id": "p", "deployment_id": "d"}
        await stored.add_use(tx, chain_id=receipt.chain_id, tx_hash=paid, **use)
    with pytest.raises(PaymentAlreadyUsed) as used:
        await take(paywall, paid)
    assert used.value.project_id == "p"


async def test_payment_is_noted_on_the_quote_it_is_made_for(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier, clock: MovableClock
) -> None:
    quotes = Quoting(db, clock)
    price = MicroUsd(500_000)
    await quotes.offer(wallet=ALICE, unique_name="hello", months=1, price=price)
    await take(paywall, chain.pays(transfer(ALICE, 200_000)))
    quote = await quotes.offer(wallet=ALICE, unique_name="hello", months=1, price=price)
    assert quote.received_micro_usd == 200_000


async def test_credit_is_on_disk_before_it_is_told(
    db: FaultyDatabase, paywall: Paywall, chain: FakeVerifier
) -> None:
    await take(paywall, chain.pays(transfer(ALICE, 5)))
    assert db.sql("PRAGMA synchronous").fetchone() == (2,)


REFUSED = {5: "on a list"}
"""Amounts that screening refuses."""


async def refuse_some(sent: Transfer) -> str | None:
    return REFUSED.get(sent.amount)


async def test_refused_payment_is_recorded_and_its_payer_told_not_to_pay_again(
    db: FaultyDatabase, clock: MovableClock, chain: FakeVerifier
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM, screen=refuse_some)
    tx_hash = chain.pays(transfer(ALICE, 5))
    for _ in range(2):
        with pytest.raises(PaymentHeld, match="Do not pay again"):
            await take(paywall, tx_hash)
    (held,) = await stored.of_transaction(db, chain_id=ARBITRUM.chain_id, tx_hash=tx_hash)
    assert (held.status, held.held_reason) == (PaymentStatus.HELD, "on a list")
    assert await accounts.balance(db, ALICE) == 0


@pytest.mark.parametrize("amounts", [(2, 3), (3, 2)])
async def test_payer_is_judged_by_all_that_it_brings_in_a_transaction(
    db: FaultyDatabase, clock: MovableClock, chain: FakeVerifier, amounts: tuple[int, int]
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM, screen=refuse_some)
    shared = fresh_hash()
    tx_hash = chain.pays(
        *(transfer(ALICE, amount, tx_hash=shared, log_index=i) for i, amount in enumerate(amounts)),
        transfer(BOB, 7, tx_hash=shared, log_index=2),
    )
    with pytest.raises(PaymentHeld):
        await take(paywall, tx_hash)
    assert await accounts.balance(db, ALICE) == 0
    assert await accounts.balance(db, BOB) == 7


async def test_released_payment_pays_with_the_same_hash(
    db: FaultyDatabase, clock: MovableClock, chain: FakeVerifier
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM, screen=refuse_some)
    tx_hash = chain.pays(transfer(ALICE, 5))
    with pytest.raises(PaymentHeld):
        await take(paywall, tx_hash)
    await release(db, tx_hash, chain_ids={ARBITRUM.chain_id}, clock=clock, who="ann")
    assert (await take(paywall, tx_hash)).tx_hash == tx_hash
    assert await accounts.balance(db, ALICE) == 5


async def test_payment_without_a_verdict_is_pending_and_counts_later(
    db: FaultyDatabase, clock: MovableClock, chain: FakeVerifier
) -> None:
    verdicts: list[Exception | None] = [PaymentPending(), None]

    async def silent_once(_: Transfer) -> str | None:
        verdict = verdicts.pop(0)
        if verdict is not None:
            raise verdict
        return None

    paywall = paywall_of(db, chain, clock, ARBITRUM, screen=silent_once)
    tx_hash = chain.pays(transfer(ALICE, 5))
    with pytest.raises(PaymentPending):
        await take(paywall, tx_hash)
    assert await db.one(COUNT) == (0,)
    assert (await take(paywall, tx_hash)).credited == 5


# By authorization


@pytest.fixture
def settlements(chain: FakeVerifier) -> FakeSettlements:
    return FakeSettlements(chain)


@pytest.fixture
def settling(
    db: FaultyDatabase, chain: FakeVerifier, clock: MovableClock, settlements: FakeSettlements
) -> Paywall:
    return paywall_of(db, chain, clock, ARBITRUM, settlements=settlements)


async def authorize(paywall: Paywall, evidence: Evidence, wallet: str = ALICE) -> PaymentReceipt:
    return await paywall.take(evidence, wallet=wallet, body_digest=BODY, unique_name="hello")


async def test_authorization_is_settled_then_credited(
    db: FaultyDatabase, settling: Paywall, settlements: FakeSettlements
) -> None:
    evidence = authorizes()
    assert (await authorize(settling, evidence)).credited == 5
    assert (await authorize(settling, evidence)).credited == 5
    assert settlements.sent == 1
    assert await accounts.balance(db, ALICE) == 5


async def test_strangers_questions_to_a_chain_are_bounded_by_their_address(
    db: FaultyDatabase, chain: FakeVerifier, clock: MovableClock, settlements: FakeSettlements
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM, settlements=settlements, looks=2)
    unknown = TransactionEvidence(PaymentMeans(ARBITRUM, USDC), fresh_hash(), stranger_at="here")
    chain.missing = PaymentPending()
    for _ in range(4):
        with pytest.raises(PaymentPending):
            await authorize(paywall, unknown)
    assert chain.asked == 2
    with pytest.raises(RateLimited):
        await authorize(paywall, msgspec.structs.replace(authorizes(), stranger_at="here"))
    assert settlements.sent == 0
    assert (await authorize(paywall, authorizes())).credited == 5  # of a wallet that paid


async def test_anothers_authorization_is_not_settled(
    settling: Paywall, settlements: FakeSettlements
) -> None:
    with pytest.raises(PayerMismatch, match="not spent"):
        await authorize(settling, authorizes(), BOB)
    assert settlements.sent == 0


async def test_settlement_that_was_reverted_is_unknown_and_never_asks_to_pay(
    settling: Paywall, chain: FakeVerifier, settlements: FakeSettlements
) -> None:
    evidence = authorizes()
    receipt = await authorize(settling, evidence)
    other = authorizes()
    settled = await settlements.settle(
        chain=ARBITRUM, token=USDC, authorization=other.authorization, unique_name="hello"
    )
    del chain.transfers_of[settled]
    chain.missing = PaymentNotFound("reverted", looked_for={})
    with pytest.raises(PaymentPending, match="Do not pay again"):
        await authorize(settling, other)
    assert receipt.credited == 5


async def test_nobody_is_asked_to_pay_while_a_settlement_is_unknown(
    settling: Paywall, settlements: FakeSettlements
) -> None:
    await settling.refuse_while_unsettled(ALICE)
    settlements.pending.add(ALICE)
    with pytest.raises(PaymentPending, match="Do not pay again"):
        await settling.refuse_while_unsettled(ALICE)
    await settling.refuse_while_unsettled(BOB)


async def test_held_payment_says_so_and_brings_nothing(
    db: FaultyDatabase, chain: FakeVerifier, clock: MovableClock
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM, screen=refuse)
    paid = chain.pays(transfer(ALICE, 5))
    for _ in range(2):
        with pytest.raises(PaymentHeld):
            await take(paywall, paid)
    assert await accounts.balance(db, ALICE) == 0


async def refuse(_transfer: Transfer) -> str:
    return "on a list"

"""Once money is in the books, or may be on its way, nobody is answered as if it were not."""

from typing import Any

import msgspec
import pytest

from moorage.errors import (
    DatabaseUnavailable,
    PaymentAlreadyUsed,
    PaymentHeld,
    PaymentNotFound,
    PaymentPending,
)
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols import mpp
from moorage.payments.protocols.authorization import encode_base64url
from moorage.payments.protocols.evidence import Evidence, PaymentMeans, TransactionEvidence
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.payments.taking.payment_required import PaymentRequired
from moorage.payments.taking.paywall import Paywall
from moorage.payments.taking.topup import Credited, TopUp, TopUpRequest
from moorage.storage import idempotency
from moorage.storage.database import Database
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts, payments
from support.books.records_fixture import ALICE, ARBITRUM, USDC, fresh_hash, transfer
from support.gateway.clock import MovableClock
from support.gateway.fakes import (
    PAY_TO,
    REALM,
    SECRET,
    FakeSettlements,
    FakeVerifier,
    authorizes,
    paywall_of,
)

BODY = "00" * 32
MEANS = PaymentMeans(chain=ARBITRUM, token=USDC)


class BrokenAfterCredit(FakeSettlements):
    """Breaks the database's reads, and its next write, once a credit is about to be committed."""

    def __init__(self, chain: FakeVerifier, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(chain)
        self._db = db
        self._monkeypatch = monkeypatch

    async def conclude(self, *_: object, **__: object) -> None:
        async def fail(*_: object, **__: object) -> Any:
            raise DatabaseUnavailable

        def refuse(**_: object) -> Any:
            raise DatabaseUnavailable

        for read in ("one", "all"):
            self._monkeypatch.setattr(self._db, read, fail)
        self._monkeypatch.setattr(self._db, "transaction", refuse)


class Concluding(FakeSettlements):
    """Notes which transactions' settlements were ended."""

    def __init__(self, chain: FakeVerifier) -> None:
        super().__init__(chain)
        self.concluded: list[object] = []

    async def conclude(self, *_: object, **given: object) -> None:
        self.concluded.append(given["tx_hash"])
        self.pending.clear()


@pytest.fixture
def chain() -> FakeVerifier:
    return FakeVerifier()


def shows(tx_hash: str) -> TransactionEvidence:
    return TransactionEvidence(MEANS, tx_hash)


async def take(paywall: Paywall, evidence: Evidence) -> PaymentReceipt:
    return await paywall.take(evidence, wallet=ALICE, body_digest=BODY, unique_name="hello")


async def top_up(
    db: Database,
    paywall: Paywall,
    clock: MovableClock,
    evidence: Evidence | None,
    claim: Claim | None = None,
) -> Credited:
    request = TopUpRequest(
        wallet=ALICE, amount=MicroUsd(5), means=MEANS, evidence=evidence, body_digest=BODY
    )
    return await TopUp(db=db, paywall=paywall, clock=clock).take(request, claim=claim)


async def test_database_that_fails_after_the_credit_takes_nothing_from_its_receipt(
    db: Database, clock: MovableClock, chain: FakeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BrokenAfterCredit(chain, db, monkeypatch)
    paid = chain.pays(transfer(ALICE, 5))
    receipt = await take(paywall_of(db, chain, clock, ARBITRUM, settlements=broken), shows(paid))
    assert (receipt.tx_hash, receipt.credited) == (paid, 5)


async def test_top_up_that_cannot_be_recorded_after_the_credit_is_pending(
    db: Database, clock: MovableClock, chain: FakeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    with monkeypatch.context() as broken_for_now:
        broken = BrokenAfterCredit(chain, db, broken_for_now)
        paywall = paywall_of(db, chain, clock, ARBITRUM, settlements=broken)
        with pytest.raises(PaymentPending, match="Do not pay again") as pending:
            await top_up(db, paywall, clock, shows(paid))
        assert isinstance(pending.value.receipt, PaymentReceipt)
    paywall = paywall_of(db, chain, clock, ARBITRUM)
    credited = await top_up(db, paywall, clock, shows(paid))
    assert (credited.receipt.credited, credited.balance) == (5, 5)
    assert await accounts.balance(db, ALICE) == 5


async def test_payment_that_tops_up_again_is_nothing_new_to_remember(
    db: Database, clock: MovableClock, chain: FakeVerifier
) -> None:
    paywall = paywall_of(db, chain, clock, ARBITRUM)
    paid = chain.pays(transfer(ALICE, 5))
    kept = []
    for number in range(3):
        claim = Claim(ALICE, f"key-{number}", "claim")
        async with db.transaction(durable=False) as tx:
            assert await idempotency.claim(
                tx, claim, request_digest="", lease_until_ms=1, now_ms=1, after_ms=0
            )
        await top_up(db, paywall, clock, shows(paid), claim)
        found = await idempotency.find(db, wallet=ALICE, key=claim.key, after_ms=0)
        kept.append(found is not None and found.is_done)
    assert kept == [True, False, False]


async def test_settlement_that_the_watcher_credited_first_ends_when_it_is_claimed(
    db: Database, clock: MovableClock, chain: FakeVerifier
) -> None:
    settlements = Concluding(chain)
    paywall = paywall_of(db, chain, clock, ARBITRUM, settlements=settlements)
    evidence = authorizes()
    settled = await settlements.settle(
        chain=ARBITRUM, token=USDC, authorization=evidence.authorization, unique_name="hello"
    )
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, chain.transfers_of[settled], now_ms=clock.now_ms())
    settlements.pending.add(ALICE)

    assert (await take(paywall, evidence)).credited == 5

    assert settlements.concluded == [settled]
    await paywall.refuse_while_unsettled(ALICE)


async def test_held_payment_that_was_sent_back_pays_for_nothing_and_is_not_held_any_more(
    db: Database, clock: MovableClock, chain: FakeVerifier
) -> None:
    async def refuse(_transfer: Transfer) -> str:
        return "on a list"

    paywall = paywall_of(db, chain, clock, ARBITRUM, screen=refuse)
    paid = chain.pays(transfer(ALICE, 5))
    with pytest.raises(PaymentHeld):
        await take(paywall, shows(paid))
    async with db.transaction(durable=True) as tx:
        (held,) = await payments.of_transaction(tx, chain_id=ARBITRUM.chain_id, tx_hash=paid)
        now_ms = clock.now_ms()
        assert await ledger.refund(tx, held, refund_id="r", amount=MicroUsd(5), now_ms=now_ms)
    with pytest.raises(PaymentAlreadyUsed, match="sent this payment back"):
        await take(paywall, shows(paid))


@pytest.mark.parametrize("changed", [{"realm": "elsewhere.example"}, {"id": "A"}, {"opaque": "A"}])
async def test_transaction_pays_whatever_challenge_it_says_that_it_answers(
    db: Database, clock: MovableClock, chain: FakeVerifier, changed: dict[str, str]
) -> None:
    challenge = mpp.make_challenge(
        SECRET,
        realm=REALM,
        option=PaymentOption(ARBITRUM, USDC, AtomicUnits(5)),
        pay_to=PAY_TO,
        expires_at_ms=clock.now_ms() + 1,
        body_digest=BODY,
        wallet=ALICE,
        credential_types=(mpp.CredentialType.HASH,),
    )
    paid = chain.pays(transfer(ALICE, 5))
    document = {
        "challenge": msgspec.to_builtins(challenge) | changed,
        "payload": {"type": "hash", "hash": paid},
    }
    credential = mpp.parse_credential(f"Payment {encode_base64url(msgspec.json.encode(document))}")
    evidence = TransactionEvidence(MEANS, paid, credential)
    assert (await take(paywall_of(db, chain, clock, ARBITRUM), evidence)).credited == 5


async def test_top_up_asks_for_nothing_while_another_payment_is_being_settled(
    db: Database, clock: MovableClock, chain: FakeVerifier
) -> None:
    settlements = FakeSettlements(chain)
    paywall = paywall_of(db, chain, clock, ARBITRUM, settlements=settlements)
    chain.missing = PaymentNotFound("nothing there", looked_for={})
    for evidence in (None, shows(fresh_hash()), authorizes(4)):
        settlements.pending.clear()
        with pytest.raises(PaymentRequired):
            await top_up(db, paywall, clock, evidence)
        settlements.pending.add(ALICE)
        with pytest.raises(PaymentPending, match="Do not pay again"):
            await top_up(db, paywall, clock, evidence)

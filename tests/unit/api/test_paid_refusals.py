"""A request that carried a payment is refused only after the money is credited, and told so."""

import pytest

from clock import MovableClock
from fakes import FakeSettlements, FakeVerifier, authorizes, paywall_of, seller_of
from moorage import errors
from moorage.api.http.paid_refusals import accounted
from moorage.api.http.problems import error_response
from moorage.errors import MoorageError, PaymentNotFound, PaymentPending
from moorage.ledger import ledger
from moorage.ledger.transfer import Transfer
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import Evidence, PaymentMeans, TransactionEvidence
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.storage.database import Database
from moorage.storage.money import accounts
from moorage.wire.problems import PaymentState
from records_fixture import ALICE, ARBITRUM, BOB, USDC, fresh_hash, transfer

REFUSALS: list[MoorageError] = [
    errors.NameUnavailable(),
    errors.PlanNotFound("no plan"),
    errors.InvalidField("months", "must be smaller"),
    errors.UploadInvalid("is no archive"),
    errors.RuntimeUnsupported("settings.runtime", "is not to be had"),
    errors.ProjectBlocked("a complaint"),
    errors.BodyTooLarge(),
    errors.IdempotencyKeyReused(),
    errors.IdempotencyInProgress(),
]
FAULTS: list[MoorageError] = [errors.NoCapacity(), errors.VariablesUnreadable()]


@pytest.fixture
def chain() -> FakeVerifier:
    return FakeVerifier()


def shows(tx_hash: str) -> TransactionEvidence:
    return TransactionEvidence(PaymentMeans(ARBITRUM, USDC), tx_hash)


class Refused:
    """A paywall, and the error that leaves a request which it accounts for."""

    def __init__(self, db: Database, clock: MovableClock, chain: FakeVerifier) -> None:
        self.db = db
        self.paywall = paywall_of(db, chain, clock, ARBITRUM, settlements=FakeSettlements(chain))

    async def with_(self, evidence: Evidence | None, refusal: MoorageError) -> MoorageError:
        with pytest.raises(MoorageError) as told:
            async with accounted(self.paywall, evidence, wallet=ALICE):
                raise refusal
        return told.value


@pytest.fixture
def refused(db: Database, clock: MovableClock, chain: FakeVerifier) -> Refused:
    return Refused(db, clock, chain)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: type(each).__name__)
async def test_valid_transfer_is_credited_whatever_is_wrong_with_the_request(
    refused: Refused, chain: FakeVerifier, refusal: MoorageError
) -> None:
    paid = chain.pays(transfer(ALICE, 500_000))
    told = await refused.with_(shows(paid), type(refusal)(*_given(refusal)))
    assert type(told) is type(refusal)
    assert told.payment == PaymentOutcome(
        tx_hash=paid, chain="arbitrum", state=PaymentState.CREDITED, credited=MicroUsd(500_000)
    )
    assert await accounts.balance(refused.db, ALICE) == 500_000
    body = bytes(error_response(told, seller=seller_of(ARBITRUM, settles=False)).body)
    assert b"do not pay again" in body
    assert b'"do_not_pay_again":true' in body


def _given(refusal: MoorageError) -> tuple[str, ...]:
    """What makes another error of the same kind: each is raised once."""
    match refusal:
        case errors.InvalidField() | errors.RuntimeUnsupported():
            return ("field", "problem")
        case errors.PlanNotFound() | errors.UploadInvalid() | errors.ProjectBlocked():
            return ("problem",)
    return ()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: type(each).__name__)
async def test_after_a_credit_no_fault_is_a_5xx(
    refused: Refused, chain: FakeVerifier, fault: MoorageError
) -> None:
    paid = chain.pays(transfer(ALICE, 500_000))
    told = await refused.with_(shows(paid), fault)
    assert type(told) is PaymentPending
    assert isinstance(told.payment, PaymentOutcome)
    assert told.payment.state is PaymentState.CREDITED


async def test_transaction_that_brings_nothing_is_told_so(
    refused: Refused, chain: FakeVerifier
) -> None:
    chain.missing = PaymentNotFound("nothing", looked_for={})
    told = await refused.with_(shows(fresh_hash()), errors.NameUnavailable())
    assert isinstance(told.payment, PaymentOutcome)
    assert (told.payment.state, told.payment.credited) == (PaymentState.NOT_FOUND, 0)


async def test_another_wallets_transaction_is_credited_to_it_and_foreign_to_who_asks(
    refused: Refused, chain: FakeVerifier
) -> None:
    told = await refused.with_(shows(chain.pays(transfer(BOB, 5))), errors.NameUnavailable())
    assert isinstance(told.payment, PaymentOutcome)
    assert (told.payment.state, told.payment.do_not_pay_again) == (PaymentState.FOREIGN, False)
    assert await accounts.balance(refused.db, BOB) == 5


async def test_held_payment_is_told_as_held(
    db: Database, clock: MovableClock, chain: FakeVerifier
) -> None:
    async def refuse(_transfer: Transfer) -> str:
        return "on a list"

    refused = Refused(db, clock, chain)
    refused.paywall = paywall_of(db, chain, clock, ARBITRUM, screen=refuse)
    told = await refused.with_(shows(chain.pays(transfer(ALICE, 5))), errors.NameUnavailable())
    assert isinstance(told.payment, PaymentOutcome)
    assert (told.payment.state, told.payment.do_not_pay_again) == (PaymentState.HELD, True)


async def test_authorization_stays_unspent(refused: Refused) -> None:
    told = await refused.with_(authorizes(), errors.NameUnavailable())
    assert isinstance(told.payment, PaymentOutcome)
    assert (told.payment.state, told.payment.do_not_pay_again) == (PaymentState.UNUSED, False)


async def test_refusal_of_the_payment_itself_asks_no_chain_again(
    refused: Refused, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    told = await refused.with_(shows(paid), PaymentNotFound("nothing", looked_for={}))
    assert isinstance(told.payment, PaymentOutcome)
    assert told.payment.state is PaymentState.NOT_FOUND
    assert await accounts.balance(refused.db, ALICE) == 0


async def test_payment_that_the_watcher_credited_before_is_told_as_credited(
    refused: Refused, chain: FakeVerifier, clock: MovableClock
) -> None:
    sent = transfer(ALICE, 5)
    async with refused.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=clock.now_ms())
    told = await refused.with_(shows(sent.tx_hash), errors.ChainUnavailable())
    assert isinstance(told.payment, PaymentOutcome)
    assert told.payment.state is PaymentState.CREDITED


async def test_without_a_payment_nothing_is_told_of_one(refused: Refused) -> None:
    told = await refused.with_(None, errors.NameUnavailable())
    assert told.payment is None
    body = bytes(error_response(told, seller=seller_of(ARBITRUM, settles=False)).body)
    assert b"payment" not in body

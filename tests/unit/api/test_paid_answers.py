"""Every answer to a request that carried a payment says what became of it."""

import msgspec
import pytest
from starlette.requests import Request

from moorage import errors
from moorage.api.http.caller import Caller
from moorage.api.http.payment import accounted, repeated
from moorage.api.http.problems import error_response, json_response
from moorage.api.http.request_context import CALLER, PAID
from moorage.errors import MoorageError, PaymentNotFound, PaymentPending
from moorage.ledger import ledger
from moorage.ledger.transfer import Transfer
from moorage.money import MicroUsd
from moorage.payments.protocols.authorization import encode_base64url
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.outcomes import Outcomes
from moorage.payments.taking.screening import Screen, allow
from moorage.storage.database import Database
from moorage.storage.money import accounts
from moorage.wire.problems import PaymentState
from support.books.records_fixture import ALICE, ARBITRUM, BOB, USDC, fresh_hash, transfer
from support.gateway.clock import MovableClock
from support.gateway.fakes import (
    FakeSettlements,
    FakeVerifier,
    authorizes,
    challenges_of,
    paywall_of,
)

CHALLENGES = challenges_of(MovableClock(), ARBITRUM, settles=False)
URL = "https://gateway.example/agent/deploy"

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


def a_request(*, caller: str | None = ALICE, **headers: str) -> Request:
    """A request to an operation that takes payments, by a wallet that has authenticated, or not."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw, PAID: True}
    return Request(scope if caller is None else scope | {CALLER: Caller(caller, None)})


class Refused:
    """What tells the outcomes of payments, and the errors that it makes."""

    def __init__(
        self, db: Database, clock: MovableClock, chain: FakeVerifier, screen: Screen = allow
    ) -> None:
        self.db = db
        self.settlements = FakeSettlements(chain)
        paywall = paywall_of(
            db, chain, clock, ARBITRUM, settlements=self.settlements, screen=screen
        )
        self.outcomes = Outcomes(db=db, paywall=paywall, chains={"arbitrum": ARBITRUM})

    async def error(self, refusal: MoorageError, request: Request) -> MoorageError:
        return await accounted(self.outcomes, {"arbitrum": ARBITRUM}, request, refusal)

    async def with_(self, tx_hash: str, refusal: MoorageError) -> MoorageError:
        return await self.error(refusal, a_request(x_payment_tx=tx_hash))


def outcome(error: MoorageError) -> PaymentOutcome:
    assert isinstance(error.payment, PaymentOutcome)
    return error.payment


@pytest.fixture
def refused(db: Database, clock: MovableClock, chain: FakeVerifier) -> Refused:
    return Refused(db, clock, chain)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: type(each).__name__)
async def test_valid_transfer_is_credited_whatever_is_wrong_with_the_request(
    refused: Refused, chain: FakeVerifier, refusal: MoorageError
) -> None:
    paid = chain.pays(transfer(ALICE, 500_000))
    told = await refused.with_(paid, type(refusal)(*_given(refusal)))
    assert type(told) is type(refusal)
    assert told.payment == PaymentOutcome(
        tx_hash=paid,
        chain="arbitrum",
        token="usdc",
        state=PaymentState.CREDITED,
        credited=MicroUsd(500_000),
    )
    assert await accounts.balance(refused.db, ALICE) == 500_000
    body = msgspec.json.decode(error_response(told, challenges=CHALLENGES, url=URL).body)
    why, stop, rest = body["error"].partition(". Your payment is credited: do not pay again, ")
    assert (why != "", stop != "", rest.endswith(".")) == (True, True, True)
    assert body["payment"]["do_not_pay_again"] is True


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
    told = await refused.with_(paid, fault)
    assert type(told) is PaymentPending
    assert outcome(told).state is PaymentState.CREDITED


async def test_transaction_that_brings_nothing_is_told_so(
    refused: Refused, chain: FakeVerifier
) -> None:
    chain.missing = PaymentNotFound("nothing", looked_for={})
    told = await refused.with_(fresh_hash(), errors.NameUnavailable())
    assert (outcome(told).state, outcome(told).credited) == (PaymentState.NOT_FOUND, 0)


async def test_another_wallets_transaction_is_credited_to_it_and_foreign_to_who_asks(
    refused: Refused, chain: FakeVerifier
) -> None:
    told = await refused.with_(chain.pays(transfer(BOB, 5)), errors.NameUnavailable())
    assert (outcome(told).state, outcome(told).do_not_pay_again) == (PaymentState.FOREIGN, False)
    assert await accounts.balance(refused.db, BOB) == 5


async def test_held_payment_is_told_as_held(
    db: Database, clock: MovableClock, chain: FakeVerifier
) -> None:
    async def refuse(_transfer: Transfer) -> str:
        return "on a list"

    refused = Refused(db, clock, chain, refuse)
    told = await refused.with_(chain.pays(transfer(ALICE, 5)), errors.NameUnavailable())
    assert (outcome(told).state, outcome(told).do_not_pay_again) == (PaymentState.HELD, True)


async def test_authorization_stays_unspent_until_it_was_settled(refused: Refused) -> None:
    evidence, refusal = authorizes(), errors.NameUnavailable()
    told = await refused.outcomes.after_refusal(evidence, wallet=ALICE, refusal=refusal)
    assert (told.state, told.do_not_pay_again) == (PaymentState.UNUSED, False)
    settled = await refused.settlements.settle(
        chain=ARBITRUM, token=USDC, authorization=evidence.authorization, unique_name=None
    )
    told = await refused.outcomes.after_refusal(evidence, wallet=ALICE, refusal=refusal)
    assert (told.tx_hash, told.state) == (settled, PaymentState.PENDING)  # not in the books yet


async def test_refusal_of_the_payment_itself_asks_no_chain_again(
    refused: Refused, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    told = await refused.with_(paid, PaymentNotFound("nothing", looked_for={}))
    assert outcome(told).state is PaymentState.NOT_FOUND
    assert await accounts.balance(refused.db, ALICE) == 0


async def test_payment_that_the_watcher_credited_before_is_told_as_credited(
    refused: Refused, chain: FakeVerifier, clock: MovableClock
) -> None:
    sent = transfer(ALICE, 5)
    async with refused.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=clock.now_ms())
    told = await refused.with_(sent.tx_hash, errors.ChainUnavailable())
    assert outcome(told).state is PaymentState.CREDITED


async def test_refused_signature_tells_what_the_books_know_and_asks_no_chain(
    refused: Refused, chain: FakeVerifier, clock: MovableClock
) -> None:
    sent, unseen = transfer(ALICE, 5), chain.pays(transfer(ALICE, 7))
    async with refused.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=clock.now_ms())
    states = []
    for tx_hash in (sent.tx_hash, unseen):
        unsigned = a_request(caller=None, x_payment_tx=tx_hash, x_wallet_address=ALICE)
        states.append(outcome(await refused.error(errors.NonceReused(), unsigned)).state)
    assert states == [PaymentState.CREDITED, PaymentState.PENDING]
    assert chain.asked == 0
    assert await accounts.balance(refused.db, ALICE) == 5


@pytest.mark.parametrize("headers", [{"x_payment_chain": "solana"}, {"x_payment_token": "doge"}])
async def test_transfer_beside_a_wrong_chain_or_token_is_credited(
    refused: Refused, chain: FakeVerifier, headers: dict[str, str]
) -> None:
    request = a_request(x_payment_tx=chain.pays(transfer(ALICE, 5)), **headers)
    told = await refused.error(errors.PaymentMalformed("X-Payment-Chain", "is wrong"), request)
    assert outcome(told).state is PaymentState.CREDITED


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ({"x_payment_tx": "0x12"}, PaymentState.PENDING),
        ({"payment_signature": "e30="}, PaymentState.UNUSED),
        ({"authorization": "Payment e30"}, PaymentState.UNUSED),
    ],
)
async def test_payment_that_cannot_be_read_is_never_told_as_missing(
    refused: Refused, headers: dict[str, str], state: PaymentState
) -> None:
    told = await refused.error(errors.PaymentMalformed("it", "is wrong"), a_request(**headers))
    assert (outcome(told).tx_hash, outcome(told).state) == (None, state)


async def test_credential_that_cannot_be_read_shows_its_transaction(
    refused: Refused, chain: FakeVerifier
) -> None:
    paid = chain.pays(transfer(ALICE, 5))
    credential = encode_base64url(msgspec.json.encode({"payload": {"hash": paid}}))
    request = a_request(authorization=f"Payment {credential}")
    told = await refused.error(errors.PaymentMalformed("Authorization", "is wrong"), request)
    assert (outcome(told).tx_hash, outcome(told).state) == (paid, PaymentState.CREDITED)


async def test_repeated_request_tells_of_its_own_payment(
    refused: Refused, chain: FakeVerifier
) -> None:
    first = json_response({"projectId": "p", "payment": None}, headers=[("Payment-Receipt", "r")])
    for amount, state in ((5, "credited"), (None, "pending")):
        if amount is None:
            chain.missing = errors.ChainUnavailable()
        paid = fresh_hash() if amount is None else chain.pays(transfer(ALICE, amount))
        evidence = TransactionEvidence(PaymentMeans(ARBITRUM, USDC), paid)
        again = await repeated(refused.outcomes, first, evidence, wallet=ALICE)
        body = msgspec.json.decode(bytes(again.body))
        assert (body["projectId"], body["payment"]["tx"]) == ("p", paid)
        assert body["payment"]["state"] == state
        assert again.headers["payment-receipt"] == "r"
    assert await repeated(refused.outcomes, first, None, wallet=ALICE) is first


async def test_without_a_payment_nothing_is_told_of_one() -> None:
    body = bytes(
        error_response(
            errors.NameUnavailable(),
            challenges=challenges_of(MovableClock(), ARBITRUM, settles=False),
            url=URL,
        ).body
    )
    assert b"payment" not in body

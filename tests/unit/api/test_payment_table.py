"""Every answer × every state of a payment: nobody who has paid, or may have, is told to pay."""

import inspect
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from moorage.api.http.caller import Caller
from moorage.api.http.payment import accounted, read_payment, repeated
from moorage.api.http.problems import PROBLEMS, error_response, json_response
from moorage.api.http.request_context import CALLER, PAID
from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    DatabaseUnavailable,
    MoorageError,
    NameUnavailable,
    NonceReused,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentMalformed,
    PaymentNotFound,
    PaymentPending,
)
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.money import MicroUsd
from moorage.payments.protocols.authorization import encode_base64, encode_base64url
from moorage.payments.protocols.evidence import (
    AuthorizationEvidence,
    PaymentMeans,
    TransactionEvidence,
)
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.payment_required import PaymentRequired
from moorage.payments.taking.paywall import Outcomes
from moorage.payments.taking.topup import TopUp, TopUpRequest
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments
from moorage.wire.problems import PaymentState
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    USDC,
    USDT,
    fresh_hash,
    fund,
    transfer,
)
from support.gateway.clock import MovableClock
from support.gateway.fakes import (
    FakeSettlements,
    FakeVerifier,
    authorizes,
    challenges_of,
    paywall_of,
)

URL = "https://gateway.example/agent/deploy"

BASE = KNOWN_CHAINS["base"]
CHAINS = {"arbitrum": ARBITRUM, "base": BASE}
CHALLENGES = challenges_of(MovableClock(), *CHAINS.values())
HASH = "0x" + "ab" * 32
REFUSED_AMOUNT = 13
"""What screening holds back."""

FILLED: dict[object, Any] = {str: "x", int: 7, dict[str, str]: {}}

Headers = dict[str, str]


async def refuse_some(sent: Transfer) -> str | None:
    return "on a list" if sent.amount == REFUSED_AMOUNT else None


class World:
    """Payments of ALICE in each state, and the answers that they get."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.db, self.clock = db, clock
        self.chain = FakeVerifier()
        self.chain.missing = unseen()
        self.settlements = FakeSettlements(self.chain)
        self.paywall = paywall_of(
            db,
            self.chain,
            clock,
            *CHAINS.values(),
            settlements=self.settlements,
            screen=refuse_some,
        )
        self.outcomes = Outcomes(db=db, paywall=self.paywall, chains=CHAINS)

    async def answer(self, error: MoorageError, headers: Headers) -> tuple[int, dict[str, Any]]:
        request = request_with(headers)
        told = await accounted(self.outcomes, CHAINS, request, error)
        by_hash = "X-Payment-Tx" in headers
        response = error_response(told, challenges=CHALLENGES, url=URL, by_hash=by_hash)
        return response.status_code, msgspec.json.decode(bytes(response.body))

    async def top_up(self, headers: Headers, *, is_proved: bool = True) -> MoorageError | None:
        """A top-up with this payment: why it was refused, if it was."""
        means, evidence, _ = read_payment(request_with(headers), CHAINS)
        asked = TopUpRequest(
            wallet=ALICE,
            amount=MicroUsd(5),
            means=means,
            evidence=evidence,
            body_digest="00" * 32,
            is_proved=is_proved,
        )
        try:
            await TopUp(db=self.db, paywall=self.paywall, clock=self.clock).take(asked)
        except MoorageError as refusal:
            return refusal
        return None

    async def book(self, sent: Transfer, *, held: dict[str, str] | None = None) -> Headers:
        async with self.db.transaction(durable=True) as tx:
            now_ms = self.clock.now_ms()
            await ledger.credit_transfers(tx, [sent], held=held or {}, now_ms=now_ms)
        return {"X-Payment-Tx": sent.tx_hash}

    def shown(self, *transfers: Transfer) -> Headers:
        return {"X-Payment-Tx": self.chain.pays(*transfers)}

    # States

    async def credited_now(self) -> Headers:
        return self.shown(transfer(ALICE, 5))

    async def credited_before(self) -> Headers:
        return await self.book(transfer(ALICE, 5))

    async def on_another_chain(self) -> Headers:
        usdc = BASE.tokens[0]
        return self.shown(transfer(ALICE, 5, chain_id=BASE.chain_id, token_address=usdc.key))

    async def in_another_token(self) -> Headers:
        return self.shown(transfer(ALICE, 5, token=USDT.name, token_address=USDT.key))

    async def named_wrongly(self) -> Headers:
        return await self.credited_now() | {"X-Payment-Chain": "solana", "X-Payment-Token": "sol"}

    async def unused(self) -> Headers:
        self.settlements.fault = AuthorizationRefused("no balance")
        return signed(authorizes())

    async def pending(self) -> Headers:
        return {"X-Payment-Tx": fresh_hash()}

    async def held(self) -> Headers:
        return self.shown(transfer(ALICE, REFUSED_AMOUNT))

    async def foreign(self) -> Headers:
        return self.shown(transfer(BOB, 5))

    async def not_found(self) -> Headers:
        self.chain.missing = PaymentNotFound("It brings nothing.", looked_for={})
        return {"X-Payment-Tx": fresh_hash()}

    async def refunded(self) -> Headers:
        shown = await self.book(transfer(ALICE, 5), held={ALICE: "on a list"})
        async with self.db.transaction(durable=True) as tx:
            tx_hash = shown["X-Payment-Tx"]
            (held,) = await payments.of_transaction(tx, chain_id=ARBITRUM.chain_id, tx_hash=tx_hash)
            now_ms = self.clock.now_ms()
            await ledger.refund(tx, held, refund_id=tx_hash, amount=MicroUsd(5), now_ms=now_ms)
        return shown


@pytest.fixture
def world(db: Database, clock: MovableClock) -> World:
    return World(db, clock)


def unseen() -> PaymentPending:
    pending = PaymentPending()
    pending.seen = False
    return pending


def request_with(headers: Headers) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
    return Request(scope | {PAID: True, CALLER: Caller(ALICE, None)})


def signed(evidence: AuthorizationEvidence) -> Headers:
    """As a client of x402 sends it."""
    wish = evidence.authorization
    document = {
        "x402Version": 2,
        "accepted": {"scheme": "exact", "network": "eip155:42161", "asset": wish.token_address},
        "payload": {
            "signature": "0x" + wish.signature.hex(),
            "authorization": {
                "from": wish.payer,
                "to": wish.recipient,
                "value": str(wish.value),
                "validAfter": str(wish.valid_after),
                "validBefore": str(wish.valid_before),
                "nonce": wish.nonce,
            },
        },
    }
    return {"PAYMENT-SIGNATURE": encode_base64(msgspec.json.encode(document))}


State = Callable[[World], Awaitable[Headers]]
STATES: dict[State, tuple[str, float]] = {
    World.credited_now: ("credited", 0.000005),
    World.credited_before: ("credited", 0.000005),
    World.on_another_chain: ("credited", 0.000005),
    World.in_another_token: ("credited", 0.000005),
    World.named_wrongly: ("credited", 0.000005),
    World.unused: ("unused", 0),
    World.pending: ("pending", 0),
    World.held: ("held", 0),
    World.foreign: ("foreign", 0),
    World.not_found: ("not_found", 0),
    World.refunded: ("not_found", 0),
}
"""What each state is told as, and what it has brought."""

BLIND = (ChainUnavailable, DatabaseUnavailable)
"""Refusals because nothing can be looked up: what the books don't hold is pending then."""

REFUSALS = [kind for kind in PROBLEMS if not issubclass(kind, PaymentError | PaymentRequired)]


def made(kind: type[MoorageError]) -> MoorageError:
    """An error of this kind, with something for each argument that it needs."""
    needed = [
        each
        for each in inspect.signature(kind).parameters.values()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    return kind(*(FILLED[each.annotation] for each in needed))


def tells_to_pay(body: dict[str, Any]) -> bool:
    told = " ".join([body["error"], *body.get("next_actions", ())]).lower()
    return bool(re.search(r"\b(transfer|pay)\b", re.sub(r"(do not|never) pay( again)?", "", told)))


def check(body: dict[str, Any], state: str, brought: float) -> None:
    """The rule that holds for every answer to a request with a payment in this state."""
    payment = body["payment"]
    assert (payment["state"], payment["credited_usd"]) == (state, brought), body
    keeps_quiet = state in ("credited", "pending", "held")
    assert payment["do_not_pay_again"] is keeps_quiet
    if keeps_quiet:
        assert "amount_token" not in body
        assert not tells_to_pay(body), body
        assert "not pay again" in " ".join(body["next_actions"])


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_whatever_is_refused_says_what_became_of_the_payment(
    world: World, state: State
) -> None:
    for kind in REFUSALS:
        shown = await state(world)
        status, body = await world.answer(made(kind), shown)
        is_blind = kind in BLIND and state not in (World.credited_before, World.refunded)
        told = ("pending", 0) if is_blind and state is not World.unused else STATES[state]
        check(body, *told)
        if told[0] == "credited":
            assert status < 500, body


OWN_ANSWERS: dict[State, tuple[int, str] | None] = {
    World.credited_now: None,
    World.credited_before: None,
    World.on_another_chain: None,
    World.in_another_token: None,
    World.unused: (402, "authorization_refused"),
    World.pending: (402, "payment_pending"),
    World.held: (402, "payment_held"),
    World.foreign: (402, "payer_mismatch"),
    World.not_found: (402, "payment_not_found"),
    World.refunded: (409, "payment_already_used"),
}
"""How a top-up with the payment is answered; None: it is taken."""


@pytest.mark.parametrize("state", OWN_ANSWERS, ids=lambda state: state.__name__)
async def test_payment_is_taken_or_refused_as_its_state_is(world: World, state: State) -> None:
    headers = await state(world)
    refusal = await world.top_up(headers)
    if OWN_ANSWERS[state] is None:
        assert refusal is None
        return
    assert refusal is not None
    status, body = await world.answer(refusal, headers)
    assert (status, body["code"]) == OWN_ANSWERS[state]
    check(body, *STATES[state])
    if state is World.foreign:
        assert not tells_to_pay(body), body
        assert "wallet that paid" in body["next_actions"][0]
    if state in (World.unused, World.not_found):
        assert tells_to_pay(body), body


async def test_who_repeats_anothers_payment_is_told_nothing_of_its_credits(world: World) -> None:
    await fund(world.db, ALICE, 700_000)
    told = []
    for is_proved in (True, False):
        headers = await world.unused()
        refusal = await world.top_up(headers, is_proved=is_proved)
        assert refusal is not None
        _, body = await world.answer(refusal, headers)
        told.append((body["current_credit_balance_usd"], body.get("pay_from", "").lower()))
    assert told == [(0.7, ALICE), (0, "")]


async def test_authorization_that_somebody_else_sent_is_not_called_unspent(world: World) -> None:
    """Its money has moved, though no settlement of this gateway's did it."""
    status, body = await world.answer(PaymentAlreadyUsed("It was used."), signed(authorizes()))
    assert status == 409
    check(body, "pending", 0)


async def test_authorization_that_is_to_be_sent_again_is_pending(world: World) -> None:
    """Nothing knows it yet, but it counts once it comes again: another would be paid as well."""
    _, body = await world.answer(PaymentPending("Send it again."), signed(authorizes()))
    check(body, "pending", 0)


async def test_answer_that_asks_for_nothing_is_a_503_but_to_who_sent_a_hash(world: World) -> None:
    world.settlements.pending.add(ALICE)  # one is being settled
    for headers in ({}, signed(authorizes())):
        request = request_with(headers)
        error = await accounted(world.outcomes, CHAINS, request, PaymentPending())
        response = error_response(error, challenges=CHALLENGES, url=URL, by_hash=False)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        body = msgspec.json.decode(bytes(response.body))
        assert (body["code"], body["retryable"]) == ("payment_pending", True)
        assert not tells_to_pay(body)


@pytest.mark.parametrize(
    "name",
    ["X-Payment-Hash", "X-Payment-TxHash", "X-Payment-Transaction", "X-Tx-Hash", "Payment-Tx"],
)
async def test_hash_in_a_header_that_is_not_read_is_named_and_never_a_demand(
    world: World, name: str
) -> None:
    await assert_told_where_it_belongs(world, lambda paid: request_with({name: paid}), name)


@pytest.mark.parametrize("name", ["tx", "payment_tx", "txHash"])
async def test_hash_in_a_query_is_named_and_never_a_demand(world: World, name: str) -> None:
    def request(paid: str) -> Request:
        scope = request_with({}).scope
        scope["query_string"] = f"{name}={paid}".encode()
        return Request(scope)

    await assert_told_where_it_belongs(world, request, name)


async def test_hash_in_another_header_is_named_and_never_a_demand(world: World) -> None:
    await assert_told_where_it_belongs(world, lambda paid: request_with({"X-Paid": paid}), "X-Paid")


async def assert_told_where_it_belongs(
    world: World, request_of: Callable[[str], Request], name: str
) -> None:
    """Whatever became of that payment, the refusal says so, and names the header."""
    for state, (told, brought) in STATES.items():
        if state in (World.unused, World.named_wrongly):  # no hash; more than one header
            continue
        world.chain.missing = unseen()
        paid = (await state(world))["X-Payment-Tx"]
        with pytest.raises(PaymentMalformed, match="X-Payment-Tx") as refusal:
            read_payment(request_of(paid), CHAINS)
        assert refusal.value.field.lower() == name.lower()
        error = await accounted(world.outcomes, CHAINS, request_of(paid), refusal.value)
        response = error_response(error, challenges=CHALLENGES, url=URL)
        body = msgspec.json.decode(bytes(response.body))
        assert (response.status_code, body["payment"]["tx"]) == (400, paid)
        check(body, told, brought)
        if told in ("credited", "pending"):
            assert f"X-Payment-Tx: {paid}" in body["next_actions"][0]


@pytest.mark.parametrize(
    "credential", [b"this is garbage", b"{}", b'{"payload":{"type":"permit2"}}']
)
async def test_credential_of_which_nothing_was_used_gets_a_fresh_demand(
    world: World, credential: bytes
) -> None:
    shown = {"Authorization": f"Payment {encode_base64url(credential)}"}
    payment = read_payment(request_with(shown), CHAINS)
    asked = TopUpRequest(
        wallet=ALICE,
        amount=MicroUsd(5),
        means=payment.means,
        evidence=payment.evidence,
        body_digest="00" * 32,
        refused=payment.refused,
    )
    with pytest.raises(PaymentRequired) as demanded:
        await TopUp(db=world.db, paywall=world.paywall, clock=world.clock).take(asked)
    status, body = await world.answer(demanded.value, shown)
    assert (status, body["code"], body["field"]) == (402, "payment_malformed", "Authorization")
    assert body["type"] == "https://paymentauth.org/problems/malformed-credential"
    assert (body["amount_usd"], body["payment"]["state"]) == (0.000005, "unused")
    assert body["next_actions"][0].startswith("Nothing of this payment was used. If you have")


@pytest.mark.parametrize(
    "payload", [{"type": "hash", "hash": "0x12"}, {"hash": 7}, {"type": "hash"}, {"hash": HASH}]
)
async def test_credential_that_may_stand_for_a_transfer_asks_for_nothing(
    world: World, payload: dict[str, object]
) -> None:
    credential = encode_base64url(msgspec.json.encode({"payload": payload}))
    for scheme in ("Payment", "Bearer of it, Payment"):
        shown = {"Authorization": f"{scheme} {credential}"}
        with pytest.raises(PaymentMalformed) as refusal:
            read_payment(request_with(shown), CHAINS)
        status, body = await world.answer(refusal.value, shown)
        assert (status, body["code"]) == (400, "payment_malformed")
        check(body, "pending", 0)


def written_otherwise(tx_hash: str) -> dict[str, Headers]:
    """Returns headers that show a hash where another payment belongs, or that encode it wrong."""
    shown = {"z": "?>" * 9, "payload": {"type": "hash", "hash": tx_hash}}
    padded = urlsafe_b64encode(msgspec.json.encode(shown | {"y": "x"})).decode()
    assert padded.endswith("=")
    other_alphabet = b64encode(msgspec.json.encode(shown)).decode()
    assert {"+", "/"} & set(other_alphabet)
    return {
        "X-PAYMENT": {"X-PAYMENT": tx_hash},
        "PAYMENT-SIGNATURE": {"PAYMENT-SIGNATURE": tx_hash},
        "bare": {"Authorization": f"Payment {tx_hash}"},
        "padded": {"Authorization": f"Payment {padded}"},
        "other alphabet": {"Authorization": f"Payment {other_alphabet}"},
    }


@pytest.mark.parametrize("how", written_otherwise(HASH))
async def test_hash_that_is_written_otherwise_is_credited_and_asks_for_nothing(
    world: World, how: str
) -> None:
    shown = await world.credited_now()
    mistaken = written_otherwise(shown["X-Payment-Tx"])[how]
    with pytest.raises(PaymentMalformed) as refusal:
        read_payment(request_with(mistaken), CHAINS)
    status, body = await world.answer(refusal.value, mistaken)
    assert (status, [body["field"]]) == (400, [*mistaken])
    check(body, *STATES[World.credited_now])


async def test_unreadable_credential_is_pending_while_another_payment_is_settled(
    world: World,
) -> None:
    status, body = await world.answer(PaymentPending(), {"Authorization": "Payment e30"})
    assert (status, body["code"]) == (503, "payment_pending")
    check(body, "pending", 0)


def test_other_headers_are_nobodys_payment() -> None:
    assert read_payment(request_with({"X-Payment-Chain": "base"}), CHAINS).evidence is None
    for name in ("X-Transaction-Id", "X-Request-Id", "Idempotency-Key", "X-Api-Key", "X-Trace"):
        assert read_payment(request_with({name: HASH}), CHAINS).evidence is None


def test_hash_in_a_query_beside_its_header_is_no_matter() -> None:
    both = request_with({"X-Payment-Tx": HASH}).scope
    both["query_string"] = f"tx={HASH}".encode()
    assert read_payment(Request(both), CHAINS).evidence is not None


def test_near_miss_beside_a_payment_is_no_matter() -> None:
    paid = fresh_hash()
    both = request_with({"X-Payment-Tx": paid, "X-Payment-Hash": paid})
    assert read_payment(both, CHAINS).evidence is not None


# What no row of the table is


def outcome(error: MoorageError) -> PaymentOutcome:
    assert isinstance(error.payment, PaymentOutcome)
    return error.payment


async def test_authorization_stays_unspent_until_it_was_settled(world: World) -> None:
    evidence, refusal = authorizes(), NameUnavailable()
    told = await world.outcomes.after_refusal(evidence, wallet=ALICE, refusal=refusal)
    assert (told.state, told.do_not_pay_again) == (PaymentState.UNUSED, False)
    settled = await world.settlements.settle(
        chain=ARBITRUM, token=USDC, authorization=evidence.authorization, unique_name=None
    )
    told = await world.outcomes.after_refusal(evidence, wallet=ALICE, refusal=refusal)
    assert (told.tx_hash, told.state) == (settled, PaymentState.PENDING)  # not in the books yet


async def test_refusal_of_the_payment_itself_asks_no_chain_again(world: World) -> None:
    refusal = PaymentNotFound("nothing", looked_for={})
    _, body = await world.answer(refusal, world.shown(transfer(ALICE, 5)))
    check(body, "not_found", 0)
    assert await accounts.balance(world.db, ALICE) == 0


async def test_refused_signature_tells_what_the_books_know_and_asks_no_chain(world: World) -> None:
    states, credited = [], await world.credited_before()
    claimed = {"X-Wallet-Address": ALICE}
    for shown in (credited | claimed, world.shown(transfer(ALICE, 7)) | claimed, credited):
        scope = request_with(shown).scope
        del scope[CALLER]  # nobody has authenticated
        refused = await accounted(world.outcomes, CHAINS, Request(scope), NonceReused())
        states.append(outcome(refused).state)
    # Who names no wallet may be the payer: never told that another wallet paid.
    assert states == [PaymentState.CREDITED, PaymentState.PENDING, PaymentState.PENDING]
    assert world.chain.asked == 0
    assert await accounts.balance(world.db, ALICE) == 5


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ({"X-Payment-Tx": "0x12"}, PaymentState.PENDING),
        ({"PAYMENT-SIGNATURE": "e30="}, PaymentState.UNUSED),
        ({"Authorization": "Payment e30"}, PaymentState.UNUSED),
    ],
)
async def test_payment_that_cannot_be_read_is_never_told_as_missing(
    world: World, headers: Headers, state: PaymentState
) -> None:
    refusal = PaymentMalformed("it", "is wrong")
    told = outcome(await accounted(world.outcomes, CHAINS, request_with(headers), refusal))
    assert (told.tx_hash, told.state) == (None, state)


async def test_repeated_request_tells_of_its_own_payment(world: World) -> None:
    first = json_response({"projectId": "p", "payment": None}, headers=[("Payment-Receipt", "r")])
    for shown in (World.credited_now, World.pending):
        paid = (await shown(world))["X-Payment-Tx"]
        evidence = TransactionEvidence(PaymentMeans(ARBITRUM, USDC), paid)
        again = await repeated(world.outcomes, first, evidence, wallet=ALICE)
        body = msgspec.json.decode(bytes(again.body))
        assert (body["projectId"], body["payment"]["tx"]) == ("p", paid)
        assert body["payment"]["state"] == STATES[shown][0]
        assert again.headers["payment-receipt"] == "r"
    assert await repeated(world.outcomes, first, None, wallet=ALICE) is first


def test_without_a_payment_nothing_is_told_of_one() -> None:
    assert b"payment" not in error_response(NameUnavailable(), challenges=CHALLENGES, url=URL).body

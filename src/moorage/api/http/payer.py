"""Authenticates requests that may bring a payment; an authorization can stand in for a nonce.

Clients of x402 and MPP repeat the request that got the 402, its wallet headers included, and add
the payment. So a used nonce passes again (contract 1.1) within its minute, for the body that it was
used for, when the request brings an authorization that the wallet signed and that was not used
before. The authorization's own nonce then is what is used once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import parse_address
from moorage.api.http.caller import (
    CALLER,
    Caller,
    Front,
    address_key,
    carries_proof,
    count,
    disregard_proof,
    limit_address,
    use_nonce,
    verify,
)
from moorage.api.http.payment_headers import OfferedPayment, read_payment
from moorage.api.http.problems import problem_of, with_body
from moorage.auth.authenticator import Verified
from moorage.auth.wallet import Wallet
from moorage.chains.chain import Chain
from moorage.chains.eip3009 import authorization_digest
from moorage.errors import (
    AuthMissing,
    AuthorizationRefused,
    FieldError,
    MoorageError,
    NonceReused,
    PaymentMalformed,
    PaymentPending,
)
from moorage.money import json_of
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.protocols.evidence import (
    AuthorizationEvidence,
    Evidence,
    PaymentMeans,
    TransactionEvidence,
    default_means,
    may_have_paid,
    shown_transaction,
)
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.payments.taking.outcomes import Outcomes
from moorage.payments.taking.paywall import Paywall
from moorage.wire.problems import PaymentState

_FIRST_OF_THE_5XX = 500

_OPEN = "moorage.open"
"""The scope's key that marks requests for which a payment alone speaks, if anything does."""


async def accounted(
    outcomes: Outcomes, chains: Mapping[str, Chain], request: Request, error: MoorageError
) -> MoorageError:
    """Returns the error to answer with: `error`, with what became of the request's payment.

    When the request was authenticated, a transaction with a valid transfer is credited first. After
    a credit, an error that would be a 5xx becomes PaymentPending.
    """
    if error.payment is not None:
        return error
    caller: Caller | None = request.scope.get(CALLER)
    evidence = _evidence(request, chains, caller) or _misplaced(error, chains, caller)
    if evidence is None:
        error.payment = _unreadable(request, chains, error)
        return error
    refusal = (error.because or error) if isinstance(error, PaymentRequired) else error
    if caller is not None:
        outcome = await outcomes.after_refusal(evidence, wallet=caller.wallet, refusal=refusal)
    else:
        wallet = _claimed_wallet(request, evidence)
        outcome = await outcomes.known(evidence, wallet=wallet, refusal=refusal)
    told = _after_credit(error) if outcome.state is PaymentState.CREDITED else error
    if isinstance(told, PaymentPending) and outcome.state is PaymentState.UNUSED:
        # It is to be sent again as it is: whoever signs another pays twice when both come.
        outcome = msgspec.structs.replace(outcome, state=PaymentState.PENDING)
    told.payment = msgspec.structs.replace(outcome, openly=_OPEN in request.scope)
    return told


async def repeated(
    outcomes: Outcomes,
    answer: Response,
    evidence: Evidence | None,
    *,
    wallet: str,
    unique_name: str | None = None,
) -> Response:
    """Returns the first answer to a repeated request, with what became of this one's payment."""
    if evidence is None:
        return answer
    outcome = await outcomes.of_repeated(evidence, wallet=wallet, unique_name=unique_name)
    body = msgspec.json.decode(bytes(answer.body), type=dict[str, msgspec.Raw])
    body["payment"] = msgspec.Raw(json_of(outcome.told))
    return with_body(answer, body)


def _evidence(
    request: Request, chains: Mapping[str, Chain], caller: Caller | None
) -> Evidence | None:
    """Returns the payment of the request: of one that is malformed, the transaction that it shows.

    None when there is none to be read.
    """
    stranger_at = None if caller is None else caller.stranger_at
    try:
        return read_payment(request, chains, stranger_at=stranger_at).evidence
    except FieldError:
        shown = shown_transaction(request.headers, chains)
        return shown and msgspec.structs.replace(shown, stranger_at=stranger_at)


def shows_payment(error: MoorageError) -> bool:
    """Whether an error is about a payment's hash that stands where none is read."""
    return isinstance(error, PaymentMalformed) and error.tx_hash is not None


def _misplaced(
    error: MoorageError, chains: Mapping[str, Chain], caller: Caller | None
) -> Evidence | None:
    """Returns the payment whose hash stands where none is read; which chain has it is found out."""
    if not isinstance(error, PaymentMalformed) or error.tx_hash is None:
        return None
    stranger_at = None if caller is None else caller.stranger_at
    return TransactionEvidence(default_means(chains), error.tx_hash, stranger_at=stranger_at)


def _unreadable(
    request: Request, chains: Mapping[str, Chain], error: MoorageError
) -> PaymentOutcome:
    """Returns the outcome of a payment that can't be read: a hash may stand for money that moved.

    An authorization that nobody can read is not spent. While another payment is open, none may be
    made in its place.
    """
    may_be_paid = may_have_paid(request.headers) or isinstance(error, PaymentPending)
    means = default_means(chains)
    return PaymentOutcome(
        tx_hash=None,
        chain=means.chain.name,
        token=means.token.name,
        state=PaymentState.PENDING if may_be_paid else PaymentState.UNUSED,
    )


def _claimed_wallet(request: Request, evidence: Evidence) -> str:
    """Returns the wallet that a request names which is not authenticated; "" for none."""
    if isinstance(evidence, AuthorizationEvidence):
        return evidence.authorization.payer
    try:
        return parse_address(request.headers.get("x-wallet-address", ""))
    except ValueError:
        return ""


def _after_credit(error: MoorageError) -> MoorageError:
    """Returns the error to raise when the payment is credited."""
    if problem_of(error).status < _FIRST_OF_THE_5XX:
        return error
    pending = PaymentPending(
        f"Your payment is credited; what it is for can't be done right now: {error.message} "
        "Do not pay again: send the same payment again."
    )
    pending.receipt = error.receipt
    return pending


_FIRST_HEADER = "X-Wallet-Address"
_A_HASH = (
    "A transaction's hash does not say who sends it: everybody can read it on the chain. What it "
    "paid is credited to its sender. Do not pay again: sign the request as that wallet."
)
_SIGN_INSTEAD = (
    "This gateway settles no signed payments right now: sign the request, and pay by a transfer."
)


@dataclass(frozen=True, kw_only=True)
class PaidFront(Front):
    """What handlers need that take payments."""

    paywall: Paywall
    outcomes: Outcomes


class Payer(NamedTuple):
    """Who signed a request, and the payment that came with it."""

    caller: Caller
    verified: Verified
    payment: OfferedPayment
    repeats: bool
    """Whether its nonce was used before, and its authorization stands in for that."""

    async def check_body(self, body_digest: str) -> None:
        """Raises NonceReused for a repeated request with another body; remembers a first one's.

        `body_digest` is SHA-256 in hex.
        """
        if self.verified.nonce is None:
            return
        nonces, timestamp_ms, nonce = self.verified.nonce
        wallet = self.verified.wallet
        if not self.repeats:
            await nonces.remember_body(wallet, timestamp_ms, nonce, body_digest)
        elif not await nonces.was_of_body(wallet, nonce, body_digest):
            raise NonceReused(
                "This X-Nonce was used for another body. Nothing was done or taken: "
                "sign again with a fresh UUID.",
                header="X-Nonce",
            )


async def authenticate_payer(room: PaidFront, request: Request) -> Payer:
    """Authenticates a request like `authenticate`, and reads its payment.

    After the body was read, `Payer.check_body` must be called. Also raises what `read_payment`
    raises.
    """
    verified = await _verified(room, request)
    caller = await count(room, request, verified.wallet)
    try:
        await use_nonce(verified)
        used_before = None
    except NonceReused as error:
        used_before = error
    payment = read_payment(request, room.chains, stranger_at=caller.stranger_at)
    if used_before is not None and not await _stands_in(room, request, verified, payment.evidence):
        raise used_before
    if payment.evidence is None:  # it may be asked to pay
        await room.holdings.begin(caller.wallet, stranger_at=caller.stranger_at)
    return Payer(caller, verified, payment, repeats=used_before is not None)


async def _verified(room: PaidFront, request: Request) -> Verified:
    """Returns what `verify` does; an unsigned request without a payment learns how to pay alone."""
    try:
        return await verify(room, request)
    except AuthMissing as missing:
        if room.paywall.settles() and not carries_proof(request):
            missing.open_path = request.scope["path"].removeprefix("/agent")
        raise


class OpenPayer(NamedTuple):
    """Who signed the payment of a request that nobody signed: who pays, and not who asks."""

    caller: Caller
    """Its wallet is "" where no payment names one. All of it counts for the client's address."""
    means: PaymentMeans
    evidence: AuthorizationEvidence | None
    is_fresh: bool
    """Whether the payment was never seen before, so that it has not been on the chain from here."""
    because: AuthorizationRefused | PaymentMalformed | None = None
    """Why the payment that came along does not say who pays."""


async def identify_payer(room: PaidFront, request: Request) -> OpenPayer:
    """Returns whoever signed the authorization that pays, and counts the request.

    Whoever was handed an authorization can send it: its request uses up nothing of its payer's,
    and counts for the client's address alone. One that pays somebody else, or has expired, names
    nobody. Raises AuthMissing for a transaction's hash, which everybody can read; RateLimited; what
    `read_payment` and `is_signed` raise.
    """
    request.scope[_OPEN] = True
    means, evidence, unreadable = read_payment(request, room.chains)
    address = address_key(room, request)
    nobody = Caller("", address, is_open=True)
    if isinstance(evidence, TransactionEvidence) or not (evidence or room.paywall.settles()):
        await limit_address(room, request)
        raise AuthMissing(_SIGN_INSTEAD if evidence is None else _A_HASH, header=_FIRST_HEADER)
    if evidence is None:
        await limit_address(room, request)
        return OpenPayer(nobody, means, None, is_fresh=False, because=unreadable)
    await room.limiters.strangers_proofs.check(address)
    is_fresh = not await room.paywall.knows(evidence)
    if is_fresh and (because := await _names_nobody(room, request, evidence)):
        await limit_address(room, request)
        return OpenPayer(nobody, means, None, is_fresh=False, because=because)
    caller = Caller(evidence.authorization.payer, address, is_open=True)
    evidence = msgspec.structs.replace(evidence, stranger_at=address, openly=True)
    return OpenPayer(caller, evidence.means, evidence, is_fresh)


async def identify_nobody(room: PaidFront, request: Request) -> OpenPayer:
    """Counts a dry run that nobody signed: no payment that comes along says whose it is.

    Nothing is looked up by it, not even whether it was seen before. Raises as `identify_payer`.
    """
    request.scope[_OPEN] = True
    means, evidence, _ = read_payment(request, room.chains)
    await limit_address(room, request)
    if isinstance(evidence, TransactionEvidence):
        raise AuthMissing(_A_HASH, header=_FIRST_HEADER)
    if not room.paywall.settles():
        raise AuthMissing(_SIGN_INSTEAD, header=_FIRST_HEADER)
    disregard_proof(request)
    means = means if evidence is None else evidence.means
    nobody = Caller("", address_key(room, request), is_open=True)
    return OpenPayer(nobody, means, None, is_fresh=False)


async def _names_nobody(
    room: PaidFront, request: Request, evidence: AuthorizationEvidence
) -> AuthorizationRefused | None:
    """Returns why a new authorization does not say who sends it, if so."""
    try:
        room.paywall.check(evidence)
    except AuthorizationRefused as refusal:
        return refusal
    if await is_signed(room, request, evidence):
        return None
    return AuthorizationRefused("its signature is not its payer's")


async def _stands_in(
    room: PaidFront, request: Request, verified: Verified, evidence: Evidence | None
) -> bool:
    """Whether the payment is an authorization of the wallet that was not used before."""
    if not isinstance(evidence, AuthorizationEvidence):
        return False
    if evidence.authorization.payer != verified.wallet or await room.paywall.knows(evidence):
        return False
    return await is_signed(room, request, evidence)


async def is_signed(front: Front, request: Request, evidence: AuthorizationEvidence) -> bool:
    """Whether the payer of an authorization signed it, by its key or by its code on that chain.

    Raises RateLimited and ChainUnavailable where a chain must be asked.
    """
    authorization, domain = evidence.authorization, evidence.means.token.authorization
    if domain is None:
        return False
    return await front.authenticator.has_signed(
        Wallet(authorization.payer),
        authorization_digest(authorization, domain),
        authorization.signature,
        chain=evidence.means.chain.name,
        client=address_key(front, request),
    )

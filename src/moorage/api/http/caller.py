"""Who calls, and whether they may call now: signature first, then the bucket that counts it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from moorage.api.http.payment_headers import read_payment
from moorage.api.http.problems import problem_of
from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.auth.authenticator import Authenticator
from moorage.auth.client_address import TrustedProxies, rate_limit_key
from moorage.auth.rate_limit import RateLimiter
from moorage.auth.wallet import SignedHeaders, signed_body_digest
from moorage.chains.chain import Chain
from moorage.clock import Clock
from moorage.errors import (
    AuthError,
    PaymentPending,
    ProjectNotFound,
    RateLimited,
    SignatureInvalid,
    WrongWallet,
)
from moorage.ledger.paid_wallets import PaidWallets
from moorage.metrics import record_auth_failure
from moorage.payments.protocols.evidence import TransactionEvidence
from moorage.records.project import Project
from moorage.signed_request import Target, host_of
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import payments

PAID = "moorage.paid"
"""The scope's key that marks requests of operations which take payments."""

_BODY_DIGEST = "moorage.body_digest"
"""The scope's key for the SHA-256 of the body, where the signature covers it."""

_SIGNED_HEADERS = frozenset(
    (
        *(b"x-wallet-address", b"x-signature", b"x-timestamp", b"x-nonce"),
        *(b"x-signature-version", b"x-wallet-chain", b"content-digest"),
    )
)
_PROOF_HEADERS = (b"x-payment-tx", b"payment-signature")
_PROOF_SCHEME = b"payment "

_LOOKED_UP_LATER = (
    "Too many payments were shown to be looked for right now. If you have paid, do not pay again: "
    "it is found without you, or when you send the same request again."
)


@dataclass(frozen=True, kw_only=True)
class Limiters:
    """The rate limits of contract 1.5, each with buckets of its own."""

    wallets: RateLimiter
    polls: RateLimiter  # by deployment
    proofs: RateLimiter  # by wallet: requests that carry proof of payment
    addresses: RateLimiter  # public endpoints, and requests whose signature failed
    strangers: RateLimiter  # by address: signed requests of wallets that never paid
    strangers_proofs: RateLimiter  # by address: of these, the ones that carry proof of payment


@dataclass(frozen=True, kw_only=True)
class Front:
    """What every handler stands on: the books, and what tells who calls and counts it.

    A handler's first argument names the record of what it needs, which adds to these.
    """

    db: Database
    clock: Clock
    chains: Mapping[str, Chain]
    public_url: str
    authenticator: Authenticator
    paid_wallets: PaidWallets
    trusted_proxies: TrustedProxies
    limiters: Limiters

    @cached_property
    def host(self) -> str:
        """What bound signatures must name: the host that clients know, whatever proxies call it."""
        return host_of(self.public_url)


def client_address(front: Front, request: Request) -> str:
    """The client's address, as far as trusted proxies tell it."""
    peer = request.client.host if request.client else None
    forwarded = request.headers.getlist("x-forwarded-for")
    return front.trusted_proxies.client_address(peer, forwarded)


class Caller(NamedTuple):
    """Who signed a request."""

    wallet: str
    stranger_at: str | None
    """The client address it counts for as well, where the wallet never paid: keys are free."""


async def authenticate(front: Front, request: Request) -> Caller:
    """Who signed the request, once it is counted and its nonce is used up, in this order.

    So neither a forged request nor a refused one burns a nonce. Raises what `verify`, `count` and
    `use_nonce` raise.
    """
    signed = await verify(front, request)
    caller = await count(front, request, signed.wallet)
    await use_nonce(front, signed)
    return caller


async def owned_project(front: Front, request: Request) -> Project:
    """The caller's project, of the path's `projectId`; the request is counted.

    Raises an AuthError, RateLimited, ProjectNotFound and WrongWallet.
    """
    wallet, _ = await authenticate(front, request)
    project = await projects.by_id(front.db, request.path_params["projectId"])
    if project is None:
        raise ProjectNotFound
    if project.wallet != wallet:
        raise WrongWallet
    return project


async def verify(front: Front, request: Request) -> SignedHeaders:
    """What the wallet signed; a failure counts against the client's address.

    Raises an AuthError, RateLimited for an address that fails too often, and, where a contract
    wallet is asked, InvalidField and ChainUnavailable.
    """
    headers = _signed_headers(request)
    try:
        target = _target(front, request, headers)
        signed = await front.authenticator.verify(
            headers, target=target, client=lambda: _address_key(front, request)
        )
    except AuthError as error:
        record_auth_failure(problem_of(error).code)
        await limit_address(front, request)
        raise
    request.scope[WALLET] = signed.wallet
    if target is not None:
        request.scope[_BODY_DIGEST] = target.body_digest
    return signed


async def count(front: Front, request: Request, wallet: str) -> Caller:
    """Count the wallet's request; a stranger's for its client address as well.

    What carries proof of payment has buckets of its own. Raises RateLimited; but never for money
    that moved: a transaction that the books know of passes, and one that can't be looked for now
    raises PaymentPending.
    """
    limiters, is_proof = front.limiters, carries_proof(request)
    has_paid = request.scope[HAS_PAID] = await front.paid_wallets.has_paid(wallet)
    address = None if has_paid else _address_key(front, request)
    try:
        await (limiters.proofs if is_proof else limiters.wallets).check(wallet)
        if address is not None:
            await (limiters.strangers_proofs if is_proof else limiters.strangers).check(address)
    except RateLimited as full:
        if not is_proof:
            raise
        await _refuse_proof(front, request, wallet, full)
    return Caller(wallet, address)


async def use_nonce(front: Front, signed: SignedHeaders) -> None:
    """Use up the request's nonce. Raises NonceReused and TimestampExpired, counted already."""
    try:
        await front.authenticator.use_nonce(signed)
    except AuthError as error:
        record_auth_failure(problem_of(error).code)
        raise


def signed_body(scope: Scope, receive: Receive) -> Receive:
    """`receive`, which raises SignatureInvalid at the end of a body that was not signed.

    Only a signature that is bound to its request covers the body.
    """
    digest = sha256()

    async def receive_signed() -> Message:
        message = await receive()
        expected = scope.get(_BODY_DIGEST)
        if expected is not None and message["type"] == "http.request":
            digest.update(message.get("body", b""))
            if not message.get("more_body", False) and digest.digest() != expected:
                raise SignatureInvalid("The body is not the one that Content-Digest names.")
        return message

    return receive_signed


def _target(front: Front, request: Request, headers: dict[str, str]) -> Target | None:
    """What the signature must be bound to; None for one of version 1. Raises SignatureInvalid."""
    match headers.get("x-signature-version", "1"):
        case "1":
            return None
        case "2":
            path, query = request.scope["raw_path"], request.scope["query_string"]
            return Target(
                host=front.host,
                method=request.method,
                path=(path + b"?" + query if query else path).decode("latin-1"),
                body_digest=signed_body_digest(headers.get("content-digest")),
            )
    raise SignatureInvalid("X-Signature-Version must be 1 or 2.")


def _signed_headers(request: Request) -> dict[str, str]:
    """What signatures are made of and read by, as far as it is there; of several, the first."""
    found: dict[str, str] = {}
    for name, value in request.scope["headers"]:  # one pass, where each look-up would take one
        if name in _SIGNED_HEADERS:
            found.setdefault(name.decode(), value.decode("latin-1"))
    return found


async def limit_address(front: Front, request: Request) -> None:
    """Count a request that no wallet stands for. Raises RateLimited."""
    await front.limiters.addresses.check(_address_key(front, request))


def carries_proof(request: Request) -> bool:
    """Whether money may have moved for this request: never where none is taken."""
    return PAID in request.scope and any(
        name in _PROOF_HEADERS
        or (name == b"authorization" and value[: len(_PROOF_SCHEME)].lower() == _PROOF_SCHEME)
        for name, value in request.scope["headers"]
    )


def _address_key(front: Front, request: Request) -> str:
    return rate_limit_key(client_address(front, request))


async def _refuse_proof(front: Front, request: Request, wallet: str, full: RateLimited) -> None:
    """Raise what is told to a wallet whose bucket of proofs is full, unless its money came.

    Raises PaymentMalformed, PaymentPending, and `full` for what moves no money by itself.
    """
    _, evidence = read_payment(request, front.chains)
    if not isinstance(evidence, TransactionEvidence):
        raise full
    chain_id, tx_hash = evidence.means.chain.chain_id, evidence.tx_hash
    booked = await payments.of_transaction(front.db, chain_id=chain_id, tx_hash=tx_hash)
    uses = await payments.uses_of(front.db, chain_id=chain_id, tx_hash=tx_hash)
    if wallet in uses or all(payment.payer != wallet for payment in booked):
        raise PaymentPending(_LOOKED_UP_LATER, retry_after_seconds=full.retry_after_seconds)

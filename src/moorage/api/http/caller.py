"""Authenticates a request, then counts it against the rate limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from moorage.api.http.payment_headers import read_payment
from moorage.api.http.problems import problem_of
from moorage.api.http.request import named_project
from moorage.api.http.request_context import HAS_PAID, WALLET
from moorage.auth.authenticator import Authenticator, Verified
from moorage.auth.client_address import TrustedProxies
from moorage.auth.rate_limit import RateLimiter
from moorage.auth.tokens import ManageTokens
from moorage.auth.wallet import Wallet, signed_body_digest
from moorage.chains.chain import Chain
from moorage.clock import Clock
from moorage.errors import (
    AuthError,
    ConfirmationMissing,
    LinkScope,
    PaymentPending,
    RateLimited,
    SignatureInvalid,
    TokenScope,
)
from moorage.ledger.services import PaidWallets
from moorage.metrics import record_auth_failure
from moorage.payments.price.quotes import Holdings
from moorage.payments.protocols.evidence import TransactionEvidence, is_credential
from moorage.payments.taking.paywall import booked
from moorage.records.project import Project
from moorage.signing import Target, host_of
from moorage.storage.database import Database
from moorage.storage.money import payments
from moorage.storage.page_access import ManagedProject

_MANAGED = "moorage.managed"
"""The scope's key for the `ManagedProject` of a request's token."""

TOKEN = "moorage.manage_token"  # noqa: S105 - a key
"""The scope's key for a token of a tool's call, whose header a credential of MPP takes."""

_SCHEME = "bearer "
_OF_A_BODY = ("/agent/deploy", "/agent/quote", "/deploy")
"""Their body names the project."""

_PAYS_IN = ("/agent/credits", "/credits")
"""What is paid there is for the project; reading what its wallet has there is not."""

_OF_A_PROJECT = ("/agent/deploy/", "/agent/projects/", "/agent/uploads/")
_OF_A_WALLET = ("/tokens", "/adopt")  # whoever has a token makes no other, and takes no credits


def bearer_token(request: Request) -> str | None:
    """Returns the request's token; wallet headers go before it."""
    if "x-wallet-address" in request.headers:
        return None
    if (beside := request.scope.get(TOKEN)) is not None:
        return str(beside)
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip(" ")


def is_covered(method: str, path: str) -> bool:
    """Whether tokens cover this method of a path, or of its template, as far as these tell."""
    if path.endswith(_OF_A_WALLET) or "/exports" in path:  # an export may have the variables
        return False
    if method == "POST" and path in _PAYS_IN:
        return True
    return path in _OF_A_BODY or path.startswith(_OF_A_PROJECT)


def require_covered(request: Request, project: ManagedProject) -> None:
    """Raises TokenScope for a request that the project's token does not cover."""
    named = request.path_params.get("projectId", project.id).lower()
    is_own = named in (project.id, project.unique_name)
    if not is_own or not is_covered(request.method, request.scope["path"]):
        raise TokenScope


PERSON = "moorage.person"
"""The scope's key for the `Person` that a page was asked by."""


class Person(NamedTuple):
    """Somebody with a session."""

    wallet: str
    project_id: str | None = None
    """The only project they may look at, if not all of the wallet."""
    may_change: bool = True
    has_confirmed: bool = False
    """Whether the wallet has just signed what is asked for, as it can't be undone."""

    def require_confirmed(self) -> None:
        """Raises ConfirmationMissing unless they have just signed what is asked for."""
        if not self.has_confirmed:
            raise ConfirmationMissing


_LASTING = frozenset(
    {
        ("DELETE", "/agent/projects/{projectId}"),
        ("DELETE", "/agent/projects/{projectId}/tokens"),
        ("POST", "/agent/projects/{projectId}/adopt"),
        ("POST", "/agent/projects/{projectId}/tokens"),
    }
)
"""What can't be undone, or lets others in: its wallet signs it, even with a session."""


def require_permitted(request: Request, person: Person) -> None:
    """Raises LinkScope for a request beyond what the person may do, and ConfirmationMissing."""
    if person.project_id is not None and request.path_params.get("projectId") != person.project_id:
        raise LinkScope
    if request.method in ("GET", "HEAD"):
        return
    if not person.may_change:
        raise LinkScope
    if (request.method, request.scope["route"].path) in _LASTING:
        person.require_confirmed()


CALLER = "moorage.caller"
"""The scope's key for the `Caller`, set when its signature is verified and it is counted."""

PAID = "moorage.paid"
"""The scope's key that marks requests to operations which take payments."""

_BODY_DIGEST = "moorage.body_digest"
"""The scope's key for the SHA-256 of the body, where the signature covers it."""

_PROOF = "moorage.proof"
"""The scope's key for whether the request carries a proof of payment, once that was looked for."""

_SIGNED_HEADERS = frozenset(
    (
        *(b"x-wallet-address", b"x-signature", b"x-timestamp", b"x-nonce"),
        *(b"x-signature-version", b"x-wallet-chain", b"content-digest", b"sign-in-with-x"),
    )
)
_PROOF_HEADERS = (b"x-payment-tx", b"payment-signature", b"x-payment")

_LOOKED_UP_LATER = (
    "Too many payments were shown to be looked for right now. If you have paid, do not pay again: "
    "it is found without you, or when you send the same request again."
)


@dataclass(frozen=True, kw_only=True)
class Limiters:
    """The rate limits of contract 1.5, each with buckets of its own."""

    wallets: RateLimiter
    people: RateLimiter  # by wallet: what pages ask for who looks at them
    polls: RateLimiter  # by deployment
    proofs: RateLimiter  # by wallet: requests that carry proof of payment
    addresses: RateLimiter  # public endpoints, and requests whose signature failed
    strangers: RateLimiter  # by address: signed requests of wallets that never paid
    strangers_proofs: RateLimiter  # by address: of these, the ones that carry proof of payment


@dataclass(frozen=True, kw_only=True)
class Front:
    """What every handler needs: database, chains, and what authenticates and counts requests.

    A handler's first argument is annotated with its own record, which extends this one.
    """

    db: Database
    clock: Clock
    chains: Mapping[str, Chain]
    public_url: str
    authenticator: Authenticator
    manage_tokens: ManageTokens
    paid_wallets: PaidWallets
    trusted_proxies: TrustedProxies
    limiters: Limiters
    holdings: Holdings

    @cached_property
    def host(self) -> str:
        """The host that bound signatures must name: the public one, whatever name proxies use."""
        return host_of(self.public_url)


def client_address(front: Front, request: Request) -> str:
    """Returns the client's address; X-Forwarded-For counts only from trusted proxies."""
    peer = request.client.host if request.client else None
    forwarded = request.headers.getlist("x-forwarded-for")
    return front.trusted_proxies.client_address(peer, forwarded)


class Caller(NamedTuple):
    """Who asks, and what they may do. Made once for a request, and handed on."""

    wallet: str
    """"" where a payment alone speaks, and names nobody."""
    stranger_at: str | None
    """The client address that is counted too, if the wallet never paid: new keys cost nothing."""
    managed: ManagedProject | None = None
    """The project whose token speaks, in place of the wallet."""
    person: Person | None = None
    """Who looks at a page, if it asks."""
    is_open: bool = False
    """Whether a payment alone says whose the request is."""

    @property
    def project_id(self) -> str | None:
        """The id of the token's project, if a token speaks."""
        return None if self.managed is None else self.managed.id

    @property
    def is_reader(self) -> bool:
        """Whether it is somebody with a link that lets them read alone."""
        return self.person is not None and not self.person.may_change

    @property
    def share(self) -> str:
        """Whose share of a wallet's streams is used: its own, or that of its links' readers."""
        return f"readers of {self.wallet}" if self.is_reader else self.wallet

    @property
    def uploads_owner(self) -> str:
        """Whose uploads it stores and finds: its wallet's, or its token's own.

        A payment alone finds none: it reads nothing of its payer's.
        """
        if self.is_open:
            return ""
        return self.wallet if self.managed is None else f"project {self.managed.id}"

    def require_own(self, unique_name: str) -> None:
        """Raises TokenScope where a token speaks, and its project has another name."""
        if self.managed is not None and self.managed.unique_name != unique_name:
            raise TokenScope

    def require_confirmed(self) -> None:
        """Raises ConfirmationMissing for a page, unless its wallet has just signed what it asks.

        A request that its wallet signed is confirmed by that.
        """
        if self.person is not None:
            self.person.require_confirmed()

    async def project(self, db: Database, request: Request) -> Project:
        """Returns the caller's project, named by the path's `projectId`.

        Raises ProjectNotFound and WrongWallet.
        """
        return await named_project(db, request.path_params["projectId"], wallet=self.wallet)


async def authenticate(front: Front, request: Request) -> Caller:
    """Returns who signed the request, after counting it and then using up its nonce.

    In this order, neither a forged request nor a refused one uses up a nonce. Raises what `verify`,
    `count` and `use_nonce` raise.
    """
    verified = await verify(front, request)
    caller = await count(front, request, verified.wallet)
    await use_nonce(verified)
    return caller


async def owned_project(front: Front, request: Request) -> Project:
    """Authenticates the request; returns the caller's project, named by the path's `projectId`.

    Raises an AuthError, RateLimited, ProjectNotFound and WrongWallet.
    """
    caller = await authenticate(front, request)
    return await caller.project(front.db, request)


async def verify(front: Front, request: Request) -> Verified:
    """Returns whose the request is; a failure counts against the client's address.

    Raises an AuthError, RateLimited for an address that fails too often, and for a contract wallet
    also InvalidField and ChainUnavailable; TokenScope for a manage token that does not cover it.
    """
    try:
        verified = await _verified(front, request)
    except AuthError as error:
        record_auth_failure(problem_of(error).code)
        await limit_address(front, request)
        raise
    request.scope[WALLET] = verified.wallet
    return verified


async def _verified(front: Front, request: Request) -> Verified:
    person: Person | None = request.scope.get(PERSON)
    if person is not None:
        require_permitted(request, person)
        return Verified(Wallet(person.wallet), None)
    token = bearer_token(request)
    if token is not None:
        return await _verify_token(front, request, token)
    return await _verify_signature(front, request)


async def _verify_signature(front: Front, request: Request) -> Verified:
    headers = _signed_headers(request)
    sign_in = headers.get("sign-in-with-x")
    if sign_in is not None and "x-wallet-address" not in headers:
        return await front.authenticator.verify_sign_in(
            sign_in,
            public_url=front.public_url,
            now_ms=front.clock.now_ms(),
            client=lambda: address_key(front, request),
        )
    target = _target(front, request, headers)
    verified = await front.authenticator.verify(
        headers, target=target, client=lambda: address_key(front, request)
    )
    if target is not None:
        request.scope[_BODY_DIGEST] = target.body_digest
    return verified


async def _verify_token(front: Front, request: Request, token: str) -> Verified:
    project = request.scope[_MANAGED] = await front.manage_tokens.project_of(token)
    require_covered(request, project)
    return Verified(Wallet(project.wallet), None)


async def count(front: Front, request: Request, wallet: str) -> Caller:
    """Counts the wallet's request; also against the client's address if the wallet never paid.

    That holds for pages, too: a session of a new key is as free as the key. Requests with a proof
    of payment have their own limits. Raises RateLimited, but never for money that moved: one that
    the books know passes, and one that can't be looked up now raises PaymentPending.
    """
    limiters, is_proof = front.limiters, carries_proof(request)
    managed, person = request.scope.get(_MANAGED), request.scope.get(PERSON)
    bucket = wallet if managed is None else f"token:{managed.id}"  # a token uses up its own
    has_paid = request.scope[HAS_PAID] = await front.paid_wallets.has_paid(wallet)
    address = None if has_paid else address_key(front, request)
    of_wallet = limiters.wallets if person is None else limiters.people
    try:
        await (limiters.proofs if is_proof else of_wallet).check(bucket)
        if address is not None:
            await (limiters.strangers_proofs if is_proof else limiters.strangers).check(address)
    except RateLimited as full:
        if not is_proof:
            raise
        await _refuse_proof(front, request, wallet, full)
    caller = request.scope[CALLER] = Caller(wallet, address, managed, person)
    return caller


async def use_nonce(verified: Verified) -> None:
    """Uses up the nonce of a request that is counted. Raises NonceReused and TimestampExpired."""
    try:
        await verified.use_nonce()
    except AuthError as error:
        record_auth_failure(problem_of(error).code)
        raise


def signed_body(scope: Scope, receive: Receive) -> Receive:
    """Wraps `receive`: it raises SignatureInvalid at the end of a body that was not signed.

    Only a bound signature (version 2) covers the body.
    """
    digest = sha256()

    async def receive_signed() -> Message:
        message = await receive()
        expected = scope.get(_BODY_DIGEST)
        if expected is not None and message["type"] == "http.request":
            digest.update(message.get("body", b""))
            if not message.get("more_body", False) and digest.digest() != expected:
                raise SignatureInvalid(
                    "The body is not the one that Content-Digest names.", header="Content-Digest"
                )
        return message

    return receive_signed


def _target(front: Front, request: Request, headers: dict[str, str]) -> Target | None:
    """Returns what the signature must be bound to; None for version 1. Raises SignatureInvalid."""
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
    raise SignatureInvalid("X-Signature-Version must be 1 or 2.", header="X-Signature-Version")


def _signed_headers(request: Request) -> dict[str, str]:
    """Returns the headers that authentication reads; the first of several with one name."""
    found: dict[str, str] = {}
    for name, value in request.scope["headers"]:  # one pass instead of one for each header
        if name in _SIGNED_HEADERS:
            found.setdefault(name.decode(), value.decode("latin-1"))
    return found


async def limit_address(front: Front, request: Request) -> None:
    """Counts a request against its client's address alone. Raises RateLimited."""
    await front.limiters.addresses.check(address_key(front, request))


def carries_proof(request: Request) -> bool:
    """Whether the request, to an operation that takes payments, carries a proof of one."""
    scope = request.scope
    found: bool | None = scope.get(_PROOF)
    if found is None:
        found = scope[_PROOF] = PAID in scope and any(
            name in _PROOF_HEADERS
            or (name == b"authorization" and is_credential(value.decode("latin-1")))
            for name, value in scope["headers"]
        )
    return found


def disregard_proof(request: Request) -> None:
    """Has a dry run answered as if no payment had come along."""
    request.scope[_PROOF] = False


def address_key(front: Front, request: Request) -> str:
    """Returns what the client's address is counted under."""
    return front.trusted_proxies.limit_key(client_address(front, request))


async def _refuse_proof(front: Front, request: Request, wallet: str, full: RateLimited) -> None:
    """Refuses a proof beyond the wallet's limit, unless the books hold its payment, still unused.

    Raises PaymentMalformed; PaymentPending for a transaction that may have moved money; `full` for
    any other proof.
    """
    evidence = read_payment(request, front.chains).evidence
    if not isinstance(evidence, TransactionEvidence):
        raise full
    chain, known = await booked(
        front.db,
        named=evidence.means.chain,
        chains=front.chains.values(),
        tx_hash=evidence.tx_hash,
    )
    uses = await payments.uses_of(front.db, chain_id=chain.chain_id, tx_hash=evidence.tx_hash)
    if wallet in uses or all(payment.payer != wallet for payment in known):
        raise PaymentPending(_LOOKED_UP_LATER, retry_after_seconds=full.retry_after_seconds)

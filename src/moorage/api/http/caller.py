"""Who sends a request: authenticates it, counts it against the rate limits, reads who pays.

A handler names in its arguments what it needs to know: a `Caller`, the caller's `Project`, a
`Polled` deployment or a `Payer`; `answered` makes these once and hands them over.

Clients of x402 and MPP repeat the request that got the 402, its wallet headers included, and add
the payment. So a used nonce passes again (contract 1.1) within its minute, for the body that it was
used for, when the request brings an authorization that the wallet signed and that was not used
before. The authorization's own nonce then is what is used once.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from typing import Any, NamedTuple, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive
from starlette.types import Scope as AsgiScope

from moorage.acting import ACTING, Acting
from moorage.address import parse_address
from moorage.api.http.idempotency import HEADER as IDEMPOTENCY_KEY
from moorage.api.http.payment import OfferedPayment, read_payment
from moorage.api.http.problems import json_response, problem_of
from moorage.api.http.request import flag, named_project, viewed_deployment
from moorage.api.http.request_context import CALLER, HAS_PAID, OPEN, PAID, WALLET
from moorage.auth.authenticator import Authenticator, Verified
from moorage.auth.delegates import Delegates
from moorage.auth.rate_limit import RateLimiter, TrustedProxies
from moorage.auth.recovery import Recoveries
from moorage.auth.tokens import ManageTokens
from moorage.auth.wallet import Wallet, signed_body_digest
from moorage.chains.chain import Chain
from moorage.chains.eip3009 import authorization_digest
from moorage.clock import Clock
from moorage.errors import (
    AuthError,
    AuthMissing,
    AuthorizationRefused,
    ConfirmationMissing,
    DatabaseUnavailable,
    DelegateScope,
    DeploymentNotFound,
    InvalidField,
    LinkScope,
    NonceReused,
    PaymentPending,
    ProjectNotFound,
    RateLimited,
    SignatureInvalid,
    SignatureUnbound,
    TokenScope,
    WalletRecovered,
    WrongWallet,
)
from moorage.ledger.services import CreditWarnings, PaidWallets
from moorage.metrics import AUTH_FAILURES
from moorage.payments.price.quotes import Holdings
from moorage.payments.protocols.evidence import (
    AuthorizationEvidence,
    Evidence,
    TransactionEvidence,
    is_credential,
)
from moorage.payments.taking.paywall import Outcomes, Paywall, booked
from moorage.records.access import Scope, StoredDelegation
from moorage.records.deployment import DeploymentView
from moorage.records.project import Project
from moorage.signing import Target, host_of
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import payments
from moorage.storage.page_access import ManagedProject
from moorage.wire import calls

_MANAGED = "moorage.managed"
"""The scope's key for the `ManagedProject` of a request's token."""

_DELEGATIONS = "moorage.delegations"
"""The scope's key for the delegations by which a request's signer acts for another wallet."""

_RECOVERED_BY = "moorage.recovered_by"
"""The scope's key for the address that took over the wallet that a request is for."""

_ON_BEHALF_OF = "x-on-behalf-of"

TOKEN = "moorage.manage_token"  # noqa: S105 - a key
"""The scope's key for a token of a tool's call, whose header a credential of MPP takes."""

_SCHEME = "bearer "
_QUOTE = "/agent/quote"
_PRICED = ("/agent/deploy", _QUOTE, "/deploy")
"""They say a price, and change nothing, where a header asks for that."""

_OPEN_PATHS = ("/deploy", "/credits")
"""A payment alone may say whose the request is."""


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
    return any(each.by_token and each.is_at(method, path) for each in calls.ALL)


def require_covered(request: Request, project: ManagedProject) -> None:
    """Raises TokenScope for a request that the project's token does not cover."""
    named = request.path_params.get("projectId", project.id).lower()
    is_own = named in (project.id, project.unique_name)
    call = calls.call_at(request.method, request.scope["path"])
    if not is_own or call is None or not call.by_token:
        raise TokenScope
    if call.scope is not None and call.scope not in project.scopes.split():
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


def require_permitted(request: Request, person: Person) -> None:
    """Raises LinkScope for a request beyond what the person may do.

    Raises SignatureUnbound and ConfirmationMissing for what its wallet must have signed just now.
    """
    if person.project_id is not None and request.path_params.get("projectId") != person.project_id:
        raise LinkScope
    if request.method in ("GET", "HEAD"):
        return
    if not person.may_change:
        raise LinkScope
    path = request.scope["route"].path
    if calls.is_bound(request.method, path) and not person.has_confirmed:
        raise SignatureUnbound
    if any(each.lasting and each.is_at(request.method, path) for each in calls.ALL):
        person.require_confirmed()


_BODY_DIGEST = "moorage.body_digest"
"""The scope's key for the SHA-256 of the body, where the signature covers it."""

_PROOF = "moorage.proof"
"""The scope's key for whether the request carries a proof of payment, once that was looked for."""

_SIGNED_HEADERS = frozenset(
    (
        *(b"x-wallet-address", b"x-signature", b"x-timestamp", b"x-nonce"),
        *(b"x-signature-version", b"x-wallet-chain", b"content-digest", b"sign-in-with-x"),
        b"x-on-behalf-of",
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
    delegates: Delegates
    recoveries: Recoveries
    paid_wallets: PaidWallets
    credit_warnings: CreditWarnings
    trusted_proxies: TrustedProxies
    limiters: Limiters
    holdings: Holdings

    @cached_property
    def host(self) -> str:
        """The host that bound signatures must name: the public one, whatever name proxies use."""
        return host_of(self.public_url)


@dataclass(frozen=True, kw_only=True)
class PaidFront(Front):
    """What handlers need that take payments."""

    paywall: Paywall
    outcomes: Outcomes


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
    delegations: tuple[StoredDelegation, ...] = ()
    """By which of them a delegate speaks, in place of the wallet; several may cover a deploy."""

    recovered_by: str = ""
    """The address that took the wallet over, and speaks for it."""

    @property
    def project_id(self) -> str | None:
        """The id of the token's project, if a token speaks."""
        return None if self.managed is None else self.managed.id

    @property
    def acted_by(self) -> str:
        """The delegate that acts for the wallet, or `token:` and which token; "" for itself.

        For a wallet that was taken over, its holder.
        """
        if self.recovered_by:
            return self.recovered_by
        if self.delegations:
            return self.delegations[0].delegate
        return "" if self.managed is None else f"token:{self.managed.token_id}"

    @property
    def is_reader(self) -> bool:
        """Whether it is somebody with a link that lets them read alone."""
        return self.person is not None and not self.person.may_change

    @property
    def share(self) -> str:
        """Whose share of a wallet's streams is used: its own, its delegate's, or its readers'."""
        if self.delegations:
            return self.speaker
        return f"readers of {self.wallet}" if self.is_reader else self.wallet

    @property
    def speaker(self) -> str:
        """Whose uploads and Idempotency-Keys it uses: the wallet's, or its token's or delegate's.

        "" without a signature: it reads nothing of its payer's.
        """
        if self.is_open:
            return ""
        if self.delegations:
            return f"{self.delegations[0].delegate} for {self.wallet}"
        return self.wallet if self.managed is None else f"project {self.managed.id}"

    def about(self, unique_name: str) -> "Caller":
        """Returns who asks about the project of a name, by one delegation at most.

        Raises TokenScope and DelegateScope where what speaks is for another project.
        """
        if self.managed is not None and self.managed.unique_name != unique_name:
            raise TokenScope
        if not self.delegations:
            return self
        covering = [each for each in self.delegations if each.project in ("", unique_name)]
        if not covering:
            raise DelegateScope
        return self._replace(delegations=(covering[0],))


async def authenticate(front: Front, request: Request) -> Caller:
    """Returns who signed the request, after counting it and then using up its nonce.

    In this order, neither a forged request nor a refused one uses up a nonce. Raises what `verify`,
    `count` and `use_nonce` raise; InvalidField for a bound request without an Idempotency-Key.
    """
    verified = await verify(front, request)
    caller = await count(front, request, verified.wallet)
    if IDEMPOTENCY_KEY not in request.headers and _is_bound(request):
        raise InvalidField(IDEMPOTENCY_KEY, "is missing: this must not be carried out twice")
    await use_nonce(verified)
    return caller


async def verify(front: Front, request: Request) -> Verified:
    """Returns whose the request is; a failure counts against the client's address.

    Raises an AuthError, DelegateScope, WalletRecovered, RateLimited for an address that fails too
    often, and for a contract wallet also InvalidField and ChainUnavailable; TokenScope for a manage
    token that does not cover it.
    """
    try:
        verified = await _verified(front, request)
    except (AuthError, DelegateScope, TokenScope, WalletRecovered) as error:
        AUTH_FAILURES.labels(problem_of(error).code).inc()
        await limit_address(front, request)
        raise
    request.scope[WALLET] = verified.wallet
    return verified


async def _verified(front: Front, request: Request) -> Verified:
    person: Person | None = request.scope.get(PERSON)
    if person is not None:
        require_permitted(request, person)
        await front.recoveries.require_own(person.wallet)
        return Verified(Wallet(person.wallet), None)
    token, by_delegate = bearer_token(request), _ON_BEHALF_OF in request.headers
    if by_delegate or _is_bound(request):
        require_version_2(request)
    if token is not None:
        project = request.scope[_MANAGED] = await front.manage_tokens.project_of(token)
        require_covered(request, project)
        return Verified(Wallet(project.wallet), None)
    return await _verify_signature(front, request)


def _is_bound(request: Request) -> bool:
    return calls.is_bound(request.method, request.scope["path"])


def require_bound(request: Request, caller: "Caller") -> None:
    """Raises SignatureUnbound unless the wallet signed this very request, or a page's question.

    Raises DelegateScope for a delegate.
    """
    if caller.delegations:
        raise DelegateScope
    if caller.person is None:
        require_version_2(request)
    elif not caller.person.has_confirmed:
        raise SignatureUnbound


def require_version_2(request: Request) -> None:
    """Raises SignatureUnbound if anything speaks for the wallet but a signature of version 2."""
    headers = request.headers
    if bearer_token(request) is not None:
        raise SignatureUnbound(header="Authorization")
    if "x-wallet-address" in headers:
        if headers.get("x-signature-version") != "2":
            raise SignatureUnbound(header="X-Signature-Version")
    elif "sign-in-with-x" in headers:
        raise SignatureUnbound(header="SIGN-IN-WITH-X")


async def _verify_signature(front: Front, request: Request) -> Verified:
    headers = _signed_headers(request)
    sign_in = headers.get("sign-in-with-x")
    if sign_in is not None and "x-wallet-address" not in headers:
        verified = await front.authenticator.verify_sign_in(
            sign_in,
            public_url=front.public_url,
            now_ms=front.clock.now_ms(),
            client=lambda: address_key(front, request),
        )
        await front.recoveries.require_own(verified.wallet)
        return verified
    owner = _owner(headers.get(_ON_BEHALF_OF))
    target = _target(front, request, headers, owner)
    verified = await front.authenticator.verify(
        headers, target=target, client=lambda: address_key(front, request)
    )
    if target is not None:
        request.scope[_BODY_DIGEST] = target.body_digest
    await front.recoveries.require_own(verified.wallet)  # also of who acts for another
    return await _for_owner(front, request, verified, owner) if owner else verified


def _owner(header: str | None) -> Wallet | None:
    """Returns for whom the signer acts, if not for itself. Raises InvalidField."""
    with InvalidField.of("X-On-Behalf-Of", "must be a wallet: 0x and 40 hex digits"):
        return None if header is None else Wallet(parse_address(header))


async def _for_owner(
    front: Front, request: Request, verified: Verified, wallet: Wallet
) -> Verified:
    """Returns for whom a delegate acts, or the address that took a wallet over.

    Raises DelegateScope beyond a delegate's power.
    """
    if await front.recoveries.taken_over_by(wallet) == verified.wallet:
        request.scope[_RECOVERED_BY] = verified.wallet
        return verified._replace(wallet=wallet)
    call = calls.call_at(request.method, request.scope["path"])
    if call is None or call.scope is None:
        raise DelegateScope
    found = await front.delegates.between(owner=wallet, delegate=verified.wallet, scope=call.scope)
    name = await _project_name(front, request, wallet) if found else None
    covering = tuple(
        each for each in found if not each.project or each.project == name or call.names_in_body
    )
    if not covering:
        raise DelegateScope
    request.scope[_DELEGATIONS] = covering
    return verified._replace(wallet=wallet)


async def _project_name(front: Front, request: Request, wallet: str) -> str | None:
    """Returns the name of the project that the path names, if it is the wallet's."""
    named = request.path_params.get("projectId")
    if named is None:
        return None
    with suppress(ProjectNotFound, WrongWallet):
        return (await named_project(front.db, named, wallet=wallet)).unique_name
    return None


async def count(front: Front, request: Request, wallet: str) -> Caller:
    """Counts the wallet's request; also against the client's address if the wallet never paid.

    That holds for pages, too: a session of a new key is as free as the key. Requests with a proof
    of payment have their own limits. Raises RateLimited, but never for money that moved: one that
    the books know passes, and one that can't be looked up now raises PaymentPending.
    """
    limiters, is_proof = front.limiters, carries_proof(request)
    managed, person = request.scope.get(_MANAGED), request.scope.get(PERSON)
    delegations = request.scope.get(_DELEGATIONS, ())
    bucket = wallet if managed is None else f"token:{managed.id}"  # a token uses up its own
    if delegations:
        bucket = f"delegate:{delegations[0].delegate}:{wallet}"
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
    caller = request.scope[CALLER] = Caller(
        wallet,
        address,
        managed,
        person,
        delegations=delegations,
        recovered_by=request.scope.get(_RECOVERED_BY, ""),
    )
    ACTING.set(Acting(wallet, caller.acted_by))
    return caller


async def use_nonce(verified: Verified) -> None:
    """Uses up the nonce of a request that is counted. Raises NonceReused and TimestampExpired."""
    try:
        await verified.use_nonce()
    except AuthError as error:
        AUTH_FAILURES.labels(problem_of(error).code).inc()
        raise


def signed_body(scope: AsgiScope, receive: Receive) -> Receive:
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


def _target(
    front: Front, request: Request, headers: dict[str, str], owner: Wallet | None
) -> Target | None:
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
                on_behalf_of=owner or "",
            )
    raise SignatureInvalid("X-Signature-Version must be 1 or 2.", header="X-Signature-Version")


def _signed_headers(request: Request) -> dict[str, str]:
    """Returns the headers that authentication reads; the first of several with one name."""
    found: dict[str, str] = {}
    for name, value in request.scope["headers"]:  # one pass instead of one for each header
        if name in _SIGNED_HEADERS:
            found.setdefault(name.decode(), value.decode("latin-1"))
    return found


async def may_still_read(front: Front, request: Request, caller: Caller, project_id: str) -> bool:
    """Whether the reader of a project's log may continue a long request.

    Not if the project has another wallet now, the wallet was taken over, or the token or delegation
    has ended.
    """
    holder = await front.recoveries.taken_over_by(caller.wallet)
    if (holder or "") != caller.recovered_by:
        return False
    if caller.managed is not None:
        try:
            await front.manage_tokens.project_of(bearer_token(request) or "")
        except AuthError:
            return False
    if caller.delegations:
        by = caller.delegations[0].delegate
        living = await front.delegates.between(owner=caller.wallet, delegate=by, scope=Scope.READ)
        is_ended = not {each.id for each in living} & {each.id for each in caller.delegations}
        if is_ended or await front.recoveries.taken_over_by(by) is not None:
            return False
    project = await projects.by_id(front.db, project_id)
    return project is None or project.wallet == caller.wallet


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


class Polled(NamedTuple):
    """A deployment of the caller's, whose status is asked for."""

    deployment: DeploymentView


async def _poll(front: Front, request: Request) -> Polled:
    """Returns the deployment that the path names; counts the request for that, not its wallet.

    Raises what `authenticate` raises; DeploymentNotFound, ProjectNotFound and WrongWallet.
    """
    verified = await verify(front, request)
    try:
        found = await viewed_deployment(
            front.db,
            project=request.path_params["projectId"],
            deployment=request.path_params["deploymentId"],
            wallet=verified.wallet,
        )
    except (DeploymentNotFound, ProjectNotFound, WrongWallet):
        await count(front, request, verified.wallet)
        await use_nonce(verified)
        raise
    if PERSON in request.scope:  # pages do not use up what its agent may ask
        await count(front, request, verified.wallet)
    else:
        await front.limiters.polls.check(found.id)
        request.scope[HAS_PAID] = await front.paid_wallets.has_paid(verified.wallet)
    await use_nonce(verified)
    return Polled(found)


_FIRST_HEADER = "X-Wallet-Address"
_A_HASH = (
    "A transaction's hash does not say who sends it: everybody can read it on the chain. What it "
    "paid is credited to its sender. Do not pay again: sign the request as that wallet."
)
_SIGN_INSTEAD = (
    "This gateway settles no signed payments right now: sign the request, and pay by a transfer."
)


class Payer(NamedTuple):
    """Who sends a request that may bring a payment, and that payment.

    Without wallet headers `caller` is who signed the payment: who pays, not who asks.
    """

    caller: Caller
    payment: OfferedPayment
    verified: Verified | None = None
    """None where a payment alone speaks."""
    repeats: bool = False
    """Whether its nonce was used before, and its authorization stands in for that."""
    is_fresh: bool = False
    """Whether a payment that speaks alone was never seen before, so that nobody read it yet."""
    is_dry_run: bool = False

    async def check_body(self, body_digest: str) -> None:
        """Raises NonceReused for a repeated request with another body; remembers a first one's.

        `body_digest` is SHA-256 in hex. To be called once the body was read.
        """
        if self.verified is None or self.verified.nonce is None:
            return
        nonces, wallet, timestamp_ms, nonce = self.verified.nonce
        if not self.repeats:
            await nonces.remember_body(wallet, timestamp_ms, nonce, body_digest)
        elif not await nonces.was_of_body(wallet, nonce, body_digest):
            raise NonceReused(
                "This X-Nonce was used for another body. Nothing was done or taken: "
                "sign again with a fresh UUID.",
                header="X-Nonce",
            )


async def identify(room: PaidFront, request: Request) -> Payer:
    """Returns who sends a request to an operation that takes payments or says a price.

    Raises what `authenticate` and `read_payment` raise.
    """
    path = request.scope["path"]
    is_dry_run = path in _PRICED and (path == _QUOTE or flag(request, "x-dry-run"))
    if path in _OPEN_PATHS and not _is_signed(request):
        return await (_open_dry_run if is_dry_run else _open_payer)(room, request)
    if is_dry_run:
        caller = await authenticate(room, request)
        payment = read_payment(request, room.chains, stranger_at=caller.stranger_at)
        return Payer(caller, payment, is_dry_run=True)
    return await _signed_payer(room, request)


def _is_signed(request: Request) -> bool:
    """Whether something besides a payment says, or should say, whose the request is."""
    names = ("x-wallet-address", "sign-in-with-x", _ON_BEHALF_OF)
    named = any(name in request.headers for name in names)
    return named or bearer_token(request) is not None


async def _signed_payer(room: PaidFront, request: Request) -> Payer:
    try:
        verified = await verify(room, request)
    except AuthMissing as missing:  # an unsigned request without a payment learns how to pay alone
        if room.paywall.settles() and not carries_proof(request):
            missing.open_path = request.scope["path"].removeprefix("/agent")
        raise
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
    return Payer(caller, payment, verified, repeats=used_before is not None)


async def _open_payer(room: PaidFront, request: Request) -> Payer:
    """Returns who signed the authorization that pays, and counts the request.

    Everybody who has seen an authorization can send it: that request uses up nothing of the
    payer's, and counts for the client's address alone. An authorization that pays somebody else,
    or has expired, names nobody. Raises AuthMissing for a transaction's hash, which everybody can
    read; RateLimited; what `read_payment` and `_has_signed` raise.
    """
    request.scope[OPEN] = True
    payment = read_payment(request, room.chains)
    evidence = payment.evidence
    address = address_key(room, request)
    nobody = Caller("", address, is_open=True)
    if isinstance(evidence, TransactionEvidence) or not (evidence or room.paywall.settles()):
        await limit_address(room, request)
        raise AuthMissing(_SIGN_INSTEAD if evidence is None else _A_HASH, header=_FIRST_HEADER)
    if evidence is None:
        await limit_address(room, request)
        return Payer(nobody, payment)
    await room.limiters.strangers_proofs.check(address)
    is_fresh = not await room.paywall.knows(evidence)
    if is_fresh and (because := await _names_nobody(room, request, evidence)):
        await limit_address(room, request)
        return Payer(nobody, OfferedPayment(payment.means, None, refused=because))
    caller = Caller(evidence.authorization.payer, address, is_open=True)
    evidence = msgspec.structs.replace(evidence, stranger_at=address, openly=True)
    return Payer(caller, OfferedPayment(evidence.means, evidence), is_fresh=is_fresh)


async def _open_dry_run(room: PaidFront, request: Request) -> Payer:
    """Counts a dry run that nobody signed; a payment that comes along is not looked at.

    Raises as `_open_payer`.
    """
    request.scope[OPEN] = True
    means, evidence, _ = read_payment(request, room.chains)
    await limit_address(room, request)
    if isinstance(evidence, TransactionEvidence):
        raise AuthMissing(_A_HASH, header=_FIRST_HEADER)
    if not room.paywall.settles():
        raise AuthMissing(_SIGN_INSTEAD, header=_FIRST_HEADER)
    request.scope[_PROOF] = False  # it is answered as if no payment had come along
    nobody = Caller("", address_key(room, request), is_open=True)
    return Payer(nobody, OfferedPayment(means, None), is_dry_run=True)


async def _names_nobody(
    room: PaidFront, request: Request, evidence: AuthorizationEvidence
) -> AuthorizationRefused | None:
    """Returns why a new authorization does not say who sends it, if so."""
    try:
        room.paywall.check(evidence)
    except AuthorizationRefused as refusal:
        return refusal
    if await _has_signed(room, request, evidence):
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
    return await _has_signed(room, request, evidence)


async def _has_signed(front: Front, request: Request, evidence: AuthorizationEvidence) -> bool:
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


Handler = Callable[..., Awaitable[Response | msgspec.Struct]]
"""What answers an operation.

Its arguments are, by their annotations: a record of what it needs, then any of the request and
what is to be known of its sender.
"""


async def warned(front: Front, scope: AsgiScope, response: Response) -> None:
    """Adds to an answer to a wallet itself how long its credits last, if it was warned of that."""
    wallet = scope.get(WALLET)
    if not wallet or scope.get(_MANAGED) or scope.get(_DELEGATIONS) or response.status_code == 401:
        return
    with suppress(DatabaseUnavailable):
        hours = await front.credit_warnings.hours_left(wallet)
        if hours is not None:
            response.headers["X-Credits-Warning"] = f"hours={hours}"


async def answered(handler: Handler, room: Front, request: Request) -> Response:
    """Identifies and counts the sender, as the handler's arguments need it, and calls the handler.

    Raises what `authenticate`, `_poll` and `identify` raise; ProjectNotFound and WrongWallet.
    """
    answer = await handler(room, *[await make(room, request) for make in _makers(handler)])
    return answer if isinstance(answer, Response) else json_response(answer)


async def _request(_: Front, request: Request) -> Request:
    return request


async def _caller(front: Front, request: Request) -> Caller:
    known: Caller | None = request.scope.get(CALLER)
    return await authenticate(front, request) if known is None else known


async def owned_project(front: Front, request: Request) -> Project:
    """Returns the caller's project, named by the path's `projectId`.

    Raises what `authenticate` raises, ProjectNotFound and WrongWallet.
    """
    caller = await _caller(front, request)
    return await named_project(front.db, request.path_params["projectId"], wallet=caller.wallet)


_Make = Callable[[Any, Request], Awaitable[object]]

_MAKERS: dict[type, _Make] = {
    Request: _request,
    Caller: _caller,
    Project: owned_project,
    Polled: _poll,
    Payer: identify,
}


def needs(handler: Handler) -> tuple[type, ...]:
    """Returns the types of a handler's arguments, its record first."""
    return tuple(kind for name, kind in get_type_hints(handler).items() if name != "return")


@cache
def _makers(handler: Handler) -> tuple[_Make, ...]:
    return tuple(_MAKERS[kind] for kind in needs(handler)[1:])

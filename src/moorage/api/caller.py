"""Who calls, and whether they may call now: signature first, then the bucket that counts it."""

from hashlib import sha256

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from moorage.api.gateway import Gateway
from moorage.api.problems import problem_of
from moorage.auth.client_address import rate_limit_key
from moorage.auth.wallet import signed_body_digest
from moorage.errors import AuthError, NonceReused, SignatureInvalid
from moorage.metrics import record_auth_failure
from moorage.signed_request import Target

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


def client_address(gateway: Gateway, request: Request) -> str:
    """The client's address, as far as trusted proxies tell it."""
    peer = request.client.host if request.client else None
    forwarded = request.headers.getlist("x-forwarded-for")
    return gateway.trusted_proxies.client_address(peer, forwarded)


async def authenticate(gateway: Gateway, request: Request) -> str:
    """The wallet that signed the request; a failure counts against the client's address.

    Raises an AuthError, RateLimited for an address that fails too often, and, where a contract
    wallet is asked, InvalidField and ChainUnavailable.
    """
    headers = _signed_headers(request)
    try:
        target = _target(gateway, request, headers)
        wallet = await gateway.authenticator.authenticate(
            headers,
            target=target,
            client=lambda: rate_limit_key(client_address(gateway, request)),
        )
    except AuthError as error:
        record_auth_failure(problem_of(error).code)
        if isinstance(error, NonceReused):  # its signature did check out
            limit_wallet(gateway, request, request.headers["x-wallet-address"].lower())
        else:
            limit_address(gateway, request)
        raise
    request.scope["moorage.wallet"] = wallet
    if target is not None:
        request.scope[_BODY_DIGEST] = target.body_digest
    return wallet


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


def _target(gateway: Gateway, request: Request, headers: dict[str, str]) -> Target | None:
    """What the signature must be bound to; None for one of version 1. Raises SignatureInvalid."""
    match headers.get("x-signature-version", "1"):
        case "1":
            return None
        case "2":
            path, query = request.scope["raw_path"], request.scope["query_string"]
            return Target(
                host=gateway.host,
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


def limit_address(gateway: Gateway, request: Request) -> None:
    """Count a request that no wallet stands for. Raises RateLimited."""
    gateway.limiters.addresses.check(rate_limit_key(client_address(gateway, request)))


def limit_wallet(gateway: Gateway, request: Request, wallet: str) -> None:
    """Count the wallet's request, in a bucket of its own if it carries proof of payment.

    Raises RateLimited.
    """
    limiters = gateway.limiters
    (limiters.proofs if carries_proof(request) else limiters.wallets).check(wallet)


def carries_proof(request: Request) -> bool:
    """Whether money may have moved for this request: never where none is taken."""
    return PAID in request.scope and any(
        name in _PROOF_HEADERS
        or (name == b"authorization" and value[: len(_PROOF_SCHEME)].lower() == _PROOF_SCHEME)
        for name, value in request.scope["headers"]
    )

"""Who calls, and whether they may call now: signature first, then the bucket that counts it."""

from starlette.requests import Request

from moorage.api.gateway import Gateway
from moorage.api.problems import problem_of
from moorage.auth.client_address import rate_limit_key
from moorage.errors import AuthError, NonceReused
from moorage.metrics import record_auth_failure

PROOF_HEADERS = ("x-payment-tx",)
_SIGNED_HEADERS = (b"x-wallet-address", b"x-signature", b"x-timestamp", b"x-nonce")


def client_address(gateway: Gateway, request: Request) -> str:
    """The client's address, as far as trusted proxies tell it."""
    peer = request.client.host if request.client else None
    forwarded = request.headers.getlist("x-forwarded-for")
    return gateway.trusted_proxies.client_address(peer, forwarded)


async def authenticate(gateway: Gateway, request: Request) -> str:
    """The wallet that signed the request; a failure counts against the client's address.

    Raises an AuthError, or RateLimited for an address that fails too often.
    """
    try:
        wallet = await gateway.authenticator.authenticate(_signed_headers(request))
    except AuthError as error:
        record_auth_failure(problem_of(error).code)
        if isinstance(error, NonceReused):  # its signature did check out
            limit_wallet(gateway, request, request.headers["x-wallet-address"].lower())
        else:
            limit_address(gateway, request)
        raise
    request.scope["moorage.wallet"] = wallet
    return wallet


def _signed_headers(request: Request) -> dict[str, str]:
    """The contract's four, as far as they are there; of several, the first."""
    found: dict[str, str] = {}
    for name, value in request.scope["headers"]:  # one pass, where each look-up would take one
        if name in _SIGNED_HEADERS:
            found.setdefault(name.decode(), value.decode("latin-1"))
    return found


def limit_address(gateway: Gateway, request: Request) -> None:
    """Count a request that no wallet stands for. Raises RateLimited."""
    gateway.limiters.addresses.check(rate_limit_key(client_address(gateway, request)))


def limit_wallet(gateway: Gateway, request: Request, wallet: str) -> None:
    """Count the wallet's request, unless it carries proof of payment. Raises RateLimited."""
    if not carries_proof(request):
        gateway.limiters.wallets.check(wallet)


def carries_proof(request: Request) -> bool:
    """Whether money may have moved for this request."""
    return any(header in request.headers for header in PROOF_HEADERS)

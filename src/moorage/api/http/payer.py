"""Authenticates requests that may bring a payment; an authorization can stand in for a nonce.

Clients of x402 and MPP repeat the request that got the 402, its wallet headers included, and add
the payment. So a used nonce passes again (contract 1.1) within its minute, for the body that it was
used for, when the request brings an authorization that the wallet signed and that was not used
before. The authorization's own nonce then is what is used once.
"""

from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import Request

from moorage.api.http.caller import Caller, Front, address_key, count, use_nonce, verify
from moorage.api.http.payment_headers import read_payment
from moorage.auth.authenticator import Verified
from moorage.auth.wallet import Wallet
from moorage.chains.eip3009 import authorization_digest
from moorage.errors import NonceReused
from moorage.payments.protocols.evidence import AuthorizationEvidence, Evidence, PaymentMeans
from moorage.payments.taking.outcomes import Outcomes
from moorage.payments.taking.paywall import Paywall


@dataclass(frozen=True, kw_only=True)
class PaidFront(Front):
    """What handlers need that take payments."""

    paywall: Paywall
    outcomes: Outcomes


class Payer(NamedTuple):
    """Who signed a request, and the payment that came with it."""

    caller: Caller
    verified: Verified
    means: PaymentMeans
    evidence: Evidence | None
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
    verified = await verify(room, request)
    caller = await count(room, request, verified.wallet)
    try:
        await use_nonce(verified)
        used_before = None
    except NonceReused as error:
        used_before = error
    means, evidence = read_payment(request, room.chains, stranger_at=caller.stranger_at)
    if used_before is not None and not await _stands_in(room, request, verified, evidence):
        raise used_before
    if evidence is None:  # it may be asked to pay
        await room.holdings.begin(caller.wallet, stranger_at=caller.stranger_at)
    return Payer(caller, verified, means, evidence, repeats=used_before is not None)


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

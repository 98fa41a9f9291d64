"""Writes a demand as challenge headers (MPP, x402), and checks the credentials that answer them."""

import secrets
from collections.abc import Iterator

from moorage.clock import Clock, iso_utc
from moorage.payments.price.option import PaymentOption
from moorage.payments.protocols import mpp, x402, x402_v1
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.protocols.mpp import CredentialType
from moorage.payments.protocols.seller import Seller
from moorage.payments.protocols.x402_extensions import extensions, resource, sign_in

_SIGNED, _SENT = (CredentialType.AUTHORIZATION,), (CredentialType.HASH,)


class Challenges:
    """Makes and checks this gateway's challenges; only the gateway knows `secret`."""

    def __init__(
        self, *, secret: bytes, realm: str, seller: Seller, clock: Clock, signs_in: bool = True
    ) -> None:
        """`signs_in` tells whether Sign-in-with-X is taken here."""
        self._secret = secret
        self._signs_in = signs_in
        self._realm = realm
        self._seller = seller
        self._clock = clock

    def headers(self, demand: PaymentRequired, *, resource_url: str) -> Iterator[tuple[str, str]]:
        """Yields the MPP challenges, and one x402 header with all options.

        First come tokens to pay by authorization, and of those the one that the client named: mppx
        answers the first challenge, or none, and knows authorizations alone. The others are paid by
        hash. A hash is taken for an answer to the first as well, but offered apart it would double
        the headers; X-Payment-Tx does the same.
        """
        settled, sent = self._options(demand)
        if demand.wallet is None:  # a hash does not say who sends it
            sent = []
        for option, types in (
            *((option, _SIGNED) for option in settled),
            *((option, _SENT) for option in sent),
        ):
            challenge = mpp.make_challenge(
                self._secret,
                realm=self._realm,
                option=option,
                pay_to=self._seller.pay_to,
                expires_at_ms=demand.expires_at_ms,
                body_digest=demand.body_digest,
                wallet=demand.wallet,
                credential_types=types,
                purpose=demand.purpose,
                reference=demand.reference,
            )
            yield "WWW-Authenticate", mpp.challenge_header(challenge)
        window_seconds = self._window_seconds(demand)
        if settled and window_seconds > 0:
            yield (
                "PAYMENT-REQUIRED",
                x402.payment_required_header(
                    resource=resource(
                        resource_url, demand.purpose, introduced=demand.wallet is None
                    ),
                    options=settled,
                    pay_to=self._seller.pay_to,
                    window_seconds=window_seconds,
                    error=demand.message,
                    extensions=self._extensions(demand, resource_url),
                ),
            )

    def members(self, demand: PaymentRequired, *, resource_url: str) -> dict[str, object]:
        """Returns what the body says to clients of x402's first version; they read no header."""
        settled, _ = self._options(demand)
        window_seconds = self._window_seconds(demand)
        if window_seconds <= 0:
            return {}
        return x402_v1.demand_members(
            settled,
            resource_url=resource_url,
            purpose=demand.purpose,
            pay_to=self._seller.pay_to,
            window_seconds=window_seconds,
        )

    def _window_seconds(self, demand: PaymentRequired) -> int:
        """Returns how long clients may make an authorization valid; 0 or less: not at all."""
        left_seconds = (demand.expires_at_ms - self._clock.now_ms()) // 1000
        return min(left_seconds, x402.MAX_WINDOW_SECONDS)

    def _extensions(self, demand: PaymentRequired, resource_url: str) -> dict[str, object]:
        """Returns x402's extensions; to sign in, only if nothing said yet whose the request is.

        To others that would do harm: their clients send it beside the headers that they signed.
        """
        offered = extensions(resource_url, introduced=demand.wallet is None)
        if demand.wallet is not None or not self._signs_in:
            return offered
        return offered | sign_in(
            resource_url,
            [chain.chain_id for chain in self._seller.chains],
            nonce=secrets.token_hex(16),
            issued_at=iso_utc(self._clock.now_ms()),
        )

    def check(self, credential: mpp.Credential, *, wallet: str, body_digest: str) -> None:
        """Raises ChallengeInvalid, ChallengeExpired, PayerMismatch or AuthorizationRefused."""
        mpp.check_credential(
            credential,
            secret=self._secret,
            realm=self._realm,
            now_ms=self._clock.now_ms(),
            body_digest=body_digest,
            wallet=wallet,
        )

    def _options(self, demand: PaymentRequired) -> tuple[list[PaymentOption], list[PaymentOption]]:
        """Returns the options to pay by authorization, then those to pay by hash."""
        settled: list[PaymentOption] = []
        sent: list[PaymentOption] = []
        for option in self._seller.options(demand):
            is_settled = self._seller.settles(option.chain, option.token)
            (settled if is_settled else sent).append(option)
        return settled, sent

"""A demand as headers for clients that pay by protocol, and whether an answer fits the demand."""

from collections.abc import Callable, Iterator, Mapping

from moorage.chains.chain import Chain, Token
from moorage.clock import Clock
from moorage.money import charge_to_atomic_units
from moorage.payments import mpp, x402
from moorage.payments.demand import PaymentRequired
from moorage.payments.mpp import CredentialType
from moorage.payments.offer import Offer

_SENT_TYPES = (CredentialType.HASH,)
_SETTLED_TYPES = (CredentialType.AUTHORIZATION, CredentialType.HASH)


class Challenges:
    """Makes and checks this gateway's challenges; `secret` is what only it knows.

    `settles` says of a token whether an authorization of it would be settled right now.
    """

    def __init__(
        self,
        *,
        secret: bytes,
        realm: str,
        pay_to: str,
        chains: Mapping[str, Chain],
        settles: Callable[[Chain, Token], bool],
        clock: Clock,
    ) -> None:
        self._secret = secret
        self._realm = realm
        self._pay_to = pay_to
        self._means = tuple((chain, token) for chain in chains.values() for token in chain.tokens)
        self._settles = settles
        self._clock = clock

    def headers(self, demand: PaymentRequired, *, resource_url: str) -> Iterator[tuple[str, str]]:
        """One challenge for each chain and token (MPP), and all that x402 clients can pay with.

        What can be authorized comes first, in the means that the client named if it can be: mppx
        answers the first challenge, or none.
        """
        offers = self._offers(demand)
        settled = [offer for offer in offers if self._settles(offer.chain, offer.token)]
        for offer in (*settled, *(offer for offer in offers if offer not in settled)):
            challenge = mpp.make_challenge(
                self._secret,
                realm=self._realm,
                offer=offer,
                pay_to=self._pay_to,
                expires_at_ms=demand.expires_at_ms,
                body_digest=demand.body_digest,
                wallet=demand.wallet,
                credential_types=_SETTLED_TYPES if offer in settled else _SENT_TYPES,
            )
            yield "WWW-Authenticate", mpp.challenge_header(challenge)
        window_seconds = (demand.expires_at_ms - self._clock.now_ms()) // 1000
        if settled and window_seconds > 0:
            yield (
                "PAYMENT-REQUIRED",
                x402.payment_required_header(
                    resource_url=resource_url,
                    offers=settled,
                    pay_to=self._pay_to,
                    window_seconds=min(window_seconds, x402.MAX_WINDOW_SECONDS),
                    error=demand.message,
                ),
            )

    def check(self, credential: mpp.Credential, *, wallet: str, body_digest: str) -> None:
        """Raise ChallengeInvalid, ChallengeExpired, PayerMismatch or AuthorizationRefused."""
        mpp.check_credential(
            credential,
            secret=self._secret,
            realm=self._realm,
            now_ms=self._clock.now_ms(),
            body_digest=body_digest,
            wallet=wallet,
        )

    def _offers(self, demand: PaymentRequired) -> list[Offer]:
        """What settles the demand: first in the means that the client named."""
        chain_named, token_named = demand.means.chain, demand.means.token
        return [
            Offer(
                chain=chain,
                token=token,
                amount=charge_to_atomic_units(demand.amount, decimals=token.decimals),
            )
            for chain, token in sorted(
                self._means,
                key=lambda means: (means[0] is not chain_named, means[1] is not token_named),
            )
        ]

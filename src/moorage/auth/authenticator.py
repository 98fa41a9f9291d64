"""The wallet that signed a request."""

from collections.abc import Mapping

from moorage.auth.nonces import NonceStore
from moorage.auth.wallet import Wallet, parse_signed_headers, recover_signer
from moorage.errors import SignatureInvalid


class Authenticator:
    """Checks the signature and uses up the nonce of each request."""

    def __init__(self, nonces: NonceStore) -> None:
        self._nonces = nonces

    async def authenticate(self, headers: Mapping[str, str]) -> Wallet:
        """The wallet that signed `headers`, whose names are lower-case or compare so.

        In this order, so that the cheap checks come first and a forged request burns nobody's
        nonce: raises AuthMissing, TimestampExpired, SignatureInvalid, NonceReused; also what else
        `NonceStore.consume` raises.
        """
        signed = parse_signed_headers(
            wallet=headers.get("x-wallet-address"),
            signature=headers.get("x-signature"),
            timestamp=headers.get("x-timestamp"),
            nonce=headers.get("x-nonce"),
        )
        self._nonces.check_timestamp(signed.timestamp_ms)
        if recover_signer(signed.message, signed.signature) != signed.wallet:
            raise SignatureInvalid
        await self._nonces.consume(signed.wallet, signed.timestamp_ms, signed.nonce)
        return signed.wallet

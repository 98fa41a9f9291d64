"""Authenticates the wallet that signed a request."""

from collections.abc import Callable, Mapping

from moorage.auth.contract_wallets import ContractWallets
from moorage.auth.nonces import NonceStore
from moorage.auth.wallet import (
    SignedHeaders,
    parse_signed_headers,
    personal_digest,
    recover_signer,
)
from moorage.errors import SignatureInvalid, SignatureUnbound
from moorage.signed_request import Target


class Authenticator:
    """Checks the signature of each request, then uses its nonce.

    These are two steps, so that a request that is refused between them keeps its nonce and can be
    sent again. With `bound_only`, a signature must be bound to its request (version 2).
    """

    def __init__(
        self, nonces: NonceStore, *, contracts: ContractWallets, bound_only: bool = False
    ) -> None:
        self._nonces = nonces
        self._contracts = contracts
        self._bound_only = bound_only

    async def verify(
        self, headers: Mapping[str, str], *, target: Target | None, client: Callable[[], str]
    ) -> SignedHeaders:
        """Returns what a wallet signed; names in `headers` are lower-case or compare that way.

        `target` is the request that a signature of version 2 must be bound to, None for version 1.
        `client` returns whom a question to a chain counts for; a chain is asked only if the
        wallet's key did not sign. Raises, cheap checks first: AuthMissing, SignatureUnbound,
        TimestampExpired, SignatureInvalid; also what `ContractWallets.accept` raises.
        """
        signed = parse_signed_headers(
            wallet=headers.get("x-wallet-address"),
            signature=headers.get("x-signature"),
            timestamp=headers.get("x-timestamp"),
            nonce=headers.get("x-nonce"),
        )
        if target is None and self._bound_only:
            raise SignatureUnbound
        self._nonces.check_timestamp(signed.timestamp_ms)
        digest = personal_digest(signed.message) if target is None else signed.digest(target)
        if not _is_signer(signed, digest) and not await self._contracts.accept(
            signed.wallet,
            digest,
            signed.signature,
            chain=headers.get("x-wallet-chain"),
            client=client(),
        ):
            raise _invalid(target)
        return signed

    async def use_nonce(self, signed: SignedHeaders) -> None:
        """Uses the nonce of a verified request: of several requests with it, one passes.

        Raises what `NonceStore.consume` raises, for example NonceReused.
        """
        await self._nonces.consume(signed.wallet, signed.timestamp_ms, signed.nonce)


def _is_signer(signed: SignedHeaders, digest: bytes) -> bool:
    try:
        return recover_signer(digest, signed.signature) == signed.wallet
    except SignatureInvalid:
        return False


def _invalid(target: Target | None) -> SignatureInvalid:
    if target is None:
        return SignatureInvalid()
    return SignatureInvalid(
        "X-Signature is not this wallet's signature (version 2) of "
        f"{target.method} {target.path} at {target.host}, with this Content-Digest."
    )

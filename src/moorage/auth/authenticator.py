"""Authenticates the wallet that signed a request."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from moorage.auth.contract_wallets import ContractWallets
from moorage.auth.nonces import NonceStore
from moorage.auth.sign_in import HEADER, SignIn, parse_sign_in
from moorage.auth.wallet import (
    SignedHeaders,
    Wallet,
    parse_signed_headers,
    personal_digest,
    recover_signer,
    written_out,
)
from moorage.errors import SignatureInvalid, SignatureUnbound, TimestampExpired
from moorage.signing import Target


class UsedOnce(NamedTuple):
    """The nonce of a verified request, and the store that remembers its use."""

    nonces: NonceStore
    timestamp_ms: int
    nonce: str


class Verified(NamedTuple):
    """Whose a request is."""

    wallet: Wallet
    nonce: UsedOnce | None
    """None for a request that carries a manage token."""

    async def use_nonce(self) -> None:
        """Uses the nonce: of several requests with it, one passes.

        Raises what `NonceStore.consume` raises, for example NonceReused.
        """
        if self.nonce is None:
            return
        nonces, timestamp_ms, nonce = self.nonce
        await nonces.consume(self.wallet, timestamp_ms, nonce)


class Authenticator:
    """Checks the signature of each request.

    Its nonce is used in a second step, so that a request that is refused between them keeps its
    nonce and can be sent again. With `bound_only`, a signature must be bound to its request
    (version 2).
    """

    def __init__(
        self, nonces: NonceStore, *, contracts: ContractWallets, bound_only: bool = False
    ) -> None:
        self._nonces = nonces
        self._contracts = contracts
        self._bound_only = bound_only

    async def verify(
        self, headers: Mapping[str, str], *, target: Target | None, client: Callable[[], str]
    ) -> Verified:
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
            raise SignatureUnbound(header="X-Signature-Version")
        self._nonces.check_timestamp(signed.timestamp_ms)
        chain = headers.get("x-wallet-chain")
        wallet, signature = signed.wallet, signed.signature
        if not any(_is_signer(wallet, digest, signature) for digest in signed.digests(target)):
            digests = list(signed.digests(target))
            _refuse_compact(signed, digests)
            if not await self._contracts.accept(
                wallet, digests[0], signature, chain=chain, client=client()
            ):
                raise _invalid(signed, target, self._contracts.asked(chain))
        return Verified(wallet, UsedOnce(self._nonces, signed.timestamp_ms, signed.nonce))

    async def verify_sign_in(
        self, header: str, *, public_url: str, now_ms: int, client: Callable[[], str]
    ) -> Verified:
        """Returns what a wallet signed by Sign-in-with-X; `client` is as for `verify`.

        Raises SignatureUnbound, TimestampExpired, SignatureInvalid; also what
        `ContractWallets.accept` raises.
        """
        if self._bound_only:
            raise SignatureUnbound(header=HEADER)
        signed = parse_sign_in(header)
        signed.check(public_url=public_url, now_ms=now_ms)
        try:
            self._nonces.check_timestamp(signed.timestamp_ms)
        except TimestampExpired as late:
            message = f"{HEADER}: issuedAt must lie within 60 s of the gateway's clock."
            raise TimestampExpired(message, header=HEADER) from late
        if not await self.has_signed_text(signed, client=client):
            raise SignatureInvalid(
                f"{HEADER}: its signature is not this wallet's signature of the EIP-4361 text.",
                header=HEADER,
            )
        return Verified(
            signed.wallet, UsedOnce(self._nonces, signed.timestamp_ms, f"sign-in:{signed.nonce}")
        )

    async def has_signed_text(self, signed: SignIn, *, client: Callable[[], str]) -> bool:
        """Whether its wallet, by its key or by its code on the text's chain, signed the text.

        `client` is as for `verify`. Raises what `ContractWallets.accept` raises.
        """
        wallet, digest, signature = signed.wallet, personal_digest(signed.text), signed.signed_by
        if _is_signer(wallet, digest, signature):
            return True
        chain = self._contracts.name_of(signed.chain)
        return chain is not None and await self._contracts.accept(
            wallet, digest, signature, chain=chain, client=client()
        )

    async def has_signed(
        self, wallet: Wallet, digest: bytes, signature: bytes, *, chain: str, client: str
    ) -> bool:
        """Whether the wallet, by its key or by its code on `chain`, signed the 32 bytes.

        Raises what `ContractWallets.accept` raises.
        """
        return _is_signer(wallet, digest, signature) or await self._contracts.accept(
            wallet, digest, signature, chain=chain, client=client
        )


def _is_signer(wallet: Wallet, digest: bytes, signature: bytes) -> bool:
    try:
        return recover_signer(digest, signature) == wallet
    except SignatureInvalid:
        return False


def _refuse_compact(signed: SignedHeaders, digests: list[bytes]) -> None:
    """Raises SignatureInvalid for a key's signature in the short form of EIP-2098."""
    whole = written_out(signed.signature)
    if whole and any(_is_signer(signed.wallet, digest, whole) for digest in digests):
        raise SignatureInvalid(
            "X-Signature is a compact one of 64 bytes (EIP-2098): send r, s and v, 65 bytes.",
            header="X-Signature",
        )


def _invalid(signed: SignedHeaders, target: Target | None, asked: str) -> SignatureInvalid:
    what = (
        f"`{signed.message.decode()}` (EIP-191, personal_sign)"
        if target is None
        else f"(version 2) {target.method} {target.path} at {target.host}, with this Content-Digest"
    )
    return SignatureInvalid(
        f"X-Signature is not this wallet's signature of {what}. "
        f"If the wallet is a contract, X-Wallet-Chain names its chain; {asked} was asked.",
        header="X-Signature",
    )

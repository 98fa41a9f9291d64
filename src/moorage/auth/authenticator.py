"""Authenticates the wallet that signed a request."""

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from moorage.address import parse_address
from moorage.auth.nonces import NonceStore
from moorage.auth.wallet import (
    ContractWallets,
    SignedHeaders,
    Wallet,
    parse_signed_headers,
    personal_digest,
    recover_signer,
    written_out,
)
from moorage.errors import SignatureInvalid, SignatureUnbound, TimestampExpired
from moorage.signing import Target, host_of

HEADER = "SIGN-IN-WITH-X"
MAX_HEADER_BYTES = 16 * 1024

NONCE_OF_PAGES = "ForPagesAlone"
"""What the nonces begin with that pages issue. Each gateway knows it, also of another's nonce."""

_NONCE = re.compile(r"[A-Za-z0-9]{8,128}")
_CHAIN = re.compile(r"eip155:([1-9][0-9]{0,15})")  # CAIP-2
_SIGNATURE = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2})+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # a line of the text must be one line
_EPOCH = datetime.fromtimestamp(0, UTC)
_OPTIONAL = (
    ("Expiration Time", "expiration_time"),
    ("Not Before", "not_before"),
    ("Request ID", "request_id"),
)


class SignIn(msgspec.Struct, frozen=True, rename="camel"):
    """What a wallet signed; the signature is not checked yet."""

    domain: str
    address: str
    uri: str
    version: str
    chain_id: str
    type: str
    nonce: str
    issued_at: str
    signature: str
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: list[str] | None = None

    @property
    def wallet(self) -> Wallet:
        """Raises SignatureInvalid unless the address is one."""
        try:
            return Wallet(parse_address(self.address))
        except ValueError:
            raise _sign_in_invalid("address must be 0x and 40 hex digits") from None

    @property
    def chain(self) -> int:
        """The id of the chain that a contract wallet is on. Raises SignatureInvalid."""
        matched = _CHAIN.fullmatch(self.chain_id)
        if matched is None:
            raise _sign_in_invalid("chainId must be eip155: and a chain's number")
        return int(matched[1])

    @property
    def signed_by(self) -> bytes:
        """The signature's bytes. Raises SignatureInvalid."""
        matched = _SIGNATURE.fullmatch(self.signature)
        if matched is None:
            raise _sign_in_invalid("signature must be hex digits")
        return bytes.fromhex(matched[1])

    @property
    def timestamp_ms(self) -> int:
        """When it was issued, in Unix milliseconds. Raises TimestampExpired."""
        return _unix_ms("issuedAt", self.issued_at)

    @property
    def text(self) -> bytes:
        """The text that was signed (EIP-4361, in the ABNF's order)."""
        lines = [
            f"{self.domain} wants you to sign in with your Ethereum account:",
            self.address,
            "",
            *(() if self.statement is None else (self.statement,)),
            "",
            f"URI: {self.uri}",
            f"Version: {self.version}",
            f"Chain ID: {self.chain}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        told = ((label, getattr(self, name)) for label, name in _OPTIONAL)
        lines += [f"{label}: {value}" for label, value in told if value is not None]
        if self.resources is not None:
            lines += ["Resources:", *(f"- {resource}" for resource in self.resources)]
        return "\n".join(lines).encode()

    def check(self, *, public_url: str, now_ms: int) -> None:
        """Raises SignatureInvalid unless it is for this gateway, TimestampExpired unless for now.

        The nonce store checks the nonce, and when it was issued.
        """
        if self.version != "1" or self.type != "eip191":
            raise _sign_in_invalid("version must be 1, and type eip191")
        if _NONCE.fullmatch(self.nonce) is None:
            raise _sign_in_invalid("nonce must be 8 to 128 letters and digits")
        if self.nonce.startswith(NONCE_OF_PAGES):
            raise _sign_in_invalid(
                "this text was signed for the gateway's pages, and is good there alone"
            )
        if self.domain.lower() != host_of(public_url):
            raise _sign_in_invalid(f"domain must be {host_of(public_url)}")
        if _origin(self.uri) != _origin(public_url):
            raise _sign_in_invalid(f"uri must begin with {public_url}")
        if self.expiration_time and _unix_ms("expirationTime", self.expiration_time) <= now_ms:
            raise TimestampExpired("This sign-in has expired: sign a new one.", header=HEADER)
        if self.not_before and _unix_ms("notBefore", self.not_before) > now_ms:
            raise TimestampExpired("This sign-in is for later: see its notBefore.", header=HEADER)


def parse_sign_in(header: str) -> SignIn:
    """Parses the header's JSON. Raises SignatureInvalid."""
    if len(header) > MAX_HEADER_BYTES:
        raise _sign_in_invalid("it is too long")
    try:
        parsed = msgspec.json.decode(b64decode(header, validate=True), type=SignIn)
    except (ValueError, RecursionError) as error:  # msgspec's and base64's are ValueErrors
        raise _sign_in_invalid(
            "it must be base64 of the JSON that x402's sign-in-with-x has"
        ) from error
    for member in (*msgspec.structs.astuple(parsed), *(parsed.resources or ())):
        if isinstance(member, str) and _CONTROL.search(member):
            raise _sign_in_invalid("no member may have a line break or another control character")
    return parsed


def _origin(url: str) -> tuple[str, str] | None:
    try:
        return urlsplit(url).scheme, host_of(url)
    except ValueError:
        return None


def _unix_ms(name: str, written: str) -> int:
    try:
        at = datetime.fromisoformat(written)
        if at.tzinfo is None:
            raise ValueError("without an offset")
        return (at - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise TimestampExpired(
            f"{HEADER}: {name} must be a time as RFC 3339 writes it, with its offset.",
            header=HEADER,
        ) from error


def _sign_in_invalid(problem: str) -> SignatureInvalid:
    return SignatureInvalid(f"{HEADER}: {problem}.", header=HEADER)


class UsedOnce(NamedTuple):
    """The nonce of a verified request, and the store that remembers its use."""

    nonces: NonceStore
    wallet: Wallet  # that signed
    timestamp_ms: int
    nonce: str


class Verified(NamedTuple):
    """Whose a request is."""

    wallet: Wallet
    """That signed, or for which that acts."""
    nonce: UsedOnce | None
    """None for a request that carries a manage token."""

    async def use_nonce(self) -> None:
        """Uses the nonce: of several requests with it, one passes.

        Raises what `NonceStore.consume` raises, for example NonceReused.
        """
        if self.nonce is None:
            return
        nonces, wallet, timestamp_ms, nonce = self.nonce
        await nonces.consume(wallet, timestamp_ms, nonce)


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
        if not any(is_signer(wallet, digest, signature) for digest in signed.digests(target)):
            digests = list(signed.digests(target))
            _refuse_compact(signed, digests)
            if not await self._contracts.accept(
                wallet, digests[0], signature, chain=chain, client=client()
            ):
                raise _invalid(signed, target, self._contracts.asked(chain))
        return Verified(wallet, UsedOnce(self._nonces, wallet, signed.timestamp_ms, signed.nonce))

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
        wallet, nonce = signed.wallet, f"sign-in:{signed.nonce}"
        return Verified(wallet, UsedOnce(self._nonces, wallet, signed.timestamp_ms, nonce))

    async def has_signed_text(self, signed: SignIn, *, client: Callable[[], str]) -> bool:
        """Whether its wallet, by its key or by its code on the text's chain, signed the text.

        `client` is as for `verify`. Raises what `ContractWallets.accept` raises.
        """
        wallet, digest, signature = signed.wallet, personal_digest(signed.text), signed.signed_by
        if is_signer(wallet, digest, signature):
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
        return is_signer(wallet, digest, signature) or await self._contracts.accept(
            wallet, digest, signature, chain=chain, client=client
        )


def is_signer(wallet: str, digest: bytes, signature: bytes) -> bool:
    """Whether the key of a wallet signed the 32 bytes."""
    try:
        return recover_signer(digest, signature) == wallet
    except SignatureInvalid:
        return False


def _refuse_compact(signed: SignedHeaders, digests: list[bytes]) -> None:
    """Raises SignatureInvalid for a key's signature in the short form of EIP-2098."""
    whole = written_out(signed.signature)
    if whole and any(is_signer(signed.wallet, digest, whole) for digest in digests):
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
    if target is not None and target.on_behalf_of:
        what += f" and onBehalfOf {target.on_behalf_of}"
    return SignatureInvalid(
        f"X-Signature is not this wallet's signature of {what}. "
        f"If the wallet is a contract, X-Wallet-Chain names its chain; {asked} was asked.",
        header="X-Signature",
    )

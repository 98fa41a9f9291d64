"""Sign-in-with-X: a text of EIP-4361 that a wallet signed, in the header that x402 gives it.

The header is base64 of JSON, whose members the text is made from. One is good for one request
within a minute, like the four headers: its nonce is used once. Pages have texts of the same form
signed, whose nonces say so: such a text is good for pages alone, however its statement reads.

Sources: EIP-4361; x402's extension sign-in-with-x (CAIP-122).
"""

import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import msgspec

from moorage.address import parse_address
from moorage.auth.wallet import Wallet
from moorage.errors import SignatureInvalid, TimestampExpired
from moorage.signing import host_of

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
            raise _invalid("address must be 0x and 40 hex digits") from None

    @property
    def chain(self) -> int:
        """The id of the chain that a contract wallet is on. Raises SignatureInvalid."""
        matched = _CHAIN.fullmatch(self.chain_id)
        if matched is None:
            raise _invalid("chainId must be eip155: and a chain's number")
        return int(matched[1])

    @property
    def signed_by(self) -> bytes:
        """The signature's bytes. Raises SignatureInvalid."""
        matched = _SIGNATURE.fullmatch(self.signature)
        if matched is None:
            raise _invalid("signature must be hex digits")
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

        That its nonce was not used, and when it was issued, is the nonce store's to check.
        """
        if self.version != "1" or self.type != "eip191":
            raise _invalid("version must be 1, and type eip191")
        if _NONCE.fullmatch(self.nonce) is None:
            raise _invalid("nonce must be 8 to 128 letters and digits")
        if self.nonce.startswith(NONCE_OF_PAGES):
            raise _invalid("this text was signed for the gateway's pages, and is good there alone")
        if self.domain.lower() != host_of(public_url):
            raise _invalid(f"domain must be {host_of(public_url)}")
        if _origin(self.uri) != _origin(public_url):
            raise _invalid(f"uri must begin with {public_url}")
        if self.expiration_time and _unix_ms("expirationTime", self.expiration_time) <= now_ms:
            raise TimestampExpired("This sign-in has expired: sign a new one.", header=HEADER)
        if self.not_before and _unix_ms("notBefore", self.not_before) > now_ms:
            raise TimestampExpired("This sign-in is for later: see its notBefore.", header=HEADER)


def parse_sign_in(header: str) -> SignIn:
    """Parses the header's JSON. Raises SignatureInvalid."""
    if len(header) > MAX_HEADER_BYTES:
        raise _invalid("it is too long")
    try:
        parsed = msgspec.json.decode(b64decode(header, validate=True), type=SignIn)
    except (ValueError, RecursionError) as error:  # msgspec's and base64's are ValueErrors
        raise _invalid("it must be base64 of the JSON that x402's sign-in-with-x has") from error
    for member in (*msgspec.structs.astuple(parsed), *(parsed.resources or ())):
        if isinstance(member, str) and _CONTROL.search(member):
            raise _invalid("no member may have a line break or another control character")
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


def _invalid(problem: str) -> SignatureInvalid:
    return SignatureInvalid(f"{HEADER}: {problem}.", header=HEADER)

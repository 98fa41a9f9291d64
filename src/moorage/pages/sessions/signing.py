"""Texts that a wallet signs in the browser: to sign in, and for what cannot be undone.

They are EIP-4361's, as Sign-in-with-X has them: one form, one check. Their nonces are issued here:
each names its time, and nobody else can make one. Each also says that it is for pages, so that the
API takes no such text for a request. Whoever uses a text takes care that it counts once
(`Sessions.sign_in`, `Sessions.note_signature`).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from starlette.requests import Request

from moorage.auth.authenticator import Authenticator
from moorage.auth.sign_in import NONCE_OF_PAGES, SignIn
from moorage.chains.address import checksum_address
from moorage.clock import Clock, iso_utc
from moorage.errors import SignatureInvalid, TimestampExpired
from moorage.pages.sessions.form import Form
from moorage.signing.signed_request import host_of

MAX_AGE_MS = 5 * 60_000
"""How old a text may be when its signature arrives."""

_AHEAD_MS = 60_000  # clocks of several gateways may differ
_RANDOM_CHARS = 16
_MAC_AT = len(NONCE_OF_PAGES) + _RANDOM_CHARS
_MAX_SIGNATURE_CHARS = 16 * 1024 + 2
_CHAIN = re.compile(r"[1-9][0-9]{0,15}")
_UNPRINTED = re.compile(r"[^\x20-\x7e]")


class Challenge(NamedTuple):
    """A text for a wallet to sign, and what comes back with the signature."""

    text: str
    nonce: str
    issued_at: str


class Signed(NamedTuple):
    """A text that a wallet has signed."""

    wallet: str
    nonce: str
    issued_ms: int


@dataclass(frozen=True, kw_only=True)
class Signing:
    """Issues texts, and checks their signatures. A text names the `url` of the site it is for."""

    secret: bytes
    authenticator: Authenticator
    client: Callable[[Request], str]  # whom a question to a chain counts for
    clock: Clock

    def challenge(self, form: Form, statement: str, *, url: str) -> Challenge:
        """Returns a new text for the wallet and chain that the form names.

        Raises SignatureInvalid for what is no address, or no chain's number.
        """
        issued_ms = self.clock.now_ms()
        begins = NONCE_OF_PAGES + secrets.token_hex(_RANDOM_CHARS // 2)
        nonce = begins + self._mac(begins, issued_ms)
        signed = _text(form, statement, url=url, nonce=nonce, issued_ms=issued_ms)
        return Challenge(signed.text.decode(), nonce, str(issued_ms))

    async def check(self, request: Request, form: Form, statement: str, *, url: str) -> Signed:
        """Returns the signed text that a form carries.

        Raises TimestampExpired for an old one, SignatureInvalid for one that was not issued here,
        says something else or was not signed by its wallet; also what `has_signed_text` raises.
        """
        nonce, issued_at = form.get("nonce", ""), form.get("issued_at", "")
        issued_ms = int(issued_at) if re.fullmatch(r"[0-9]{1,15}", issued_at) else 0
        expected = self._mac(nonce[:_MAC_AT], issued_ms)
        if not hmac.compare_digest(nonce[_MAC_AT:].encode(), expected.encode()):
            raise SignatureInvalid("This text to sign is not of this gateway. Begin again.")
        if not -_AHEAD_MS <= self.clock.now_ms() - issued_ms <= MAX_AGE_MS:
            raise TimestampExpired("The text was signed too late. Begin again, and sign it soon.")
        signed = _text(form, statement, url=url, nonce=nonce, issued_ms=issued_ms)
        client = partial(self.client, request)
        if not await self.authenticator.has_signed_text(signed, client=client):
            raise SignatureInvalid("The signature is not this wallet's, or of another text.")
        return Signed(signed.wallet, nonce, issued_ms)

    def _mac(self, begins: str, issued_ms: int) -> str:
        message = f"moorage: a text to sign: {begins}:{issued_ms}".encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:32]


def _text(form: Form, statement: str, *, url: str, nonce: str, issued_ms: int) -> SignIn:
    try:
        address = checksum_address(form.get("address", ""))
    except ValueError:
        raise SignatureInvalid("The wallet told no address.") from None
    chain, signature = form.get("chain", ""), form.get("signature", "")
    if _CHAIN.fullmatch(chain) is None or len(signature) > _MAX_SIGNATURE_CHARS:
        raise SignatureInvalid("The wallet told no chain, or no signature.")
    return SignIn(
        domain=host_of(url),
        address=address,
        uri=f"{url}/",
        version="1",
        chain_id=f"eip155:{chain}",
        type="eip191",
        nonce=nonce,
        issued_at=iso_utc(issued_ms),
        signature=signature,
        statement=_UNPRINTED.sub("?", statement),
    )

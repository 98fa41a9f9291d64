"""A fresh signature for what cannot be undone: the wallet says what exactly is to be done."""

from dataclasses import dataclass

from starlette.requests import Request

from moorage.errors import MoorageError, NonceReused, SignatureInvalid
from moorage.pages.sessions.form import Form
from moorage.pages.sessions.gate import Gate
from moorage.pages.sessions.session import Session
from moorage.pages.sessions.signing import Signing

SIGNATURE_FIELDS = ("address", "chain", "nonce", "issued_at", "signature", "statement")
"""The fields of a form that carry a signed text."""


class Unconfirmed(Exception):
    """The wallet has not signed `statement` yet; `sentence` asks an agent to do the same."""

    def __init__(self, statement: str, *, sentence: str, error: str) -> None:
        super().__init__(statement)
        self.statement, self.sentence, self.error = statement, sentence, error


@dataclass(frozen=True, kw_only=True)
class Confirmations:
    """Checks that a form carries its session's wallet's signature of what it would do."""

    gate: Gate
    signing: Signing

    async def require(
        self, request: Request, session: Session, form: Form, statement: str, *, sentence: str
    ) -> None:
        """Raises Unconfirmed unless the wallet signed the statement within five minutes.

        Whatever kind of session it is, a link's as well. A signature counts once.
        """
        error = ""
        if form.get("signature"):
            try:
                return await self._check(request, session, form, statement)
            except MoorageError as refused:
                error = refused.message
        raise Unconfirmed(statement, sentence=sentence, error=error)

    async def _check(self, request: Request, session: Session, form: Form, statement: str) -> None:
        url = self.gate.url_of(request)
        signed = await self.signing.check(request, form, statement, url=url)
        if signed.wallet != session.wallet:
            raise SignatureInvalid(f"Another wallet has signed this: {signed.wallet}.")
        sessions = self.gate.sessions
        if not await sessions.note_signature(session.id, issued_ms=signed.issued_ms):
            raise NonceReused("This signature was used before. Sign again.")

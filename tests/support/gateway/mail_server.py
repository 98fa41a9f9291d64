"""A server that takes mail, on loopback: with TLS, and a user, if a test says so."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from support.gateway.ports import quiet_port

USER, PASSWORD = "gateway@example.com", "s3cret of mail"


class MailServer:
    """What it has taken, and whether it refuses what comes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.got: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.authenticated: list[bool] = []
        self.refuses = False

    async def handle_DATA(  # noqa: N802 (the library's name)
        self, _server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.refuses:
            return "451 4.3.0 try again later"
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.got.append(mail)
        self.recipients.append(envelope.rcpt_tos)
        self.authenticated.append(bool(session.authenticated))
        return "250 taken"


def _checked(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    known = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=isinstance(data, LoginPassword) and data == known, handled=False)


@contextmanager
def mail_server(
    *, smtps: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, **given: Any
) -> Iterator[MailServer]:
    """Takes mail over TLS from the first byte on or after STARTTLS, of USER; or of all without."""
    server = MailServer(quiet_port())
    if smtps or starttls:
        given |= {"authenticator": _checked, "auth_require_tls": starttls is not None}
    if starttls:
        given |= {"tls_context": starttls, "require_starttls": True}
    controller = Controller(
        server, hostname="127.0.0.1", port=server.port, ssl_context=smtps, **given
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()

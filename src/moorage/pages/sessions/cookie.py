"""The cookies that hold secrets, such as a session's.

`SameSite=Strict` alone would not do, as apps are served from subdomains of the same site: forms
carry a token as well (`form`). The prefix `__Host-` keeps those subdomains from setting it.
"""

import hashlib
import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.pages.sessions.sessions import LIFETIME_MS

_SECURE_PREFIX = "__Host-"


@dataclass(frozen=True)
class Cookie:
    """One cookie's name, and whether browsers send it over https alone."""

    plain_name: str
    secure: bool  # False where pages are served without TLS, such as on loopback

    @property
    def name(self) -> str:
        """Its name in requests."""
        return f"{_SECURE_PREFIX}{self.plain_name}" if self.secure else self.plain_name

    def read(self, request: Request) -> str:
        """Returns the secret; "" without one."""
        return request.cookies.get(self.name, "")

    def set(self, response: Response, secret: str, *, seconds: int = LIFETIME_MS // 1000) -> None:
        """Gives the browser a secret for so long, in place of any other."""
        response.set_cookie(
            self.name,
            secret,
            max_age=seconds,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="strict",
        )

    def clear(self, response: Response) -> None:
        """Has the browser forget it."""
        response.delete_cookie(
            self.name, path="/", secure=self.secure, httponly=True, samesite="strict"
        )


def csrf_of(secret: str) -> str:
    """Returns the token that the forms of a session repeat; the secret can't be had from it."""
    return hmac.new(secret.encode(), b"moorage: the forms of a session", hashlib.sha256).hexdigest()

"""How registries authorize requests: RFC 7235, and distribution's token authentication."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from moorage.engines.images.credentials import Credentials
from moorage.engines.images.reference import root_url

_SCHEME = re.compile(r"\s*(basic|bearer)\b", re.IGNORECASE)
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)
_MAX_TOKEN_BYTES = 65_536
_CLIENT = "moorage"

Scopes = tuple[str, ...]
"""What a request may touch, such as `repository:team/app:pull,push`."""


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a registry asks for."""

    realm: str = ""  # where tokens are got; "" for name and password themselves
    service: str = ""


@dataclass
class Authorizations:
    """The values of `Authorization` that registries have taken."""

    session: aiohttp.ClientSession
    credentials: Credentials
    _known: dict[tuple[str, Scopes], str] = field(default_factory=dict)

    def known(self, registry: str, scopes: Scopes) -> str:
        """Returns what was taken last; "" at first."""
        return self._known.get((registry, scopes), "")

    async def renew(self, registry: str, scopes: Scopes, challenges: Iterable[str]) -> bool:
        """Gets an authorization that fits the challenges of a 401; returns whether there is one.

        Raises aiohttp.ClientError, TimeoutError.
        """
        challenge = read_challenge(challenges)
        basic = self.credentials.of(registry)
        self._known.pop((registry, scopes), None)
        if challenge is None or not _may_be_asked(challenge.realm, registry):
            return False
        if challenge.realm:
            token = await self._token(challenge, basic, scopes)
            made = f"Bearer {token}" if token else ""
        else:
            made = f"Basic {basic}" if basic else ""
        if made:
            self._known[registry, scopes] = made
        return bool(made)

    async def _token(self, challenge: Challenge, basic: str, scopes: Sequence[str]) -> str:
        query: list[tuple[str, str]] = [("scope", scope) for scope in scopes]
        query += [("service", challenge.service), ("client_id", _CLIENT)]
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        request: Any = self.session.get(challenge.realm, params=query, headers=headers)
        async with request as answer:
            if answer.status != 200:
                return ""
            body = await answer.content.read(_MAX_TOKEN_BYTES)
        try:
            found = msgspec.json.decode(body, type=_Token)
        except msgspec.DecodeError:
            return ""
        return found.token or found.access_token


def _may_be_asked(realm: str, registry: str) -> bool:
    """Returns whether a registry's tokens may be got there: over HTTPS, as all that it is asked.

    One on this machine's loopback may name another there.
    """
    asked = urlsplit(realm)
    if not realm or asked.scheme == "https":
        return True
    plain = "http://"
    return root_url(registry).startswith(plain) and root_url(asked.netloc).startswith(plain)


def read_challenge(values: Iterable[str]) -> Challenge | None:
    """Reads the headers `WWW-Authenticate`; None if no way that they offer is known."""
    for value in values:
        if (scheme := _SCHEME.match(value)) is None:
            continue
        if scheme[1].lower() == "basic":
            return Challenge()
        found = {name.lower(): text for name, text in _PARAMETER.findall(value)}
        if found.get("realm", "").startswith(("https://", "http://")):
            return Challenge(realm=found["realm"], service=found.get("service", ""))
    return None

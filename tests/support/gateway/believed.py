"""An entrance that believes who asks: signatures have been checked, and each wallet has paid."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import PERSON, Limiters, Person
from moorage.auth.rate_limit import MemoryRateLimiter, TrustedProxies
from moorage.clock import Clock
from moorage.hosting.addresses.addresses import Hosts
from moorage.storage.database import Database
from support.books.records_fixture import ALICE

HOSTS = Hosts(base_domain="example.com", scheme="https", port=None)


class Believed:
    """Asks a handler as a wallet; `room` is what the handler is given, with `parts` of its own."""

    def __init__(self, db: Database, clock: Clock, *, limit: int = 100, **parts: Any) -> None:
        self.wallet = ALICE
        self.nonces_used = 0
        self.db = db
        self.limiters = limiters_of(clock, limit=limit)
        self.room: Any = SimpleNamespace(
            db=db,
            authenticator=self,
            paid_wallets=self,
            recoveries=NOBODY_RECOVERS,
            clock=clock,
            limiters=self.limiters,
            trusted_proxies=TrustedProxies(()),
            **parts,
        )

    async def verify(self, _: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(wallet=self.wallet, use_nonce=self.use_nonce)

    async def use_nonce(self) -> None:
        self.nonces_used += 1

    async def has_paid(self, _: str) -> bool:
        return True


def request_of(
    query: str = "",
    *,
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    body: bytes = b"",
    person: Person | None = None,
    **path_params: Any,
) -> Request:
    """A request as the server hands it to a handler."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    sent = (headers or {}).items()
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), each.encode("latin-1")) for name, each in sent],
        "client": ("192.0.2.1", 1),
        "query_string": query.encode(),
        "path_params": path_params,
    }
    return Request(scope if person is None else scope | {PERSON: person}, receive)


def body_of(response: Response) -> dict[str, Any]:
    """The JSON object of an answer."""
    decoded: dict[str, Any] = msgspec.json.decode(bytes(response.body))
    return decoded


async def _nobody(_: str) -> None:
    return None


NOBODY_RECOVERS = SimpleNamespace(require_own=_nobody, taken_over_by=_nobody)
"""No wallet was taken over."""


def limiters_of(clock: Clock, *, limit: int, **times: int) -> Limiters:
    """Limiters of `limit` requests a minute; `times` says which have a multiple of it."""
    return Limiters(
        **{
            name: MemoryRateLimiter(clock=clock, limit=limit * times.get(name, 1))
            for name in Limiters.__dataclass_fields__
        }
    )

"""Requests with an Idempotency-Key are carried out once; a repeat is given the first's answer.

Only what was done is kept, by the transaction that does it. A refusal or a demand for payment is
not: the same key is used again once it is paid.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.clock import Clock
from moorage.errors import IdempotencyInProgress, IdempotencyKeyReused, InvalidField
from moorage.storage import idempotency
from moorage.storage.database import Database, Transaction

HEADER = "Idempotency-Key"
KEPT_MS = 24 * 3_600_000
WAIT_SECONDS = 30.0
"""How long a request waits for an earlier one with its key."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class _Answer(msgspec.Struct, frozen=True):
    """A response as it is kept."""

    status: int
    headers: list[tuple[str, str]]
    body: str


class Attempt:
    """One request with a key, or without one: then nothing is kept and nothing is found."""

    def __init__(self, *, wallet: str, key: str | None, request_digest: str, clock: Clock) -> None:
        self._wallet = wallet
        self._key = key
        self._request_digest = request_digest
        self._clock = clock
        self.answer: Response | None = None
        """What was answered to the same request before."""

    async def keep(self, tx: Transaction, response: Response) -> None:
        """Keep the answer, in the transaction that does what it tells of."""
        if self._key is not None:
            await idempotency.keep(
                tx,
                wallet=self._wallet,
                key=self._key,
                request_digest=self._request_digest,
                answer=msgspec.json.encode(_kept(response)).decode(),
                now_ms=self._clock.now_ms(),
            )


class Idempotency:
    """Lets one request of each wallet and key in at a time."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def attempt(
        self, request: Request, *, wallet: str, body_digest: str
    ) -> AsyncIterator[Attempt]:
        """The request's turn; others with its key wait until the block ends.

        Raises InvalidField for a malformed key, IdempotencyKeyReused, IdempotencyInProgress.
        """
        key = idempotency_key(request)
        digest = "" if key is None else _request_digest(request, body_digest)
        attempt = Attempt(wallet=wallet, key=key, request_digest=digest, clock=self._clock)
        if key is None:
            yield attempt
            return
        async with self._turn(wallet, key):
            attempt.answer = await self._answered(wallet, key, digest)
            yield attempt

    async def purge(self) -> None:
        """Forget the answers that are no longer given."""
        async with self._db.transaction(durable=False) as tx:
            await idempotency.forget(tx, until_ms=self._clock.now_ms() - KEPT_MS)

    @asynccontextmanager
    async def _turn(self, wallet: str, key: str) -> AsyncIterator[None]:
        lock = self._turns.setdefault((wallet, key), asyncio.Lock())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await lock.acquire()
        except TimeoutError as error:
            raise IdempotencyInProgress from error
        try:
            yield
        finally:
            lock.release()

    async def _answered(self, wallet: str, key: str, request_digest: str) -> Response | None:
        after_ms = self._clock.now_ms() - KEPT_MS
        kept = await idempotency.find(self._db, wallet=wallet, key=key, after_ms=after_ms)
        if kept is None:
            return None
        if kept.request_digest != request_digest:
            raise IdempotencyKeyReused
        return _response(msgspec.json.decode(kept.answer, type=_Answer))


def idempotency_key(request: Request) -> str | None:
    """The request's key, if it has one. Raises InvalidField."""
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidField(HEADER, "must be sent once: 1 to 255 visible ASCII characters")
    return keys[0]


def _request_digest(request: Request, body_digest: str) -> str:
    """SHA-256 of method, path and body."""
    of = f"{request.method} {request.url.path}\n{body_digest}"
    return hashlib.sha256(of.encode()).hexdigest()


def _kept(response: Response) -> _Answer:
    headers = [(name.decode(), value.decode("latin-1")) for name, value in response.raw_headers]
    return _Answer(response.status_code, headers, bytes(response.body).decode())


def _response(answer: _Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [
        (name.encode(), value.encode("latin-1")) for name, value in answer.headers
    ]
    return response

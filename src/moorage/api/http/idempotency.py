"""Carries a request with an Idempotency-Key out once; a repeat gets the first one's answer.

The first request claims the key with a row that has a lease. The transaction that carries the
request out stores the outcome in that row. The answer is rendered from the outcome, and then stored
as well. A request that is refused, or asked to pay, releases the key for the next attempt.
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.problems import json_response
from moorage.clock import Clock
from moorage.errors import (
    DatabaseUnavailable,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidField,
)
from moorage.payments.protocols.x402 import payment_identifier
from moorage.storage import idempotency
from moorage.storage.database import Database
from moorage.storage.idempotency import Claim, Kept

HEADER = "Idempotency-Key"
KEPT_MS = 24 * 3_600_000
WAIT_SECONDS = 30.0
"""How long a request waits for an earlier one with its key."""

LEASE_MS = 10_000
"""How long a key stays claimed after the gateway that carries out its request has crashed."""

_RENEW_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_OF_PAYMENT = "x402:"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Outcome = TypeVar("Outcome", bound=msgspec.Struct)


class _Answer(msgspec.Struct, frozen=True):
    """A response as it is stored."""

    status: int
    headers: list[tuple[str, str]]
    body: str


class Attempt(Generic[Outcome]):
    """One request; without a key nothing is claimed or found."""

    def __init__(self, render: Callable[[Outcome], Response]) -> None:
        self._render = render
        self.claim: Claim | None = None
        """For the transaction that carries the request out."""
        self.answer: Response | None = None
        """The answer that the same request got before, or the one that this request gets."""

    def answered(self, outcome: Outcome) -> Response:
        """Renders the outcome; repeats of the request get this answer too."""
        self.answer = self._render(outcome)
        return self.answer


class Idempotency:
    """Carries out one request for each wallet and key at a time, across all gateways."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    @asynccontextmanager
    async def attempt(
        self,
        request: Request,
        body_digest: str,
        outcome: type[Outcome],
        *,
        wallet: str,
        render: Callable[[Outcome], Response] = json_response,
    ) -> AsyncIterator[Attempt[Outcome]]:
        """Holds the key until the block ends; other requests with it wait.

        Raises InvalidField for a malformed key, IdempotencyKeyReused, IdempotencyInProgress,
        DatabaseUnavailable.
        """
        attempt = Attempt(render)
        key = idempotency_key(request)
        if key is None:
            yield attempt
            return
        digest = _request_digest(request, body_digest)
        claim = Claim(wallet, key, str(uuid.uuid4()))
        kept = await self._claim(claim, digest)
        if kept is not None:
            attempt.answer = _answered(kept, outcome, render)
            yield attempt
            return
        attempt.claim = claim
        renewing = asyncio.create_task(self._renew(claim))
        try:
            yield attempt
        finally:
            renewing.cancel()
            await self._leave(claim, attempt.answer)

    async def purge(self) -> None:
        """Deletes the answers that are older than `KEPT_MS`."""
        async with self._db.transaction(durable=False) as tx:
            await idempotency.forget(tx, until_ms=self._clock.now_ms() - KEPT_MS)

    async def _claim(self, claim: Claim, digest: str) -> Kept | None:
        """Claims the key, or returns the outcome of the request that claimed it first."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while not await self._claimed(claim, digest):
            kept = await self._first(claim, deadline)
            if kept is not None and kept.request_digest != digest:
                raise IdempotencyKeyReused
            if kept is not None:
                return kept
        return None

    async def _claimed(self, claim: Claim, digest: str) -> bool:
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False, of=[claim.wallet]) as tx:
            return await idempotency.claim(
                tx,
                claim,
                request_digest=digest,
                lease_until_ms=now_ms + LEASE_MS,
                now_ms=now_ms,
                after_ms=now_ms - KEPT_MS,
            )

    async def _first(self, claim: Claim, deadline: float) -> Kept | None:
        """Waits for the request that has the key; returns None when the key is free again."""
        while True:
            now_ms = self._clock.now_ms()
            kept = await idempotency.find(
                self._db, wallet=claim.wallet, key=claim.key, after_ms=now_ms - KEPT_MS
            )
            if kept is None or kept.is_done:
                return kept
            if kept.lease_until_ms <= now_ms:
                return None
            if asyncio.get_running_loop().time() >= deadline:
                raise IdempotencyInProgress
            await asyncio.sleep(_LOOK_SECONDS)

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with suppress(DatabaseUnavailable):
                async with self._db.transaction(durable=False, of=[claim.wallet]) as tx:
                    until_ms = self._clock.now_ms() + LEASE_MS
                    await idempotency.renew(tx, claim, until_ms=until_ms)

    async def _leave(self, claim: Claim, answer: Response | None) -> None:
        """Stores the answer; without one, releases the key.

        If that fails, the lease expires, and a repeat renders the answer from the outcome.
        """
        with suppress(DatabaseUnavailable):
            async with self._db.transaction(durable=False, of=[claim.wallet]) as tx:
                if answer is not None:
                    encoded = msgspec.json.encode(_kept(answer)).decode()
                    await idempotency.answered(tx, claim, encoded)
                await idempotency.drop(tx, claim)


def idempotency_key(request: Request) -> str | None:
    """Returns the request's key, if it has one: x402's payment identifier is one, too.

    Raises InvalidField and PaymentMalformed.
    """
    keys = request.headers.getlist(HEADER)
    if not keys:
        signature = request.headers.get("payment-signature")
        identifier = payment_identifier(signature) if signature else None
        return None if identifier is None else _OF_PAYMENT + identifier
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidField(HEADER, "must be sent once: 1 to 255 visible ASCII characters")
    return keys[0]


def _request_digest(request: Request, body_digest: str) -> str:
    """Returns the SHA-256 of method, path and body; of the payment too, if that has the key."""
    of = f"{request.method} {request.url.path}\n{body_digest}"
    if not request.headers.getlist(HEADER):
        of += "\n" + request.headers.get("payment-signature", "")
    return hashlib.sha256(of.encode()).hexdigest()


def _kept(response: Response) -> _Answer:
    headers = [(name.decode(), value.decode("latin-1")) for name, value in response.raw_headers]
    return _Answer(response.status_code, headers, bytes(response.body).decode())


def _answered(
    kept: Kept, outcome: type[Outcome], render: Callable[[Outcome], Response]
) -> Response:
    """Returns the stored answer; rendered from the outcome if none was stored."""
    if not kept.answer:
        return render(msgspec.json.decode(kept.outcome, type=outcome))
    answer = msgspec.json.decode(kept.answer, type=_Answer)
    response = Response(answer.body, answer.status)
    response.raw_headers = [
        (name.encode(), value.encode("latin-1")) for name, value in answer.headers
    ]
    return response

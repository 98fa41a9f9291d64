"""Delivery: a wallet's events go to its webhook one after the other, each at least once.

Rows store what is pending and when it is due, so a crash loses nothing: what was sent but not
recorded is sent again. Wallets do not wait for each other: each has at most one attempt under way,
by the gateway that has claimed it.
"""

import asyncio
import contextlib
from http import HTTPStatus
from typing import NamedTuple

import structlog

from moorage import __version__
from moorage.clock import Clock
from moorage.events.sender import NotDelivered, Sender
from moorage.events.signature import signed_headers
from moorage.loop import until_tick
from moorage.metrics import record_webhook_attempt
from moorage.money import json_of
from moorage.records.event import Delivery, DeliveryStatus, Webhook
from moorage.storage import events
from moorage.storage.database import Database, Transaction
from moorage.storage.vault import Vault

log = structlog.get_logger()

PERIOD_SECONDS = 1.0
_PAUSE_AFTER_FAULT_SECONDS = 30.0
_LEASE_MS = 60_000  # several times the longest attempt
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"Moorage/{__version__}"}
_NOT_WANTED = "the receiver answered 410 Gone, which removed the webhook"

_SECOND_MS = 1000
_MINUTE_MS = 60 * _SECOND_MS
_HOUR_MS = 60 * _MINUTE_MS

PAUSES_MS = (
    10 * _SECOND_MS,
    1 * _MINUTE_MS,
    5 * _MINUTE_MS,
    30 * _MINUTE_MS,
    2 * _HOUR_MS,
    6 * _HOUR_MS,
    12 * _HOUR_MS,  # each further pause is as long
)
MAX_AGE_MS = 72 * _HOUR_MS
"""An older delivery is given up, after at least one attempt."""


class DeliveryWorker:
    """Sends what is due, to at most `at_once` webhooks at the same time."""

    def __init__(
        self,
        *,
        db: Database,
        sender: Sender,
        vault: Vault,
        at_once: int,
        holder: str,
        clock: Clock,
    ) -> None:
        """`holder` is this gateway's id, as in `Leases`."""
        self._db = db
        self._holder = holder
        self._vault = vault
        self._sender = sender
        self._at_once = at_once
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._doubtful: set[str] = set()  # those of `_under_way`, as `events.due` defines it
        self._free = asyncio.Event()
        self._oldest_ms: int | None = None

    async def run(self) -> None:
        """Delivers until cancelled, whatever errors receivers and the database cause."""
        try:
            while True:
                self._free.clear()
                try:
                    await self.look()
                except Exception:  # the next round tries again
                    log.exception("webhooks cannot be looked up")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(until_tick(PERIOD_SECONDS)):
                        await self._free.wait()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sender.close()

    async def look(self) -> None:
        """Begins what is due, at most `at_once`; doubtful webhooks get half of the places at most.

        So receivers that do not answer delay each other, but none that answers.
        """
        now_ms = self._clock.now_ms()
        for webhook, is_doubtful in await events.due(
            self._db, holder=self._holder, now_ms=now_ms, limit=2 * self._at_once
        ):
            if len(self._under_way) >= self._at_once:
                return
            if is_doubtful and len(self._doubtful) >= max(1, self._at_once // 2):
                continue
            if webhook.wallet not in self._under_way:
                self._begin(webhook, is_doubtful=is_doubtful)

    def oldest_pending_seconds(self) -> float:
        """Returns the age of the oldest pending delivery, as of the last `measure`, or 0."""
        if self._oldest_ms is None:
            return 0.0
        return max(0, self._clock.now_ms() - self._oldest_ms) / 1000

    async def measure(self) -> None:
        """Looks up the oldest pending delivery."""
        self._oldest_ms = await events.oldest_pending_ms(self._db)

    def _begin(self, webhook: Webhook, *, is_doubtful: bool) -> None:
        if is_doubtful:
            self._doubtful.add(webhook.wallet)
        task = asyncio.create_task(self._attempt(webhook), name=f"webhook {webhook.wallet}")
        self._under_way[webhook.wallet] = task
        task.add_done_callback(lambda _: self._ended(webhook.wallet))

    def _ended(self, wallet: str) -> None:
        del self._under_way[wallet]
        self._doubtful.discard(wallet)
        self._free.set()

    async def _attempt(self, webhook: Webhook) -> None:
        """Sends the wallet's first pending delivery, and records the outcome."""
        try:
            fence = await self._claim(webhook.wallet)
            delivery = await events.first_pending(self._db, webhook.wallet)
            if fence is None or delivery is None:
                return  # another gateway claimed it, or the webhook was removed meanwhile
            outcome = await self._send(webhook, delivery)
            async with self._db.transaction(durable=False) as tx:
                held = await events.fence_of(tx, webhook.wallet, holder=self._holder)
                if held == fence:
                    await self._record(tx, webhook, delivery, outcome)
        except Exception:  # nothing was recorded: it is sent again, after a pause
            log.exception("webhook delivery failed", wallet=webhook.wallet)
            await asyncio.sleep(_PAUSE_AFTER_FAULT_SECONDS)

    async def _claim(self, wallet: str) -> int | None:
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False) as tx:
            return await events.claim(
                tx, wallet, holder=self._holder, now_ms=now_ms, until_ms=now_ms + _LEASE_MS
            )

    async def _send(self, webhook: Webhook, delivery: Delivery) -> "_Outcome":
        event = delivery.event
        body = json_of(event.document())
        headers = signed_headers(
            secret=self._vault.open_secret(webhook.secret, webhook.wallet),
            message_id=event.id,
            timestamp_seconds=self._clock.now_ms() // 1000,
            body=body,
        )
        try:
            status = await self._sender.post(webhook.url, headers=_HEADERS | headers, body=body)
        except NotDelivered as failure:
            return _Outcome(str(failure))
        if 200 <= status < 300:
            return _Outcome(None)
        return _Outcome(f"HTTP {status}", gone=status == HTTPStatus.GONE)

    async def _record(
        self, tx: Transaction, webhook: Webhook, delivery: Delivery, outcome: "_Outcome"
    ) -> None:
        """Records an attempt and schedules the next: this delivery again, or the one after it."""
        wallet, error = webhook.wallet, outcome.error
        if error is None:
            await self._finish(tx, wallet, delivery, DeliveryStatus.DELIVERED, None)
        elif await events.webhook_of(tx, wallet) != webhook:
            return  # it failed at an earlier URL; the present one is tried next
        elif outcome.gone:
            await self._finish(tx, wallet, delivery, DeliveryStatus.FAILED, error)
            await events.remove_webhook(tx, wallet, why=_NOT_WANTED)
        else:
            again_ms = next_attempt_ms(
                attempts=delivery.attempts + 1,
                created_at_ms=delivery.created_at_ms,
                now_ms=self._clock.now_ms(),
            )
            if again_ms is None:
                await self._finish(tx, wallet, delivery, DeliveryStatus.FAILED, error)
            else:
                record_webhook_attempt("failed")
                await events.record_attempt(tx, delivery, DeliveryStatus.PENDING, error=error)
                await events.schedule(tx, wallet, at_ms=again_ms)

    async def _finish(
        self,
        tx: Transaction,
        wallet: str,
        delivery: Delivery,
        status: DeliveryStatus,
        error: str | None,
    ) -> None:
        """Records the end of a delivery; the next one is due at once."""
        record_webhook_attempt("delivered" if error is None else "given_up")
        await events.record_attempt(tx, delivery, status, error=error)
        following = await events.first_pending(tx, wallet)
        at_ms = None if following is None else self._clock.now_ms()
        await events.schedule(tx, wallet, at_ms=at_ms)


class _Outcome(NamedTuple):
    error: str | None  # None: it was delivered
    gone: bool = False  # the receiver answered 410


def next_attempt_ms(*, attempts: int, created_at_ms: int, now_ms: int) -> int | None:
    """Returns when to try again after the `attempts`-th attempt failed now; None to give up."""
    at_ms = now_ms + PAUSES_MS[min(attempts, len(PAUSES_MS)) - 1]
    return at_ms if at_ms <= created_at_ms + MAX_AGE_MS else None

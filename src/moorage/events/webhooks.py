"""The webhooks of wallets: set, show and remove them, and send events again."""

from dataclasses import dataclass

import msgspec

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import EventNotFound, WebhookNotFound
from moorage.events.delivery import Destinations
from moorage.events.signature import new_secret
from moorage.records.event import DeliveryState, Webhook
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.vault import Vault

RETENTION_MS = 60 * 24 * 3_600_000
"""Events, and what became of their deliveries, are kept for 60 days."""

UNPAID_KEPT_MS = 3_600_000
"""How long the webhook of a wallet that never paid is kept; a payment may take as long."""

_PRUNED_AT_ONCE = 500
_REMOVED = "the webhook was removed"


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """Each wallet has at most one webhook."""

    db: Database
    destinations: Destinations
    vault: Vault
    strangers: RateLimiter
    """Webhooks of wallets that never paid, by client address.

    With a window of `UNPAID_KEPT_MS`, no more than its limit are kept at a time.
    """
    clock: Clock

    async def set(self, wallet: str, url: str, *, stranger_at: str | None = None) -> Webhook:
        """Sends the wallet's events to `url` from now on, signed with a new secret.

        What is pending for an earlier URL is sent to this one at once. `stranger_at` is the client
        address of a wallet that never paid. Raises InvalidField and RateLimited.
        """
        self.destinations.check_url(url)
        if stranger_at is not None:
            await self.strangers.check(stranger_at)
        webhook = Webhook(
            wallet=wallet, url=url, secret=new_secret(), created_at_ms=self.clock.now_ms()
        )
        async with self.db.transaction(durable=True) as tx:
            sealed = self.vault.seal_secret(webhook.secret, wallet)
            await events.set_webhook(tx, msgspec.structs.replace(webhook, secret=sealed))
        return webhook

    async def show(self, wallet: str) -> tuple[Webhook, DeliveryState]:
        """Returns the wallet's webhook and its delivery state. Raises WebhookNotFound."""
        webhook = await events.webhook_of(self.db, wallet)
        if webhook is None:
            raise WebhookNotFound
        return webhook, await events.delivery_state(self.db, wallet)

    async def remove(self, wallet: str) -> None:
        """Removes the webhook, and with it what is pending. Raises WebhookNotFound."""
        async with self.db.transaction(durable=True) as tx:
            if not await events.remove_webhook(tx, wallet, why=_REMOVED):
                raise WebhookNotFound

    async def redeliver(self, wallet: str, event_id: str) -> None:
        """Sends one of the wallet's events again, after those that are pending.

        Raises EventNotFound and WebhookNotFound.
        """
        async with self.db.transaction(durable=True) as tx:
            if await events.one(tx, wallet=wallet, event_id=event_id) is None:
                raise EventNotFound
            now_ms = self.clock.now_ms()
            if not await events.queue(tx, event_id=event_id, wallet=wallet, now_ms=now_ms):
                raise WebhookNotFound

    async def prune(self) -> None:
        """Removes some of the events older than RETENTION_MS, and webhooks of unpaid wallets.

        Those are webhooks set more than UNPAID_KEPT_MS ago by wallets that have not paid since.
        """
        now_ms = self.clock.now_ms()
        async with self.db.transaction(durable=False) as tx:
            await events.prune(tx, before_ms=now_ms - RETENTION_MS, limit=_PRUNED_AT_ONCE)
            await events.forget_unpaid_webhooks(tx, before_ms=now_ms - UNPAID_KEPT_MS)

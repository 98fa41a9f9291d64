"""What tells wallets of events, made from settings and wired."""

from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import InvalidField
from moorage.events.delivery import DeliveryWorker
from moorage.events.destination import Destinations
from moorage.events.sender import Sender, SystemResolver, is_own_address
from moorage.events.webhooks import UNPAID_KEPT_MS, Webhooks
from moorage.metrics import watch_webhook_wait
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.vault import Vault


def event_services(
    settings: Settings, db: Database, vault: Vault, clock: Clock
) -> tuple[Webhooks, DeliveryWorker]:
    """The webhooks of wallets, and what sends to them. Raises InvalidField."""
    destinations = _destinations(settings)
    return (
        _webhooks(settings, db, vault, destinations, clock),
        _deliveries(settings, db, vault, destinations, clock),
    )


def _destinations(settings: Settings) -> Destinations:
    """Where webhooks may go: never to the networks of apps. Raises InvalidField."""
    try:
        return Destinations(
            allow=settings.webhook_allow_networks,
            deny=(settings.app_subnet, *settings.deny_networks),
            is_own=is_own_address,
        )
    except ValueError as error:
        raise InvalidField("webhook_allow_networks", str(error)) from error


def _webhooks(
    settings: Settings, db: Database, vault: Vault, destinations: Destinations, clock: Clock
) -> Webhooks:
    limit, window_seconds = settings.requests_per_minute, UNPAID_KEPT_MS // 1000
    strangers = RateLimiter(clock=clock, limit=limit, window_seconds=window_seconds)
    return Webhooks(db=db, destinations=destinations, vault=vault, strangers=strangers, clock=clock)


def _deliveries(
    settings: Settings, db: Database, vault: Vault, destinations: Destinations, clock: Clock
) -> DeliveryWorker:
    at_once = settings.webhook_attempts_at_once
    sender = Sender(destinations=destinations, resolve=SystemResolver(at_once=at_once))
    worker = DeliveryWorker(db=db, sender=sender, vault=vault, at_once=at_once, clock=clock)
    watch_webhook_wait(worker.oldest_pending_seconds)
    return worker

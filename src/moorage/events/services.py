"""The services of the room, and its loops."""

from functools import cached_property

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.core import Core
from moorage.errors import InvalidField
from moorage.events.delivery import (
    DeliveryWorker,
    Destinations,
    Sender,
    SystemResolver,
    is_own_address,
)
from moorage.events.webhooks import UNPAID_KEPT_MS, Webhooks
from moorage.loop import Loop, Run, Scope
from moorage.metrics import WEBHOOK_WAIT
from moorage.settings import Settings

_ATTEMPTS_AT_ONCE = 64  # webhooks that are sent an event; each waits for its receiver's answer


class EventServices:
    """What tells wallets of events; each service is made on its first use."""

    def __init__(self, core: Core, settings: Settings) -> None:
        self._core = core
        self._settings = settings

    @cached_property
    def webhooks(self) -> Webhooks:
        strangers = MemoryRateLimiter(
            clock=self._core.clock,
            limit=self._settings.requests_per_minute,
            window_seconds=UNPAID_KEPT_MS // 1000,
        )
        return Webhooks(
            db=self._core.db,
            destinations=self._destinations,
            vault=self._core.vault,
            strangers=strangers,
            clock=self._core.clock,
        )

    @cached_property
    def _destinations(self) -> Destinations:
        """Without the networks of apps. Raises InvalidField."""
        with InvalidField.of("webhook_allow_networks"):
            return Destinations(
                allow=self._settings.webhook_allow_networks,
                deny=(self._settings.app_subnet, *self._settings.deny_networks),
                is_own=is_own_address,
            )

    @cached_property
    def _deliveries(self) -> DeliveryWorker:
        resolver = SystemResolver(at_once=_ATTEMPTS_AT_ONCE)
        worker = DeliveryWorker(
            db=self._core.db,
            sender=Sender(destinations=self._destinations, resolve=resolver),
            vault=self._core.vault,
            at_once=_ATTEMPTS_AT_ONCE,
            holder=self._core.leases.holder,
            clock=self._core.clock,
        )
        WEBHOOK_WAIT.set_function(worker.oldest_pending_seconds)
        return worker

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self._deliveries.run,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        measure, prune = self._deliveries.measure, self.webhooks.prune
        return (
            Loop("webhook wait", every_seconds=15, tick=measure, scope=Scope.NODE),
            Loop("old events", every_seconds=300, tick=prune, scope=Scope.CLUSTER),
        )

"""Reads the settings again at SIGHUP: takes what can change at once, and names what waits."""

import asyncio
import signal
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from moorage import logs
from moorage.core import Core
from moorage.errors import MoorageError
from moorage.gateway.assembly import Rooms
from moorage.gateway.state.configuration import record_changes
from moorage.settings import Settings, recorded

log = structlog.get_logger()

AT_ONCE = {
    "log_level",
    "terms_url",
    "contact",
    "requests_per_minute",
    "listed_wallets_only",
    "projects_per_wallet",
    "retention_days",
}
"""The settings that change without a restart."""

Configure = Callable[..., None]
"""Sets how is logged, as `logs.configure`."""


class Reload:
    """What a gateway does when it is asked to read its settings again, which `load` returns."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        configure: Configure = logs.configure,
    ) -> None:
        self.settings = settings
        """Those of the start, with what has changed since."""
        self._load = load
        self._configure = configure
        self._asked = asyncio.Event()

    def on_hangup(self) -> None:
        """Has SIGHUP read the settings again, from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)

    async def follow(self, rooms: Rooms) -> None:
        """Reads them each time that it is asked to, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.read(rooms.core, partial(take, rooms))

    async def read(self, core: Core, put_in_force: Callable[[Settings], None]) -> None:
        """Reads them once: all that can change at once does, and is recorded, or nothing."""
        try:
            now = self._load()
            logs.threshold_of(now.log_level)  # raises for an unknown one, before anything changes
            changed = _changed(self.settings, now)
            taken = changed & AT_ONCE
            settings = msgspec.structs.replace(
                self.settings, **{name: getattr(now, name) for name in taken}
            )
            await record_changes(core.db, settings, clock=core.clock)
        except MoorageError as error:
            log.error("settings are not read again", error=error.message)
            return
        if "log_level" in taken:
            self._configure(level=settings.log_level)
        put_in_force(settings)
        self.settings = settings
        log.info("settings read again", taken=sorted(taken), restart=sorted(changed - AT_ONCE))


def take(rooms: Rooms, settings: Settings) -> None:
    """Puts the settings of `AT_ONCE` in force, in a gateway that runs."""
    rooms.api.change(settings)
    rooms.deploy.house_rules.change(
        listed_only=settings.listed_wallets_only, projects=settings.projects_per_wallet
    )
    rooms.deploy.retention.change(suspended_days=settings.retention_days)


def _changed(before: Settings, after: Settings) -> set[str]:
    """Returns the names of the settings that differ. Raises InvalidField."""
    old, new = recorded(before), recorded(after)
    return {name for name in old | new if old.get(name) != new.get(name)}

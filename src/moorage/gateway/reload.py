"""Reads the settings again at SIGHUP: takes what can change at once, and names what waits."""

import asyncio
import signal
from collections.abc import Callable

import structlog

from moorage import logs
from moorage.errors import MoorageError
from moorage.settings import Settings, recorded

log = structlog.get_logger()

_AT_ONCE = frozenset({"log_level", "log_json"})

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
        self._started_with = self._in_force = settings
        self._load = load
        self._configure = configure

    def on_hangup(self) -> None:
        """Has SIGHUP read the settings again, from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self)

    def __call__(self) -> None:
        """Reads them; what is wrong with them is logged, and changes nothing."""
        try:
            now = self._load()
            taken = _changed(self._in_force, now) & _AT_ONCE
            waiting = _changed(self._started_with, now) - _AT_ONCE
            self._configure(json=now.log_json, level=now.log_level)
        except MoorageError as error:
            log.error("settings are not read again", error=error.message)
            return
        self._in_force = now
        log.info("settings read again", taken=sorted(taken), after_a_restart=sorted(waiting))


def _changed(before: Settings, after: Settings) -> set[str]:
    """Returns the names of the settings that differ. Raises InvalidField."""
    old, new = recorded(before), recorded(after)
    return {name for name in old | new if old.get(name) != new.get(name)}

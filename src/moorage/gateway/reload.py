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
        self._settings = settings
        self._load = load
        self._configure = configure

    def on_hangup(self) -> None:
        """Has SIGHUP read the settings again, from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self)

    def __call__(self) -> None:
        """Reads them; what is wrong with them is logged, and changes nothing."""
        try:
            now = self._load()
            self._configure(json=now.log_json, level=now.log_level)
        except MoorageError as error:
            log.error("settings are not read again", error=error.message)
            return
        before, after = recorded(self._settings), recorded(now)
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        log.info(
            "settings read again",
            taken=sorted(changed & _AT_ONCE),
            after_a_restart=sorted(changed - _AT_ONCE),
        )

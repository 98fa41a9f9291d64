"""Periodic work: each room declares its loops, and a gateway runs them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any

import structlog

from moorage.errors import MoorageError

log = structlog.get_logger()

Run = Callable[[], Coroutine[Any, Any, None]]
"""Work that goes on until it is cancelled."""

Hold = Callable[[str], Awaitable[bool]]
"""Whether the duty of that name is this gateway's now, of several on one database."""


class Scope(StrEnum):
    """Who does it."""

    CLUSTER = "cluster"  # one gateway of those on one database
    NODE = "node"  # each gateway, for what is on its machine or in its memory


@dataclass(frozen=True)
class Loop:
    """Work that is done every so many seconds, the first time after as many, unless `at_once`."""

    name: str
    _: KW_ONLY
    every_seconds: float
    tick: Callable[[], Awaitable[object]]
    scope: Scope
    at_once: bool = False
    lease: str = ""  # of loops that one gateway must do together; else the name is the lease's

    async def run(self, hold: Hold, *, speed: float = 1.0) -> None:
        """Work until cancelled; what fails is logged and tried again the next time.

        `speed` divides the pauses.
        """
        pause_seconds = 0.0 if self.at_once else self.every_seconds / speed
        while True:
            await asyncio.sleep(pause_seconds)
            pause_seconds = self.every_seconds / speed
            try:
                if self.scope is Scope.NODE or await hold(self.lease or self.name):
                    await self.tick()
            except MoorageError as error:
                log.warning("periodic work failed", work=self.name, error=error.message)
            except Exception:  # one fault in it must not end the gateway
                log.exception("periodic work failed", work=self.name)

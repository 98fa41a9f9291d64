"""Periodic work: each part of the gateway declares its loops, and a gateway runs them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any

import structlog

from moorage.errors import MoorageError

log = structlog.get_logger()

_BEGUN = time.monotonic()

Run = Callable[[], Coroutine[Any, Any, None]]
"""Work that runs until it is cancelled."""

Hold = Callable[[str], Awaitable[bool]]
"""Whether this gateway, of those on one database, now has the duty of that name."""


Keeps = Callable[[], bool]
"""Whether this gateway still keeps the apps, of those that might."""


def always() -> bool:
    """Whether a gateway keeps the apps that nobody can take from it."""
    return True


def until_tick(every_seconds: float) -> float:
    """Returns the seconds until the next tick of a period, after half of one at least.

    Ticks lie at multiples of the period since the start of the process. So work of all periods is
    done in the same moments: each time a process at rest wakes up costs more than most of its work.
    Between the begins of two ticks may be two periods, where the first takes half of one.
    """
    elapsed = asyncio.get_running_loop().time() - _BEGUN
    return 1.5 * every_seconds - (elapsed + every_seconds / 2) % every_seconds


class Scope(StrEnum):
    """Which gateways run a loop."""

    CLUSTER = "cluster"  # one of those on one database
    NODE = "node"  # each, for what is in its memory
    LEADER = "leader"  # the one of each machine that runs its apps


class Ticks:
    """When each loop that a gateway runs last finished a tick, or first began one."""

    def __init__(self, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}
        self._patience: dict[str, float] = {}

    def begun(self, loop: "Loop") -> None:
        """Records that a tick begins."""
        self._since.setdefault(loop.name, self._seconds())
        self._patience[loop.name] = max(loop.patience_seconds, 5 * loop.every_seconds)

    def finished(self, loop: "Loop") -> None:
        """Records that a tick has done its work."""
        self._since[loop.name] = self._seconds()

    def idle(self, loop: "Loop") -> None:
        """Records that another gateway does this work, if any does."""
        self._since.pop(loop.name, None)

    async def check(self) -> None:
        """Raises MoorageError naming the loops that have finished no tick for too long."""
        now = self._seconds()
        still = {name: now - since for name, since in self._since.items()}
        late = [
            f"{name} (for {seconds:.0f} s)"
            for name, seconds in still.items()
            if seconds > self._patience[name]
        ]
        if late:
            raise MoorageError(f"Periodic work stands still: {', '.join(late)}.")


@dataclass(frozen=True)
class Loop:
    """Work that runs every `every_seconds`: first after that time, or at the start if `at_once`."""

    name: str
    _: KW_ONLY
    every_seconds: float
    tick: Callable[[], Awaitable[object]]
    scope: Scope
    at_once: bool = False
    patience_seconds: float = 3_600.0  # `/ready` tells of it when it finishes no tick for longer
    lease: str = ""  # shared by loops that must run in the same gateway; "" is the loop's name

    async def run(
        self,
        hold: Hold,
        *,
        keeps: Keeps = always,
        speed: float = 1.0,
        ticks: Ticks | None = None,
    ) -> None:
        """Runs until cancelled; a failure is logged, and the next tick tries again.

        `hold` and `keeps` are asked before each tick, by the loop's scope; `speed` divides the
        pauses. `ticks` is told of each tick.
        """
        ticks = ticks or Ticks()
        pause_seconds = 0.0 if self.at_once else self.every_seconds / speed
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                if await self._is_due(hold, keeps):
                    ticks.begun(self)
                    await self.tick()
                    ticks.finished(self)
                else:
                    ticks.idle(self)
            except MoorageError as error:
                log.warning("periodic work failed", work=self.name, error=error.message)
            except Exception:  # one fault in it must not end the gateway
                log.exception("periodic work failed", work=self.name)
            pause_seconds = until_tick(self.every_seconds / speed)

    async def _is_due(self, hold: Hold, keeps: Keeps) -> bool:
        if self.scope is Scope.CLUSTER:
            return await hold(self.lease or self.name)
        return self.scope is Scope.NODE or keeps()

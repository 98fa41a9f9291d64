"""The turn to keep the apps, left alone while the database is of a later version of Moorage.

Then a newer gateway is about to take it: what keeps apps by the older schema may do what the newer
one forbids. So an older gateway serves beside whoever keeps them until it is upgraded too.
"""

from collections.abc import Awaitable, Callable

import structlog

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.gateway.several.turns import Turn

log = structlog.get_logger()

AGAIN_SECONDS = 5.0
"""How long the turn is left to others before this gateway looks again."""


class TurnUnlessUpgraded:
    """A `Turn` that is taken only while the database has this version's schema."""

    def __init__(self, turn: Turn, *, is_newest: Callable[[], Awaitable[bool]], clock: Clock):
        """`is_newest` returns whether the schema is this version's; it may fail as a database."""
        self._turn = turn
        self._is_newest = is_newest
        self._clock = clock
        self._again_at = float("-inf")
        self._left = ""  # why this gateway left the turn that nobody else had

    async def take(self) -> bool:
        """As `Turn.take`; gives the turn back at once while the schema is another version's."""
        if self._clock.monotonic_seconds() < self._again_at:
            return False
        if not await self._turn.take():
            self._left = ""
            return False
        why = await self._why_not()
        if why and why != self._left:
            log.error("this gateway leaves the apps to others", error=why)
        self._left = why
        if not why:
            return True
        self._again_at = self._clock.monotonic_seconds() + AGAIN_SECONDS
        await self._turn.give_back()
        return False

    async def check(self) -> None:
        """Raises DatabaseUnavailable once this gateway left the turn, until another has it."""
        if self._left:
            raise DatabaseUnavailable(self._left)

    @property
    def holds(self) -> bool:
        """As `Turn.holds`."""
        return self._turn.holds

    async def until_lost(self) -> None:
        """As `Turn.until_lost`."""
        await self._turn.until_lost()

    async def give_back(self) -> None:
        """As `Turn.give_back`."""
        await self._turn.give_back()

    async def _why_not(self) -> str:
        try:
            if await self._is_newest():
                return ""
        except DatabaseUnavailable as error:
            return f"Nobody keeps the apps: {error.message}"
        return (
            "Nobody keeps the apps: the database is of another version of Moorage than this "
            "gateway. Start one of that version, then upgrade this one."
        )

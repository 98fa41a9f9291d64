"""Chooses who holds used nonces and counts: a Valkey server while it answers, else PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import structlog

from moorage.storage.shared.holder import TABLES, HolderAway, Mark
from moorage.storage.shared.tables import SharedTables

if TYPE_CHECKING:
    from moorage.storage.shared.valkey import ValkeyStore  # 150 ms of its library

log = structlog.get_logger()

_Answer = TypeVar("_Answer")
RETURN_SECONDS = 300
"""How often it is tried to go back to a Valkey server, which refuses signatures for some 5 s."""


class SharedStore:
    """Used nonces and counts of requests, for several gateways.

    All hold to what the mark says, so that one of them that can't reach the Valkey server brings
    all to the tables. Each method raises DatabaseUnavailable.
    """

    def __init__(self, tables: SharedTables, valkey: "ValkeyStore | None" = None) -> None:
        """Without `valkey` the tables hold all."""
        self._tables = tables
        self._valkey = valkey
        self._mark: Mark | None = None
        self._replacing = asyncio.Lock()

    async def open(self, *, lost_ms: int) -> None:
        """Makes what is missing. `lost_ms`: no nonce was used elsewhere above this timestamp."""
        await self._tables.open(lost_ms=lost_ms)

    async def mark(self, timestamp_ms: int) -> Mark:
        """Raises the mark, on the disk; returns it. No nonce above it was used."""
        self._mark = await self._tables.mark(timestamp_ms)
        return self._mark

    async def use(self, holder: str, digest: str, timestamp_ms: int) -> tuple[bool, int] | None:
        """Records a nonce; returns whether it is new, and the floor.

        Returns None if the holder lost all nonces, or is away: then call `replace`.
        """
        if holder == TABLES:
            return await self._tables.use(digest, timestamp_ms)
        if self._valkey is not None:
            with suppress(HolderAway):
                return await self._valkey.use(holder, digest, timestamp_ms)
        return None

    async def replace(self, lost: str) -> Mark:
        """Has another hold the nonces in place of `lost`, and refuse all up to the mark."""
        async with self._replacing:
            if self._mark is None or self._mark.holder == lost:
                self._mark = await self._hand_over(lost)
            return self._mark

    async def go_back(self) -> None:
        """Has the Valkey server hold the nonces again, if it answers."""
        if self._valkey is not None and (await self._tables.read_mark()).holder == TABLES:
            self._mark = await self._hand_over(TABLES)

    async def forget(self, until_ms: int) -> None:
        """Forgets the nonces up to a timestamp, and raises the floor to the newest of them."""
        await self._tables.forget(until_ms)
        await self._at_valkey(lambda valkey, holder: valkey.forget(holder, until_ms))

    async def remember_body(self, digest: str, body: str) -> None:
        """Remembers the body of a used nonce's request, if its holder still does."""
        if not await self._at_valkey(lambda it, holder: it.remember_body(holder, digest, body)):
            await self._tables.remember_body(digest, body)

    async def was_of_body(self, digest: str, body: str) -> bool:
        """Whether that body is remembered."""
        found = await self._at_valkey(lambda it, holder: it.was_of_body(holder, digest, body))
        return await self._tables.was_of_body(digest, body) if found is None else found

    async def count(self, key: str, *, limit: int, window_us: int) -> int:
        """Counts a request unless `limit` passed in the window; returns microseconds to wait.

        A new holder begins to count anew.
        """
        wait_us = await self._at_valkey(
            lambda it, holder: it.count(holder, key, limit=limit, window_us=window_us)
        )
        if wait_us is None:
            return await self._tables.count(key, limit=limit, window_us=window_us)
        return wait_us

    async def forget_counts(self) -> None:
        """Forgets the keys that were quiet for their window; a Valkey server does it by itself."""
        await self._tables.forget_counts()

    async def _at_valkey(
        self, ask: Callable[["ValkeyStore", str], Awaitable[_Answer]]
    ) -> _Answer | None:
        """Returns what the Valkey server answers if it is the holder; None if the tables are.

        If it is away, another holder follows, and the tables answer this once.
        """
        if self._mark is None:
            self._mark = await self._tables.read_mark()
        holder = self._mark.holder
        if holder == TABLES:
            return None
        if self._valkey is not None:
            with suppress(HolderAway):
                return await ask(self._valkey, holder)
        await self.replace(holder)
        return None

    async def _hand_over(self, lost: str) -> Mark:
        valkey = self._valkey
        holder = TABLES
        if valkey is not None:
            try:
                holder = await valkey.name_holder()
            except HolderAway as error:
                log.warning("valkey does not answer", error=str(error))

        async def begin(floor_ms: int) -> str:
            if valkey is None or holder == TABLES:
                return TABLES
            try:
                await valkey.begin(holder, floor_ms)
            except HolderAway as error:
                log.warning("valkey holds nothing", error=str(error))
                return TABLES
            return holder

        mark = await self._tables.hand_over(lost, begin)
        where = "PostgreSQL" if mark.holder == TABLES else "Valkey"
        log.info("used nonces and counts are held elsewhere", where=where)
        return mark

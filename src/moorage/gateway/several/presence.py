"""What a gateway shows at its address, so that it is told from every other that might answer.

`GET /health` has it as a header, if asked by one: a random id of this run; a random value that
stands in its database, which all gateways on that see, and no copy of it, as each start writes
another; and a mark of each address that it takes payments to or sends from.
"""

import asyncio
import secrets
from collections.abc import Iterable
from enum import StrEnum
from hashlib import blake2b
from typing import Self

import msgspec

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.storage.database import Database
from moorage.storage.several import cluster

STALE_SECONDS = 1.0
"""How old what is shown of the database may be: strangers can't have it read more often."""

_READ_SECONDS = 1.0
_BOOKS = "books"  # the name of the value in the database
_MARK_BYTES = 8


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """Which gateway answers."""

    run: str
    books: str
    takes: frozenset[str]

    @property
    def text(self) -> str:
        """It as a header's value."""
        return f"run={self.run}; books={self.books}; takes={','.join(sorted(self.takes))}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Returns what a header says; None if it is no gateway's."""
        fields = dict(part.strip().partition("=")[::2] for part in text.split(";"))
        run, books, takes = (fields.get(name, "") for name in cls.__struct_fields__)
        if not run or not books:
            return None
        return cls(run=run, books=books, takes=frozenset(filter(None, takes.split(","))))


class Answered(StrEnum):
    """Who answers at an address."""

    THIS = "this"
    SIBLING = "sibling"  # another gateway on the same database
    COPY = "copy"  # one with other books that takes payments to an address of ours
    OTHER = "other"  # one with other books and other addresses
    NOBODY = "nobody"  # no gateway, or none that could be asked


def judge(answers: Iterable[Presence], own: Presence) -> Answered:
    """Returns who answers, the worst of them."""
    found = list(answers)
    others = [each for each in found if each.run != own.run and each.books != own.books]
    if any(not each.takes.isdisjoint(own.takes) for each in others):
        return Answered.COPY
    if others:
        return Answered.OTHER
    if not found:
        return Answered.NOBODY
    is_this = any(each.run == own.run for each in found)
    return Answered.THIS if is_this else Answered.SIBLING


class OwnPresence:
    """What this gateway shows."""

    def __init__(self, db: Database, *, run: str, addresses: Iterable[str], clock: Clock) -> None:
        self._db = db
        self._run = run
        self._takes = frozenset(map(_mark, addresses))
        self._clock = clock
        self._books = ""
        self._read_at = float("-inf")

    async def enter(self) -> None:
        """Writes another value into the database. Raises DatabaseUnavailable."""
        await cluster.replace(self._db, _BOOKS, secrets.token_hex(16))

    async def read(self) -> Presence:
        """Returns it as it is now. Raises DatabaseUnavailable."""
        self._read_at = self._clock.monotonic_seconds()
        self._books = await cluster.agreed(self._db, _BOOKS)
        return Presence(run=self._run, books=self._books, takes=self._takes)

    async def shown(self) -> str:
        """Returns the header's value, which may be a little old.

        While the database does not answer it is that of no gateway that is known.
        """
        if self._clock.monotonic_seconds() - self._read_at >= STALE_SECONDS:
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    await self.read()
            except (DatabaseUnavailable, TimeoutError):
                self._books = ""  # so it is not known: a sibling that starts has written another
        return Presence(run=self._run, books=self._books, takes=self._takes).text


def _mark(address: str) -> str:
    return blake2b(address.encode(), digest_size=_MARK_BYTES).hexdigest()

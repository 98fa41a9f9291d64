"""Leases that are taken over without comparing clocks of machines.

Their row's token grows with each renewal. Whoever wants it watches the row: one that stood still
for long enough was left.
"""

from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, or_, select

from moorage.storage.database import Database, Statement, Upsert
from moorage.storage.schema import leases

_NOBODY = ""
_WHOEVER_RENEWS = "-"  # no gateway has this id
_READ = Statement(select(leases.c.holder, leases.c.token).where(leases.c.name == bindparam("name")))


def take_where(*free: ColumnElement[bool]) -> Statement:
    """Takes the row of `name` for `holder` until `until_ms`, where any of the conditions holds."""
    return Statement(
        Upsert(
            table=leases,
            values={
                "name": bindparam("name"),
                "holder": bindparam("holder"),
                "token": 1,
                "expires_at_ms": bindparam("until_ms"),
            },
            replaced=("holder", "expires_at_ms"),
            changed={"token": leases.c.token + 1},
            where=or_(*free),
        )
    )


_TAKE = take_where(
    leases.c.holder == bindparam("own"),
    leases.c.holder == _NOBODY,
    leases.c.token == bindparam("seen_token"),
)


class Seen(NamedTuple):
    """A row as it was read."""

    holder: str  # "" after a release
    token: int


class WatchedLease:
    """The row of one duty. Methods raise DatabaseUnavailable."""

    def __init__(self, *, db: Database, name: str, holder: str) -> None:
        self._db = db
        self._name = name
        self._holder = holder

    async def read(self) -> Seen | None:
        """Returns the row; None before the first time."""
        row = await self._db.one(_READ, name=self._name)
        return None if row is None else Seen(str(row[0]), int(row[1]))

    async def take(self, *, until_ms: int, seen_token: int | None = None) -> int | None:
        """Takes the row if it is nobody's or this holder's, or has this token; returns its token.

        Returns None if another has it. `until_ms` is for people who look at the row.
        """
        return await self._write(
            self._holder, own=self._holder, until_ms=until_ms, seen_token=seen_token
        )

    async def renew(self, token: int, *, until_ms: int) -> int | None:
        """Renews what has this token still; returns the next token, or None."""
        return await self._write(
            self._holder, own=_WHOEVER_RENEWS, until_ms=until_ms, seen_token=token
        )

    async def release(self, token: int) -> None:
        """Leaves what has this token still to whoever comes first."""
        await self._write(_NOBODY, own=_WHOEVER_RENEWS, until_ms=0, seen_token=token)

    async def _write(
        self, holder: str, *, own: str, until_ms: int, seen_token: int | None
    ) -> int | None:
        async with self._db.transaction(durable=False) as tx:
            written = await tx.execute(
                _TAKE,
                name=self._name,
                holder=holder,
                own=own,
                until_ms=until_ms,
                seen_token=seen_token,
            )
            row = await tx.one(_READ, name=self._name) if written == 1 else None
        return None if row is None else int(row[1])

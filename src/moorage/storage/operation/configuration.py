"""Queries over settings and their former values: domains, addresses that are or were `pay_to`."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Table, bindparam, func, null, select, update

from moorage.storage.database import Source, Statement, Transaction, Upsert, columns_of, insert_of
from moorage.storage.schema import base_domains, recipients
from moorage.storage.schema import configuration_changes as changes


class Former(msgspec.Struct, frozen=True):
    """A value that a setting has, or had."""

    value: str
    since_ms: int
    retired_at_ms: int | None


class Formers:
    """The values that a setting ever had, which count until an operator retires them."""

    def __init__(self, table: Table, column: str) -> None:
        value = table.c[column]
        self._every = Statement(
            select(value, table.c.since_ms, table.c.retired_at_ms).order_by(table.c.since_ms, value)
        )
        self._add = Statement(
            Upsert(
                table=table,
                values={column: bindparam("value"), "since_ms": bindparam("since_ms")},
                changed={"retired_at_ms": null()},
            )
        )
        self._retire = Statement(
            update(table)
            .where(value == bindparam("of"), table.c.retired_at_ms.is_(None))
            .values(retired_at_ms=bindparam("at_ms"))
        )

    async def every(self, source: Source) -> list[Former]:
        """Returns all of them, the oldest first."""
        return await source.records(Former, self._every)

    async def in_use(self, source: Source) -> list[str]:
        """Returns those that are not retired, the oldest first."""
        return [each.value for each in await self.every(source) if each.retired_at_ms is None]

    async def add(self, tx: Transaction, value: str, *, since_ms: int) -> None:
        """Adds a value, unless it is known; one that was retired counts again."""
        await tx.execute(self._add, value=value, since_ms=since_ms)

    async def retire(self, tx: Transaction, value: str, *, at_ms: int) -> bool:
        """Marks a value as given up; returns False for one that is unknown, or was given up."""
        return await tx.execute(self._retire, of=value, at_ms=at_ms) == 1


BASE_DOMAINS = Formers(base_domains, "domain")
"""The domains below which apps are served."""

RECIPIENTS = Formers(recipients, "address")
"""The addresses of `pay_to`: payments to them are credited."""


class ConfigurationChange(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that has another value than at the start before; values are JSON."""

    at_ms: int
    setting: str  # "base_domain"; a chain is "chains.<name>"
    before: str | None  # None: it was not recorded
    after: str | None  # None: it is gone


_COLUMNS = columns_of(changes, ConfigurationChange)
_newest = select(func.max(changes.c.id)).group_by(changes.c.setting)
_IN_FORCE = Statement(
    select(changes.c.setting, changes.c.after).where(
        changes.c.id.in_(_newest), changes.c.after.is_not(None)
    )
)
_HISTORY = Statement(select(*_COLUMNS).order_by(changes.c.id))
_ADD = insert_of(changes, ConfigurationChange)


async def in_force(source: Source) -> dict[str, str]:
    """Returns each setting's value at the last start, as JSON; empty before the first."""
    return dict(await source.all(_IN_FORCE))


async def history(source: Source) -> list[ConfigurationChange]:
    """Returns every change, the oldest first; those of the first start have no `before`."""
    return await source.records(ConfigurationChange, _HISTORY)


async def add_change(tx: Transaction, found: Sequence[ConfigurationChange]) -> None:
    """Adds changes."""
    await tx.execute_many(_ADD, [msgspec.structs.asdict(change) for change in found])

"""Queries over the settings that gateways started with."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, func, insert, select

from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.schema import configuration_changes as changes


class ConfigurationChange(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that has another value than at the start before; values are JSON."""

    at_ms: int
    setting: str  # "base_domain"; a chain is "chains.<name>"
    before: str | None  # None: it was not recorded
    after: str | None  # None: it is gone


_COLUMNS = [changes.c[name] for name in ConfigurationChange.__struct_fields__]
_newest = select(func.max(changes.c.id)).group_by(changes.c.setting)
_IN_FORCE = Statement(
    select(changes.c.setting, changes.c.after).where(
        changes.c.id.in_(_newest), changes.c.after.is_not(None)
    )
)
_HISTORY = Statement(select(*_COLUMNS).order_by(changes.c.id))
_ADD = Statement(
    insert(changes).values(
        {name: bindparam(name) for name in ConfigurationChange.__struct_fields__}
    )
)


async def in_force(source: Source) -> dict[str, str]:
    """Returns each setting's value at the last start, as JSON; empty before the first."""
    return dict(await source.all(_IN_FORCE))


async def history(source: Source) -> list[ConfigurationChange]:
    """Returns every change, the oldest first; those of the first start have no `before`."""
    return [struct_of(ConfigurationChange, row) for row in await source.all(_HISTORY)]


async def add(tx: Transaction, found: Sequence[ConfigurationChange]) -> None:
    """Adds changes."""
    await tx.execute_many(_ADD, [msgspec.structs.asdict(change) for change in found])

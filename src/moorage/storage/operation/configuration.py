"""Queries over settings and their former values: domains, addresses that are or were `pay_to`."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, func, insert, null, select, update

from moorage.storage.database import Source, Statement, Transaction, Upsert, struct_of
from moorage.storage.schema import base_domains, recipients
from moorage.storage.schema import configuration_changes as changes


class BaseDomain(msgspec.Struct, frozen=True):
    """A domain below which apps are served, or were."""

    domain: str
    since_ms: int
    retired_at_ms: int | None


_ALL = Statement(
    select(base_domains.c.domain, base_domains.c.since_ms, base_domains.c.retired_at_ms).order_by(
        base_domains.c.since_ms, base_domains.c.domain
    )
)
_BASE_DOMAINS_ADD = Statement(
    Upsert(
        table=base_domains,
        values={"domain": bindparam("domain"), "since_ms": bindparam("since_ms")},
        changed={"retired_at_ms": null()},
    )
)
_RETIRE = Statement(
    update(base_domains)
    .where(base_domains.c.domain == bindparam("of"), base_domains.c.retired_at_ms.is_(None))
    .values(retired_at_ms=bindparam("at_ms"))
)


async def every_base_domain(source: Source) -> list[BaseDomain]:
    """Returns all of them, the oldest first."""
    return [BaseDomain(*row) for row in await source.all(_ALL)]


async def add_base_domain(tx: Transaction, domain: str, *, since_ms: int) -> None:
    """Adds a domain, unless it is known; one that was retired is served again."""
    await tx.execute(_BASE_DOMAINS_ADD, domain=domain, since_ms=since_ms)


async def retire_base_domain(tx: Transaction, domain: str, *, at_ms: int) -> bool:
    """Marks a domain as given up; returns False when it is not known, or was given up before."""
    return await tx.execute(_RETIRE, of=domain, at_ms=at_ms) == 1


class Recipient(msgspec.Struct, frozen=True):
    """An address that is `pay_to`, or was."""

    address: str
    since_ms: int
    retired_at_ms: int | None


_RECIPIENTS_ALL = Statement(
    select(recipients.c.address, recipients.c.since_ms, recipients.c.retired_at_ms).order_by(
        recipients.c.since_ms, recipients.c.address
    )
)
_RECIPIENTS_ADD = Statement(
    Upsert(
        table=recipients,
        values={"address": bindparam("address"), "since_ms": bindparam("since_ms")},
        changed={"retired_at_ms": null()},
    )
)
_RECIPIENTS_RETIRE = Statement(
    update(recipients)
    .where(recipients.c.address == bindparam("of"), recipients.c.retired_at_ms.is_(None))
    .values(retired_at_ms=bindparam("at_ms"))
)


async def every_recipient(source: Source) -> list[Recipient]:
    """Returns every address that was ever `pay_to`, the oldest first."""
    return [Recipient(*row) for row in await source.all(_RECIPIENTS_ALL)]


async def watched_recipients(source: Source) -> frozenset[str]:
    """Returns those that are not retired: payments to them are credited."""
    return frozenset(
        each.address for each in await every_recipient(source) if each.retired_at_ms is None
    )


async def add_recipient(tx: Transaction, address: str, *, since_ms: int) -> None:
    """Adds an address, unless it is known; one that was retired is watched again."""
    await tx.execute(_RECIPIENTS_ADD, address=address, since_ms=since_ms)


async def retire_recipient(tx: Transaction, address: str, *, at_ms: int) -> bool:
    """Marks an address as given up; returns False when it is not known, or was given up before."""
    return await tx.execute(_RECIPIENTS_RETIRE, of=address, at_ms=at_ms) == 1


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


async def add_change(tx: Transaction, found: Sequence[ConfigurationChange]) -> None:
    """Adds changes."""
    await tx.execute_many(_ADD, [msgspec.structs.asdict(change) for change in found])

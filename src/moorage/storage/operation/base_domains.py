"""Queries over the domains that were ever `base_domain`."""

import msgspec
from sqlalchemy import bindparam, null, select, update

from moorage.storage.database import Source, Statement, Transaction, Upsert
from moorage.storage.schema import base_domains


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
_ADD = Statement(
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


async def known(source: Source) -> list[BaseDomain]:
    """Returns all of them, the oldest first."""
    return [BaseDomain(*row) for row in await source.all(_ALL)]


async def add(tx: Transaction, domain: str, *, since_ms: int) -> None:
    """Adds a domain, unless it is known; one that was retired is served again."""
    await tx.execute(_ADD, domain=domain, since_ms=since_ms)


async def retire(tx: Transaction, domain: str, *, at_ms: int) -> bool:
    """Marks a domain as given up; returns False when it is not known, or was given up before."""
    return await tx.execute(_RETIRE, of=domain, at_ms=at_ms) == 1

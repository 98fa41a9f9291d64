"""Queries over domains. Several projects may claim a host, but it is verified for at most one."""

import msgspec
from sqlalchemy import bindparam, delete, select, update

from moorage.records.domain import Domain, DomainStatus
from moorage.storage.database import (
    Database,
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
)
from moorage.storage.schema import domains

_DOMAIN = columns_of(domains, Domain)
_this = (
    domains.c.host == bindparam("the_host"),
    domains.c.project_id == bindparam("of_project_id"),
)
_verified = domains.c.status == DomainStatus.VERIFIED.value

_ONE = Statement(select(*_DOMAIN).where(*_this))
_OF_PROJECT = Statement(
    select(*_DOMAIN)
    .where(*given(domains, "project_id"))
    .order_by(domains.c.created_at_ms, domains.c.host)
)
_VERIFIED_OF = Statement(select(domains.c.host).where(*given(domains, "project_id"), _verified))
_VERIFIED = Statement(select(domains.c.project_id, domains.c.host).where(_verified))
_PROJECT_AT = Statement(select(domains.c.project_id).where(*given(domains, "host"), _verified))
_DUE = Statement(
    select(*_DOMAIN)
    .where(domains.c.next_check_at_ms <= bindparam("now_ms"))
    .order_by(domains.c.next_check_at_ms)
    .limit(bindparam("limit"))
)
_INSERT = insert_of(domains, Domain)
_STORE_CHECK = Statement(
    update(domains)
    .where(*_this, domains.c.token == bindparam("the_token"))
    .values(
        status=bindparam("new_status"),
        problem=bindparam("new_problem"),
        verified_at_ms=bindparam("new_verified_at_ms"),
        checked_at_ms=bindparam("new_checked_at_ms"),
        next_check_at_ms=bindparam("new_next_check_at_ms"),
    )
)
_REMOVE = Statement(delete(domains).where(*_this))
_REMOVE_OF = Statement(delete(domains).where(*given(domains, project_id="of_project_id")))


async def one(source: Source, *, host: str, project_id: str) -> Domain | None:
    """A project's claim on a host."""
    return await source.record(Domain, _ONE, the_host=host, of_project_id=project_id)


async def of_project(source: Source, project_id: str) -> list[Domain]:
    """A project's domains, oldest first."""
    return await source.records(Domain, _OF_PROJECT, project_id=project_id)


async def verified_of(source: Source, project_id: str) -> list[str]:
    """Returns the verified hosts of a project."""
    return await source.values(_VERIFIED_OF, project_id=project_id)


async def verified(source: Source) -> dict[str, list[str]]:
    """Returns the verified hosts of all projects, by project."""
    found: dict[str, list[str]] = {}
    for project_id, host in await source.all(_VERIFIED):
        found.setdefault(project_id, []).append(host)
    return found


async def project_at(source: Source, host: str) -> str | None:
    """Returns the id of the project that a host is verified for."""
    return await source.value(_PROJECT_AT, host=host)


async def due(db: Database, *, now_ms: int, limit: int) -> list[Domain]:
    """Returns at most `limit` domains whose record is to be checked by now, longest due first."""
    return await db.records(Domain, _DUE, now_ms=now_ms, limit=limit)


async def add(tx: Transaction, domain: Domain) -> None:
    """Stores a new claim."""
    await tx.execute(_INSERT, **msgspec.structs.asdict(domain))


async def store_check(tx: Transaction, domain: Domain) -> bool:
    """Stores the result of a check of a domain's record; returns False when the claim is gone.

    Raises UniqueViolation when the host is verified for another project.
    """
    touched = await tx.execute(
        _STORE_CHECK,
        the_host=domain.host,
        of_project_id=domain.project_id,
        the_token=domain.token,
        new_status=domain.status.value,
        new_problem=domain.problem,
        new_verified_at_ms=domain.verified_at_ms,
        new_checked_at_ms=domain.checked_at_ms,
        new_next_check_at_ms=domain.next_check_at_ms,
    )
    return touched == 1


async def remove(tx: Transaction, *, host: str, project_id: str) -> bool:
    """Removes a claim; returns False when there is none."""
    return await tx.execute(_REMOVE, the_host=host, of_project_id=project_id) == 1


async def remove_of(tx: Transaction, project_id: str) -> None:
    """Removes all claims of a project."""
    await tx.execute(_REMOVE_OF, of_project_id=project_id)

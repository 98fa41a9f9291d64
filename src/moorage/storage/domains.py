"""Queries over domains."""

from sqlalchemy import bindparam, select

from moorage.deploy.domain import Domain, DomainStatus
from moorage.storage.database import Database, Row, Statement, Transaction
from moorage.storage.schema import domains

_DOMAIN = [domains.c[name] for name in Domain.__struct_fields__]
_OF_PROJECT = Statement(
    select(*_DOMAIN)
    .where(domains.c.project_id == bindparam("project_id"))
    .order_by(domains.c.created_at_ms, domains.c.host)
)


async def of_project(source: Database | Transaction, project_id: str) -> list[Domain]:
    """A project's domains, oldest first."""
    return [_domain(row) for row in await source.all(_OF_PROJECT, project_id=project_id)]


def _domain(row: Row) -> Domain:
    fields = dict(zip(Domain.__struct_fields__, row, strict=True))
    return Domain(**fields | {"status": DomainStatus(fields["status"])})

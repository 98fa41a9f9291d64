"""Which database this is, so that gateways of one can be told from those of another."""

from sqlalchemy import text

from moorage.storage.database import Source, Statement

# A copy in the same server has another oid, one in another server another system identifier.
_SERVERS = Statement(
    text(
        "SELECT CAST(system_identifier AS text), CAST(pg_database.oid AS text) "
        "FROM pg_control_system(), pg_database WHERE datname = current_database()"
    )
)


async def identity(source: Source) -> str:
    """Returns what no other database of a server has. Raises DatabaseUnavailable."""
    row = await source.one(_SERVERS)
    return "" if row is None else "/".join(row)

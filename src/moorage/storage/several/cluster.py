"""What all gateways on one database agree on, which of them run, and which database it is."""

from typing import NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, select, text, update

from moorage.storage.database import (
    Database,
    Source,
    Statement,
    Transaction,
    Upsert,
    given,
    parameters,
    upsert_of,
)
from moorage.storage.schema import agreements, gateways

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


SILENT_MS = 60_000
"""A gateway that wrote nothing for this long does not run."""

_FORGET_MS = 86_400_000
_RETIRED = "retired"
_BOOT = "boot"  # beside the fingerprints: an older gateway compares only those that it has itself
_AGREE = Statement(Upsert(table=agreements, values=parameters(agreements.c.keys())))
_REPLACE = upsert_of(agreements)
_REPLACE_EXPECTED = Statement(
    update(agreements)
    .where(*given(agreements, name="of_name", value="expected"))
    .values(value=bindparam("new_value"))
)
_AGREED = Statement(select(agreements.c.value).where(*given(agreements, "name")))
_SAY = upsert_of(gateways)
_RUNNING = Statement(
    select(gateways.c.id, gateways.c.name, gateways.c.fingerprints, gateways.c.seen_at_ms)
    .where(gateways.c.seen_at_ms >= bindparam("since_ms"))
    .order_by(gateways.c.id)
)
_LEAVE = Statement(delete(gateways).where(*given(gateways, "id")))
_FORGET = Statement(delete(gateways).where(gateways.c.seen_at_ms < bindparam("before_ms")))


class RunningGateway(NamedTuple):
    """A gateway that runs; `keys` are fingerprints of its keys, by what they are for."""

    id: str
    name: str
    keys: dict[str, str]
    boot: str = ""  # of its machine; "" where it did not say
    seen_at_ms: int = 0


async def agree(db: Database, name: str, value: str) -> str:
    """Stores a value unless there is one of this name; returns what all gateways have."""
    async with db.transaction(durable=True) as tx:
        await tx.execute(_AGREE, name=name, value=value)
        row = await tx.one(_AGREED, name=name)
    return value if row is None else str(row[0])


async def replace(db: Database, name: str, value: str) -> None:
    """Stores a value in place of what was agreed on; gateways learn it when they are restarted."""
    async with db.transaction(durable=True) as tx:
        await tx.execute(_REPLACE, name=name, value=value)


async def replace_expected(db: Database, name: str, value: str, *, expected: str) -> bool:
    """Stores a value in place of the one expected; returns False if there is another by now."""
    async with db.transaction(durable=True) as tx:
        changed = await tx.execute(
            _REPLACE_EXPECTED, of_name=name, expected=expected, new_value=value
        )
    return changed == 1


async def agreed(source: Source, name: str) -> str:
    """Returns what all gateways have of this name; "" if there is nothing."""
    row = await source.one(_AGREED, name=name)
    return "" if row is None else str(row[0])


async def retire(tx: Transaction, *, at: str) -> None:
    """Records in the books that their gateway was retired at this time (ISO 8601)."""
    await tx.execute(_REPLACE, name=_RETIRED, value=at)


async def retired_at(source: Source) -> str:
    """Returns when the gateway of these books was retired (ISO 8601); "" if it was not."""
    return await agreed(source, _RETIRED)


async def say(tx: Transaction, gateway: RunningGateway, *, now_ms: int) -> None:
    """Records that a gateway runs; forgets those that were gone for a day."""
    await tx.execute(
        _SAY,
        id=gateway.id,
        name=gateway.name,
        fingerprints=msgspec.json.encode({**gateway.keys, _BOOT: gateway.boot}).decode(),
        seen_at_ms=now_ms,
    )
    await tx.execute(_FORGET, before_ms=now_ms - _FORGET_MS)


async def leave(tx: Transaction, gateway_id: str) -> None:
    """Records that a gateway runs no more."""
    await tx.execute(_LEAVE, id=gateway_id)


async def running(source: Source, *, now_ms: int) -> list[RunningGateway]:
    """Returns the gateways that wrote lately that they run."""
    rows = await source.all(_RUNNING, since_ms=now_ms - SILENT_MS)
    found = []
    for gateway_id, name, encoded, seen_at_ms in rows:
        keys = msgspec.json.decode(encoded, type=dict[str, str])
        found.append(RunningGateway(gateway_id, name, keys, keys.pop(_BOOT, ""), seen_at_ms))
    return found

"""The query of what wallets were told, for the operator's log."""

import msgspec
from sqlalchemy import bindparam, select

from moorage.records.event import Event
from moorage.storage.database import Source, Statement, struct_of
from moorage.storage.schema import events

_COLUMNS = [events.c[name] for name in Event.__struct_fields__]
_DATA = Event.__struct_fields__.index("data")
_SINCE = Statement(
    select(*_COLUMNS)
    .where(events.c.created_at_ms >= bindparam("since_ms"))
    .order_by(events.c.created_at_ms, events.c.wallet, events.c.sequence)
)


async def since(source: Source, since_ms: int) -> list[Event]:
    """Returns every wallet's events from a time on, the oldest first."""
    rows = await source.all(_SINCE, since_ms=since_ms)
    return [
        struct_of(Event, (*row[:_DATA], msgspec.json.decode(row[_DATA]), *row[_DATA + 1 :]))
        for row in rows
    ]

"""Queries over what wallets were told, for whoever runs the gateway."""

import msgspec
from sqlalchemy import bindparam, select

from moorage.records.event import Event
from moorage.storage.database import Row, Source, Statement, struct_of
from moorage.storage.schema import events

_COLUMNS = [events.c[name] for name in Event.__struct_fields__]
_DATA = Event.__struct_fields__.index("data")
_SINCE = Statement(
    select(*_COLUMNS)
    .where(events.c.created_at_ms >= bindparam("since_ms"))
    .order_by(events.c.created_at_ms, events.c.wallet, events.c.sequence)
)

_ABOUT = Statement(
    select(*_COLUMNS)
    .where(
        events.c.wallet == bindparam("of_wallet"), events.c.data.like("%" + bindparam("text") + "%")
    )
    .order_by(events.c.sequence)
)


async def since(source: Source, since_ms: int) -> list[Event]:
    """Returns every wallet's events from a time on, the oldest first."""
    return [_event(row) for row in await source.all(_SINCE, since_ms=since_ms)]


async def about(source: Source, *, wallet: str, digits: str) -> list[Event]:
    """Returns what a wallet was told that names these hex digits, the oldest first."""
    return [_event(row) for row in await source.all(_ABOUT, of_wallet=wallet, text=digits)]


def _event(row: Row) -> Event:
    return struct_of(Event, (*row[:_DATA], msgspec.json.decode(row[_DATA]), *row[_DATA + 1 :]))

"""The outbox: events are written by the very transaction that makes them happen."""

import uuid

from moorage.records.event import EventData, EventKind
from moorage.storage import events
from moorage.storage.database import Transaction


async def record(
    tx: Transaction, *, wallet: str, kind: EventKind, data: EventData, now_ms: int
) -> None:
    """Append an event to the wallet's, and queue its delivery where the wallet has a webhook.

    Both or neither come to be, together with whatever else `tx` does.
    """
    event_id = f"evt_{uuid.uuid4().hex}"
    await events.add(tx, event_id=event_id, wallet=wallet, kind=kind, data=data, now_ms=now_ms)
    await events.queue(tx, event_id=event_id, wallet=wallet, now_ms=now_ms)

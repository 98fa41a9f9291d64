"""The outbox: an event is stored by the same transaction as what it tells of."""

import uuid

from moorage.records.event import EventData, EventKind
from moorage.storage import events
from moorage.storage.database import Transaction


async def record(
    tx: Transaction, *, wallet: str, kind: EventKind, data: EventData, now_ms: int
) -> None:
    """Stores an event of the wallet, and queues its delivery if the wallet has a webhook.

    Both are part of `tx`.
    """
    event_id = f"evt_{uuid.uuid4().hex}"
    await events.add(tx, event_id=event_id, wallet=wallet, kind=kind, data=data, now_ms=now_ms)
    await events.queue(tx, event_id=event_id, wallet=wallet, now_ms=now_ms)

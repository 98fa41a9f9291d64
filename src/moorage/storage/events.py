"""Queries over events, webhooks, and deliveries of events to webhooks."""

import uuid

import msgspec
from sqlalchemy import (
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from moorage.acting import acted_by
from moorage.money import json_of
from moorage.records.event import (
    Delivery,
    DeliveryState,
    DeliveryStatus,
    Event,
    EventData,
    EventKind,
    Webhook,
)
from moorage.storage.database import (
    Database,
    Row,
    Source,
    Statement,
    Transaction,
    Upsert,
    columns_of,
    given,
    parameters,
)
from moorage.storage.schema import deliveries, events, payments, webhooks
from moorage.storage.several.leases import CLOCK_BACK_MS

_EVENT = columns_of(events, Event)
_WEBHOOK = columns_of(webhooks, Webhook)
_PENDING = DeliveryStatus.PENDING.value
_pending_of_wallet = (deliveries.c.wallet == bindparam("wallet")) & (
    deliveries.c.status == _PENDING
)
_later = events.alias("later")

_ADD = Statement(
    insert(events).values(
        id=bindparam("id"),
        wallet=bindparam("wallet"),
        # Of two at once, one violates the key (wallet, sequence) and is rolled back.
        sequence=select(func.coalesce(func.max(events.c.sequence), 0) + 1)
        .where(*given(events, "wallet"))
        .scalar_subquery(),
        kind=bindparam("kind"),
        data=bindparam("data"),
        created_at_ms=bindparam("now_ms"),
    )
)
_QUEUE = Statement(
    insert(deliveries).from_select(
        ["event_id", "wallet", "status", "attempts", "created_at_ms"],
        select(
            bindparam("event_id"),
            webhooks.c.wallet,
            literal(_PENDING, literal_execute=True),
            literal(0, literal_execute=True),
            bindparam("now_ms"),
        ).where(*given(webhooks, "wallet")),
    )
)
_CALL = Statement(
    update(webhooks)
    .where(*given(webhooks, wallet="webhook_wallet"), webhooks.c.next_at_ms.is_(None))
    .values(next_at_ms=bindparam("now_ms"))
)
_OF_WALLET = Statement(
    select(*_EVENT)
    .where(*given(events, "wallet"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("limit"))
)
_BEFORE = Statement(
    select(*_EVENT)
    .where(*given(events, "wallet"), events.c.sequence < bindparam("before"))
    .order_by(events.c.sequence.desc())
    .limit(bindparam("limit"))
)
_ONE = Statement(select(*_EVENT).where(*given(events, "wallet", "id")))

_SET_WEBHOOK = Statement(
    Upsert(
        table=webhooks,
        values=parameters(Webhook.__struct_fields__),
        replaced=("url", "secret", "created_at_ms"),
        changed={  # deliveries that wait are tried at the new URL at once
            "next_at_ms": case(
                (webhooks.c.next_at_ms.is_(None), null()), else_=bindparam("created_at_ms")
            )
        },
    )
)
_WEBHOOK_OF = Statement(select(*_WEBHOOK).where(*given(webhooks, "wallet")))
_REMOVE_WEBHOOK = Statement(delete(webhooks).where(*given(webhooks, "wallet")))
_FORGET_UNPAID = Statement(
    delete(webhooks).where(
        webhooks.c.created_at_ms < bindparam("before_ms"),
        webhooks.c.next_at_ms.is_(None),
        ~exists().where(payments.c.payer == webhooks.c.wallet),
    )
)
_GIVE_UP_PENDING = Statement(
    update(deliveries)
    .where(*given(deliveries, wallet="of_wallet"), deliveries.c.status == _PENDING)
    .values(status=DeliveryStatus.FAILED.value, last_error=bindparam("why"))
)
_is_doubtful = ~exists().where(payments.c.payer == webhooks.c.wallet) | exists().where(
    deliveries.c.wallet == webhooks.c.wallet,
    deliveries.c.status == _PENDING,
    deliveries.c.attempts > 0,
)
_is_due = and_(
    webhooks.c.next_at_ms <= bindparam("now_ms"),
    or_(
        webhooks.c.lease_until_ms <= bindparam("now_ms"),
        webhooks.c.lease_until_ms > bindparam("now_ms") + CLOCK_BACK_MS,
        webhooks.c.holder == bindparam("of_holder"),
    ),
)
_DUE = Statement(
    select(*_WEBHOOK, _is_doubtful.label("is_doubtful"))
    .where(_is_due)
    .order_by("is_doubtful", webhooks.c.next_at_ms)
    .limit(bindparam("limit"))
)
_CLAIM = Statement(
    update(webhooks)
    .where(*given(webhooks, wallet="of_wallet"), _is_due)
    .values(
        holder=bindparam("of_holder"),
        lease_until_ms=bindparam("until_ms"),
        fence=webhooks.c.fence + 1,
    )
)
_FENCE = Statement(
    select(webhooks.c.fence).where(*given(webhooks, wallet="of_wallet", holder="of_holder"))
)
_FIRST = Statement(
    select(deliveries.c.id, deliveries.c.attempts, deliveries.c.created_at_ms, *_EVENT)
    .join_from(deliveries, events, deliveries.c.event_id == events.c.id)
    .where(_pending_of_wallet)
    .order_by(deliveries.c.id)
    .limit(1)
)
_RECORD_ATTEMPT = Statement(
    update(deliveries)
    .where(*given(deliveries, id="delivery_id"), deliveries.c.status == _PENDING)
    .values(
        status=bindparam("new_status"),
        attempts=deliveries.c.attempts + 1,
        last_error=bindparam("error"),
    )
)
_SCHEDULE = Statement(
    update(webhooks)
    .where(*given(webhooks, wallet="of_wallet"))
    .values(next_at_ms=bindparam("at_ms"), lease_until_ms=0)
)
_LAST_TRIED = Statement(
    select(deliveries.c.status, deliveries.c.attempts, deliveries.c.last_error)
    .where(*given(deliveries, "wallet"), deliveries.c.attempts > 0)
    .order_by(deliveries.c.id.desc())
    .limit(1)
)
_WAITING = Statement(
    select(
        select(func.count()).select_from(deliveries).where(_pending_of_wallet).scalar_subquery(),
        webhooks.c.next_at_ms,
    ).where(*given(webhooks, "wallet"))
)
_OLDEST_PENDING = Statement(
    select(func.min(deliveries.c.created_at_ms))
    .join_from(webhooks, deliveries, webhooks.c.wallet == deliveries.c.wallet)
    .where(webhooks.c.next_at_ms.is_not(None), deliveries.c.status == _PENDING)
)
_old = events.c.created_at_ms < bindparam("before_ms")
_is_not_last = exists().where(
    _later.c.wallet == events.c.wallet, _later.c.sequence > events.c.sequence
)
_is_on_its_way = exists().where(
    deliveries.c.event_id == events.c.id, deliveries.c.status == _PENDING
)
_PRUNABLE = Statement(
    select(events.c.id)
    .where(_old, _is_not_last, ~_is_on_its_way)
    .order_by(events.c.created_at_ms)
    .limit(bindparam("limit"))
)
_FORGET_DELIVERIES = Statement(delete(deliveries).where(*given(deliveries, "event_id")))
_FORGET = Statement(delete(events).where(*given(events, id="event_id")))
_OF_ALL_SINCE = Statement(
    select(*_EVENT)
    .where(events.c.created_at_ms >= bindparam("since_ms"))
    .order_by(events.c.created_at_ms, events.c.wallet, events.c.sequence)
)

_ABOUT = Statement(
    select(*_EVENT)
    .where(*given(events, wallet="of_wallet"), events.c.data.like("%" + bindparam("text") + "%"))
    .order_by(events.c.sequence)
)


async def record(
    tx: Transaction, *, wallet: str, kind: EventKind, data: EventData, now_ms: int
) -> None:
    """Stores an event with the wallet's next sequence, in the transaction that it tells of.

    Also queues its delivery, if the wallet has a webhook.
    """
    if by := acted_by(wallet):
        data = {**data, "acted_by": by}
    event_id, text = f"evt_{uuid.uuid4().hex}", json_of(data).decode()
    await tx.execute(_ADD, id=event_id, wallet=wallet, kind=kind, data=text, now_ms=now_ms)
    await queue(tx, event_id=event_id, wallet=wallet, now_ms=now_ms)


async def queue(tx: Transaction, *, event_id: str, wallet: str, now_ms: int) -> bool:
    """Queues a delivery of the event; returns False when the wallet has no webhook."""
    if await tx.execute(_QUEUE, event_id=event_id, wallet=wallet, now_ms=now_ms) == 0:
        return False
    await tx.execute(_CALL, webhook_wallet=wallet, now_ms=now_ms)
    return True


async def of_wallet(db: Database, wallet: str, *, after: int, limit: int) -> list[Event]:
    """Returns at most `limit` of the wallet's events with a sequence above `after`, in order."""
    return [
        _event(row) for row in await db.all(_OF_WALLET, wallet=wallet, after=after, limit=limit)
    ]


async def before(db: Database, wallet: str, *, sequence: int, limit: int) -> list[Event]:
    """Returns the last `limit` of the wallet's events with a lower sequence, in order."""
    rows = await db.all(_BEFORE, wallet=wallet, before=sequence, limit=limit)
    return [_event(row) for row in reversed(rows)]


async def one(source: Source, *, wallet: str, event_id: str) -> Event | None:
    """Returns one of the wallet's events, if there is such."""
    row = await source.one(_ONE, wallet=wallet, id=event_id)
    return _event(row) if row else None


async def set_webhook(tx: Transaction, webhook: Webhook) -> None:
    """Sets the wallet's webhook; deliveries that waited are tried at once."""
    await tx.execute(_SET_WEBHOOK, **msgspec.structs.asdict(webhook))


async def webhook_of(source: Source, wallet: str) -> Webhook | None:
    """Returns the wallet's webhook, if it has one."""
    return await source.record(Webhook, _WEBHOOK_OF, wallet=wallet)


async def remove_webhook(tx: Transaction, wallet: str, *, why: str) -> bool:
    """Removes the wallet's webhook and gives up its deliveries; returns False without one."""
    await tx.execute(_GIVE_UP_PENDING, of_wallet=wallet, why=why)
    return await tx.execute(_REMOVE_WEBHOOK, wallet=wallet) == 1


async def forget_unpaid_webhooks(tx: Transaction, *, before_ms: int) -> int:
    """Removes webhooks set before `before_ms` by wallets that never paid, if nothing is pending.

    Returns how many.
    """
    return await tx.execute(_FORGET_UNPAID, before_ms=before_ms)


async def due(db: Database, *, holder: str, now_ms: int, limit: int) -> list[tuple[Webhook, bool]]:
    """Returns webhooks with a delivery to be tried now, and whether each is doubtful.

    Those that a gateway other than `holder` is sending to are left out. A webhook is doubtful if
    its pending delivery has failed before, or its wallet never paid. Doubtful ones come last;
    otherwise the longest due comes first.
    """
    rows = await db.all(_DUE, of_holder=holder, now_ms=now_ms, limit=limit)
    return [(Webhook(*fields), bool(is_doubtful)) for *fields, is_doubtful in rows]


async def claim(
    tx: Transaction, wallet: str, *, holder: str, now_ms: int, until_ms: int
) -> int | None:
    """Claims a wallet's webhook for the gateway `holder` until `until_ms`; returns the fence.

    Returns None when nothing is due, or another gateway has the claim.
    """
    claimed = await tx.execute(
        _CLAIM, of_wallet=wallet, of_holder=holder, now_ms=now_ms, until_ms=until_ms
    )
    return await fence_of(tx, wallet, holder=holder) if claimed == 1 else None


async def fence_of(tx: Transaction, wallet: str, *, holder: str) -> int | None:
    """Returns the fence of the last claim on the wallet's webhook, if `holder` made it."""
    return await tx.value(_FENCE, of_wallet=wallet, of_holder=holder)


async def first_pending(source: Source, wallet: str) -> Delivery | None:
    """Returns the first of the wallet's pending deliveries."""
    row = await source.one(_FIRST, wallet=wallet)
    if row is None:
        return None
    return Delivery(id=row[0], attempts=row[1], created_at_ms=row[2], event=_event(row[3:]))


async def record_attempt(
    tx: Transaction, delivery: Delivery, status: DeliveryStatus, *, error: str | None
) -> None:
    """Records the result of an attempt, unless the delivery was given up meanwhile."""
    await tx.execute(_RECORD_ATTEMPT, delivery_id=delivery.id, new_status=status, error=error)


async def schedule(tx: Transaction, wallet: str, *, at_ms: int | None) -> None:
    """Ends the claim and sets when the next delivery is tried; None if none is pending."""
    await tx.execute(_SCHEDULE, of_wallet=wallet, at_ms=at_ms)


async def delivery_state(db: Database, wallet: str) -> DeliveryState:
    """Returns the state of the wallet's deliveries."""
    last = await db.one(_LAST_TRIED, wallet=wallet)
    status, attempts, error = last or (None, 0, None)
    waiting, next_at_ms = await db.one(_WAITING, wallet=wallet) or (0, None)
    return DeliveryState(
        status=DeliveryStatus(status) if status else None,
        attempts=attempts,
        error=error,
        waiting=waiting,
        next_at_ms=next_at_ms,
    )


async def oldest_pending_ms(db: Database) -> int | None:
    """Returns when the oldest pending delivery was queued."""
    return await db.value(_OLDEST_PENDING)


async def prune(tx: Transaction, *, before_ms: int, limit: int) -> int:
    """Deletes up to `limit` events older than `before_ms`, with their deliveries; counts them.

    A wallet's last event is kept, so that its sequence continues, and so are events with a pending
    delivery.
    """
    old = await tx.all(_PRUNABLE, before_ms=before_ms, limit=limit)
    for (event_id,) in old:
        await tx.execute(_FORGET_DELIVERIES, event_id=event_id)
        await tx.execute(_FORGET, event_id=event_id)
    return len(old)


async def events_since(source: Source, since_ms: int) -> list[Event]:
    """Returns every wallet's events from a time on, the oldest first."""
    return [_event(row) for row in await source.all(_OF_ALL_SINCE, since_ms=since_ms)]


async def events_about(source: Source, *, wallet: str, digits: str) -> list[Event]:
    """Returns a wallet's events that name these hex digits, the oldest first."""
    return [_event(row) for row in await source.all(_ABOUT, of_wallet=wallet, text=digits)]


def _event(row: Row) -> Event:
    event_id, wallet, sequence, kind, data, created_at_ms = row
    decoded = msgspec.json.decode(data)
    return Event(event_id, wallet, sequence, EventKind(kind), decoded, created_at_ms)

"""Queries over alerts, and over the channels by which an operator is told of them."""

from enum import StrEnum

import msgspec
from sqlalchemy import and_, bindparam, case, delete, or_, select, update

from moorage.storage.database import Source, Statement, Transaction, columns_of, upsert_of
from moorage.storage.operation_schema import alert_channels, alerts


class AlertState(StrEnum):
    """What a channel is told of an alert."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a rule found wrong; of a gateway, or of all where `gateway` is ""."""

    id: str
    gateway: str
    rule: str
    labels: str  # JSON
    summary: str
    began_ms: int
    fired_ms: int | None = None
    well_ms: int | None = None
    ended_ms: int | None = None

    @property
    def state(self) -> AlertState:
        """Whether it is over."""
        return AlertState.FIRING if self.ended_ms is None else AlertState.RESOLVED


class ChannelName(StrEnum):
    """A way to the operator."""

    WEBHOOK = "webhook"
    MAIL = "mail"


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """The message that is under way to the operator by one channel."""

    name: ChannelName
    message: str = ""  # JSON; "" for none
    attempts: int = 0
    next_ms: int = 0
    error: str = ""
    delivered_ms: int | None = None
    digest_ms: int = 0


_COLUMNS = columns_of(alerts, Alert)
_FIRED = alerts.c.fired_ms.is_not(None)
_OPEN = Statement(select(*_COLUMNS).where(alerts.c.ended_ms.is_(None)).order_by(alerts.c.began_ms))
_RECENT = Statement(
    select(*_COLUMNS)
    .where(_FIRED, or_(alerts.c.ended_ms.is_(None), alerts.c.ended_ms >= bindparam("since_ms")))
    .order_by(alerts.c.ended_ms.is_not(None), alerts.c.fired_ms.desc(), alerts.c.id)
)
_TOLD = {ChannelName.WEBHOOK: alerts.c.told_by_webhook, ChannelName.MAIL: alerts.c.told_by_mail}
_STATE = case((alerts.c.ended_ms.is_(None), AlertState.FIRING), else_=AlertState.RESOLVED)
_UNTOLD = {
    name: Statement(
        select(*_COLUMNS)
        .where(
            _FIRED,
            or_(
                and_(alerts.c.ended_ms.is_(None), told == ""),
                and_(alerts.c.ended_ms >= bindparam("since_ms"), told != AlertState.RESOLVED),
            ),
        )
        .order_by(alerts.c.fired_ms, alerts.c.id)
    )
    for name, told in _TOLD.items()
}
_TELL = {
    name: Statement(update(alerts).where(alerts.c.id == bindparam("of_id")).values({told: _STATE}))
    for name, told in _TOLD.items()
}
_PUT = upsert_of(alerts, Alert)
_REMOVE = Statement(delete(alerts).where(alerts.c.id == bindparam("of_id")))
_PRUNE = Statement(delete(alerts).where(alerts.c.began_ms < bindparam("before_ms")))
_CHANNELS = Statement(select(*columns_of(alert_channels, Channel)).order_by(alert_channels.c.name))
_PUT_CHANNEL = upsert_of(alert_channels, Channel)


async def open_alerts(source: Source) -> list[Alert]:
    """Returns all that are not over, those included that have not fired yet."""
    return await source.records(Alert, _OPEN)


async def recent(source: Source, *, since_ms: int) -> list[Alert]:
    """Returns those that fire, then those that ended since a time; of each, the newest first."""
    return await source.records(Alert, _RECENT, since_ms=since_ms)


async def put(tx: Transaction, alert: Alert) -> None:
    """Records an alert; one that ended and has never fired is forgotten."""
    if alert.fired_ms is None and alert.ended_ms is not None:
        await tx.execute(_REMOVE, of_id=alert.id)
    else:
        await tx.execute(_PUT, **msgspec.structs.asdict(alert))


async def untold(source: Source, name: ChannelName, *, since_ms: int) -> list[Alert]:
    """Returns what has fired or ended and a channel was not told, the oldest first.

    What ended before `since_ms` is passed over.
    """
    return await source.records(Alert, _UNTOLD[name], since_ms=since_ms)


async def tell(tx: Transaction, name: ChannelName, *, since_ms: int) -> list[Alert]:
    """Returns the same, and marks it as told."""
    found = await untold(tx, name, since_ms=since_ms)
    await tx.execute_many(_TELL[name], [{"of_id": each.id} for each in found])
    return found


async def prune(tx: Transaction, *, before_ms: int) -> None:
    """Forgets what began before a time; what is so still begins again."""
    await tx.execute(_PRUNE, before_ms=before_ms)


async def channels(source: Source) -> dict[ChannelName, Channel]:
    """Returns the channels that were ever used."""
    return {each.name: each for each in await source.records(Channel, _CHANNELS)}


async def put_channel(tx: Transaction, channel: Channel) -> None:
    """Records how far a channel has come."""
    await tx.execute(_PUT_CHANNEL, **msgspec.structs.asdict(channel))

"""`moorage operator prices`: the price list of the settings, for projects that exist already."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from moorage.clock import SystemClock, boot_id, iso_utc
from moorage.errors import InvalidField
from moorage.ledger.metering import BilledTime
from moorage.ledger.running_costs import promised_ms
from moorage.money import MicroUsd, usd_number
from moorage.operate.books import OpenBooks, note_act
from moorage.records.event import EventData, EventKind
from moorage.settings import Settings
from moorage.storage import events
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.operation import price_changes
from moorage.storage.operation.price_changes import PriceChange, PricedRow

_DAY_MS = 24 * 3_600_000

PRICE_NOTICE_DAYS = 30
"""A higher price counts for projects that there are no sooner: owners have paid."""


class ProjectPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a project costs a month, and what it will; amounts in micro-USD."""

    project_id: str
    name: str
    wallet: str
    size: str
    now: MicroUsd
    then: MicroUsd | None  # None where no new price is ordered
    from_ms: int | None  # when that counts: not before its first price may end


async def prices(books: OpenBooks) -> list[ProjectPrice]:
    """Returns what every project costs, and what is ordered for it, by name."""
    async with books.db.snapshot() as snapshot:
        ordered = {each.project_id: each for each in await price_changes.ordered(snapshot)}
        return await _priced(snapshot, books.db, await price_changes.rows(snapshot), ordered)


async def price_page(books: OpenBooks, *, limit: int, offset: int) -> list[ProjectPrice]:
    """Returns a part of what `prices` does, of MAX_IDS projects at most."""
    async with books.db.snapshot() as snapshot:
        rows = await price_changes.rows(snapshot, limit=limit, offset=offset)
        ids = [each.id for each in rows]
        ordered = {each.project_id: each for each in await price_changes.ordered(snapshot, ids)}
        return await _priced(snapshot, books.db, rows, ordered, ids=ids)


async def preview(books: OpenBooks, settings: Settings, *, from_ms: int) -> list[ProjectPrice]:
    """Returns the projects that an order from `from_ms` on would change. Raises as `order`."""
    async with books.db.snapshot() as snapshot:
        rows = await price_changes.rows(snapshot, other_than=settings.size_list)
        planned = await _planned(snapshot, settings, rows, from_ms=from_ms)
        return await _priced(snapshot, books.db, rows, planned)


async def preview_page(
    books: OpenBooks, settings: Settings, *, from_ms: int, limit: int, offset: int
) -> list[ProjectPrice]:
    """Returns a part of what `preview` does, of MAX_IDS projects at most. Raises as that does."""
    async with books.db.snapshot() as snapshot:
        rows = await price_changes.rows(
            snapshot, other_than=settings.size_list, limit=limit, offset=offset
        )
        planned = await _planned(snapshot, settings, rows, from_ms=from_ms)
        return await _priced(snapshot, books.db, rows, planned, ids=list(planned))


async def order(
    books: OpenBooks, settings: Settings, *, from_ms: int, reason: str
) -> list[ProjectPrice]:
    """Orders the price list's price for every project that has another, and tells their wallets.

    It takes the place of what was ordered before and does not count yet. Raises InvalidField when
    a price would rise in less than PRICE_NOTICE_DAYS.
    """
    async with books.db.transaction(durable=True) as tx:
        now_ms = SystemClock().now_ms()
        before = await price_changes.ordered(tx)
        rows = await price_changes.rows(tx, other_than=settings.size_list)
        planned = await _planned(tx, settings, rows, from_ms=from_ms)
        await price_changes.replace_ordered(tx, planned.values())
        await _tell_kept(tx, (it for it in before if it.project_id not in planned), now_ms=now_ms)
        changed = await _priced(tx, books.db, rows, planned)
        for each in changed:
            await events.record(
                tx,
                wallet=each.wallet,
                kind=EventKind.PRICE_ANNOUNCED,
                data=_announcement(each, reason=reason),
                now_ms=now_ms,
            )
        subject = f"{len(changed)} projects"
        await note_act(tx, books.operator, "order prices", subject, reason=reason)
        return changed


async def cancel(books: OpenBooks, *, reason: str) -> int:
    """Takes back what does not count yet; returns how many projects keep their price."""
    async with books.db.transaction(durable=True) as tx:
        ordered = await price_changes.ordered(tx)
        await price_changes.replace_ordered(tx, ())
        await _tell_kept(tx, ordered, now_ms=SystemClock().now_ms())
        subject = f"{len(ordered)} projects"
        await note_act(tx, books.operator, "cancel prices", subject, reason=reason)
        return len(ordered)


async def _tell_kept(tx: Transaction, kept: Iterable[PriceChange], *, now_ms: int) -> None:
    for each in kept:
        await events.record(
            tx,
            wallet=each.wallet,
            kind=EventKind.PRICE_KEPT,
            data={"project_id": each.project_id, "usd_month": usd_number(each.before_micro_usd)},
            now_ms=now_ms,
        )


async def _planned(
    source: Source, settings: Settings, rows: Iterable[PricedRow], *, from_ms: int
) -> dict[str, PriceChange]:
    """Returns the changes that give these the list's price, by the project's id.

    Raises InvalidField when a price, of whatever project, would rise too soon.
    """
    sizes, now_ms = settings.size_list, SystemClock().now_ms()
    soonest_ms = now_ms + PRICE_NOTICE_DAYS * _DAY_MS
    dearer = (await price_changes.counts(source, sizes)).dearer
    if dearer and from_ms < soonest_ms:
        raise InvalidField(
            "DATE",
            f"{dearer} projects would cost more, so it must be {iso_utc(soonest_ms)} or later "
            f"({PRICE_NOTICE_DAYS} days' notice)",
        )
    return {
        each.id: PriceChange(
            project_id=each.id,
            wallet=each.wallet,
            months=each.months,
            ordered_at_ms=now_ms,
            before_micro_usd=each.monthly_price,
            after_micro_usd=sizes.of(each.size).month,
            from_ms=from_ms,
            before_asleep=each.asleep_price,
            after_asleep_micro_usd=sizes.of(each.size).asleep_month,
        )
        for each in rows
    }


async def _priced(
    source: Source,
    db: Database,
    rows: Iterable[PricedRow],
    changes: Mapping[str, PriceChange],
    *,
    ids: Sequence[str] | None = None,
) -> list[ProjectPrice]:
    """Returns what these cost, and will by the changes; `ids` are theirs, where they are few."""
    clock = SystemClock()
    ran: Mapping[str, int] = {}
    if changes:
        billed = BilledTime(clock=clock, boot_id=boot_id(), gateway="")
        await billed.resume(db)
        ran = await price_changes.each_ran_ms(source, now_ms=billed.now_ms(), ids=ids)
    return [
        _price(row, changes.get(row.id), ran_ms=ran.get(row.id, 0), now_ms=clock.now_ms())
        for row in rows
    ]


def _price(row: PricedRow, change: PriceChange | None, *, ran_ms: int, now_ms: int) -> ProjectPrice:
    from_ms = None
    if change is not None:
        promised = promised_ms(change.months, rises=change.rises)
        from_ms = max(change.from_ms, now_ms + max(0, promised - ran_ms))
    return ProjectPrice(
        project_id=row.id,
        name=row.name,
        wallet=row.wallet,
        size=row.size,
        now=row.monthly_price,
        then=None if change is None else change.after_micro_usd,
        from_ms=from_ms,
    )


def _announcement(price: ProjectPrice, *, reason: str) -> EventData:
    return {
        "project_id": price.project_id,
        "before_usd_month": usd_number(price.now),
        "usd_month": usd_number(price.then or MicroUsd(0)),
        "from": iso_utc(price.from_ms or 0),
        "reason": reason,
    }

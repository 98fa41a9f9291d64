"""`moorage credit`: credits that the operator gives without a payment, and takes back."""

import uuid

import msgspec

from moorage.clock import SystemClock
from moorage.errors import InvalidField
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.operate.acts import note_act
from moorage.operate.books import OpenBooks, open_books
from moorage.settings import Settings
from moorage.storage.money import grants
from moorage.storage.money.grants import Grant


async def run_grant(settings: Settings, *, wallet: str, amount: MicroUsd, reason: str) -> Grant:
    """Gives a wallet credits; returns what was recorded."""
    async with open_books(settings) as books:
        return await grant(books, wallet=wallet, amount=amount, reason=reason)


async def grant(
    books: OpenBooks, *, wallet: str, amount: MicroUsd, reason: str, grant_id: str | None = None
) -> Grant:
    """As `run_grant`, in open books. Raises UniqueViolation where there is a grant of this id."""
    now_ms = SystemClock().now_ms()
    given = Grant(
        id=grant_id or str(uuid.uuid4()),
        wallet=wallet,
        amount_micro_usd=amount,
        reason=reason,
        created_at_ms=now_ms,
    )
    async with books.db.transaction(durable=True) as tx:
        await ledger.grant(tx, given, now_ms=now_ms)
        await note_act(tx, books.operator, "give credits", f"{given.id} to {wallet}", reason=reason)
    return given


async def run_undo_grant(settings: Settings, grant_id: str) -> Grant:
    """Takes a grant back; returns it. Raises InvalidField if it can't be taken back whole."""
    async with open_books(settings) as books:
        return await undo_grant(books, grant_id)


async def undo_grant(books: OpenBooks, grant_id: str, *, reason: str = "") -> Grant:
    """As `run_undo_grant`, in open books."""
    now_ms = SystemClock().now_ms()
    async with books.db.transaction(durable=True) as tx:
        given = await grants.one(tx, grant_id)
        if given is None:
            raise InvalidField("--undo", "no grant has this id; `moorage credit --list` has them")
        if given.undone_at_ms is not None:
            raise InvalidField("--undo", "it was taken back before; nothing was changed")
        if not await ledger.undo_grant(tx, given, now_ms=now_ms):
            raise InvalidField(
                "--undo", f"{given.wallet} has fewer credits than that; nothing was taken back"
            )
        about = f"{given.id} of {given.wallet}"
        await note_act(tx, books.operator, "take credits back", about, reason=reason)
    return msgspec.structs.replace(given, undone_at_ms=now_ms)


async def all_grants(settings: Settings) -> tuple[Grant, ...]:
    """Returns every grant, the oldest first."""
    async with open_books(settings) as books:
        return await grants.every(books.db)

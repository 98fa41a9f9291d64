"""Queries over offers of projects to other wallets, and what gives a project to its taker."""

import msgspec
from sqlalchemy import bindparam, delete, func, null, or_, select, update

from moorage.records.payments import Finality, PaymentStatus
from moorage.records.project import Project, Transfer
from moorage.storage.access_schema import links
from moorage.storage.database import Source, Statement, Transaction, columns_of, given, insert_of
from moorage.storage.schema import names, payments, projects, purses, transfers

_COLUMNS = columns_of(transfers, Transfer)
_open = transfers.c.accepted_at_ms.is_(None) & transfers.c.withdrawn_at_ms.is_(None)
_ADD = insert_of(transfers)
_ONE = Statement(select(*_COLUMNS).where(*given(transfers, id="of_id")))
_OF_WALLET = Statement(
    select(*_COLUMNS)
    .where(or_(transfers.c.giver == bindparam("wallet"), transfers.c.taker == bindparam("wallet")))
    .order_by(transfers.c.created_at_ms.desc(), transfers.c.id)
    .limit(bindparam("limit"))
)
_GIVEN_AT = Statement(
    select(func.max(transfers.c.accepted_at_ms)).where(
        *given(transfers, project_id="of_project"), transfers.c.with_variables.is_(False)
    )
)
_SURPLUS = Statement(
    select(transfers.c.id)
    .where(
        *given(transfers, project_id="of_project"),
        transfers.c.withdrawn_at_ms.is_not(None),  # invoices and the audit go by the accepted ones
    )
    .order_by(transfers.c.created_at_ms.desc(), transfers.c.id)
    .offset(bindparam("kept"))
    .limit(100)
)
_DELETE = Statement(delete(transfers).where(*given(transfers, id="of_id")))
_WITHDRAW = Statement(
    update(transfers)
    .where(*given(transfers, project_id="of_project"), _open)
    .values(withdrawn_at_ms=bindparam("now_ms"))
)
_WITHDRAW_ALL = Statement(
    update(transfers)
    .where(*given(transfers, giver="of_giver"), _open)
    .values(withdrawn_at_ms=bindparam("now_ms"))
)
_ACCEPT = Statement(
    update(transfers)
    .where(*given(transfers, id="of_id"), _open)
    .values(accepted_at_ms=bindparam("now_ms"))
)
_GIVE = (
    Statement(
        update(projects)
        .where(*given(projects, id="of_project", wallet="giver"))
        .values(wallet=bindparam("taker"))
    ),
    Statement(
        update(names)
        .where(*given(names, unique_name="of_name", wallet="giver"))
        .values(wallet=bindparam("taker"))
    ),
)
_GIVE_PURSE = Statement(
    update(purses).where(*given(purses, project_id="of_project")).values(wallet=bindparam("taker"))
)
_PART_PAYMENTS = Statement(
    update(payments).where(*given(payments, purse="of_project")).values(purse=null())
)
_PROVISIONAL = Statement(
    select(payments.c.tx_hash)
    .where(
        or_(
            payments.c.payer == bindparam("wallet"),
            payments.c.given_to.is_not(None) & (payments.c.given_to == bindparam("wallet")),
        ),
        payments.c.status == PaymentStatus.CREDITED.value,
        payments.c.finality == Finality.PROVISIONAL.value,
    )
    .limit(1)
)
_END_LINKS = Statement(delete(links).where(*given(links, project_id="of_project")))


async def add(tx: Transaction, transfer: Transfer, *, max_kept: int) -> None:
    """Stores an offer; an earlier one of its project must be withdrawn.

    The newest `max_kept` of its project stay, besides those that were accepted.
    """
    await tx.execute(_ADD, **msgspec.structs.asdict(transfer))
    for surplus in await tx.values(_SURPLUS, of_project=transfer.project_id, kept=max_kept - 1):
        await tx.execute(_DELETE, of_id=surplus)


async def by_id(source: Source, transfer_id: str) -> Transfer | None:
    """Returns an offer."""
    return await source.record(Transfer, _ONE, of_id=transfer_id)


async def given_at_ms(source: Source, project_id: str) -> int:
    """Returns when a project was last given away without its variables; 0: never."""
    return await source.value(_GIVEN_AT, of_project=project_id) or 0


async def of_wallet(source: Source, wallet: str, *, limit: int) -> list[Transfer]:
    """Returns what a wallet has offered or was offered, the newest first."""
    return await source.records(Transfer, _OF_WALLET, wallet=wallet, limit=limit)


async def withdraw(tx: Transaction, project_id: str, *, now_ms: int) -> bool:
    """Ends the open offer of a project; returns whether there was one."""
    return await tx.execute(_WITHDRAW, of_project=project_id, now_ms=now_ms) == 1


async def withdraw_all(tx: Transaction, giver: str, *, now_ms: int) -> None:
    """Ends the open offers of a wallet."""
    await tx.execute(_WITHDRAW_ALL, of_giver=giver, now_ms=now_ms)


async def accept(tx: Transaction, transfer_id: str, *, now_ms: int) -> bool:
    """Ends an offer as accepted; returns False if it was not open."""
    return await tx.execute(_ACCEPT, of_id=transfer_id, now_ms=now_ms) == 1


async def may_be_reversed(source: Source, wallet: str) -> bool:
    """Returns whether a chain may still take back a payment of a wallet, or one for it."""
    return await source.value(_PROVISIONAL, wallet=wallet) is not None


async def give(tx: Transaction, project: Project, *, taker: str) -> bool:
    """Makes a project another wallet's, with its name and purse; returns False if it has changed.

    Payments that filled the purse then count for their payers alone, if they are sent back or
    reversed. Links to its pages end.
    """
    of = {"of_project": project.id, "giver": project.wallet, "taker": taker}
    of_project, of_name = _GIVE
    if await tx.execute(of_project, **of) != 1:
        return False
    await tx.execute(of_name, of_name=project.unique_name, giver=project.wallet, taker=taker)
    await tx.execute(_GIVE_PURSE, of_project=project.id, taker=taker)
    await tx.execute(_PART_PAYMENTS, of_project=project.id)
    await tx.execute(_END_LINKS, of_project=project.id)
    return True

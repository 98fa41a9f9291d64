"""Queries over delegations, and the epoch in which an owner's are valid."""

import msgspec
from sqlalchemy import bindparam, delete, func, select, update

from moorage.records.access import StoredDelegation
from moorage.storage.access_schema import delegations
from moorage.storage.database import Source, Statement, Transaction, columns_of, given, insert_of
from moorage.storage.schema import wallets

_COLUMNS = columns_of(delegations, StoredDelegation)
_of_owner = delegations.c.owner == bindparam("of_owner")
_live = (
    delegations.c.ended_at_ms.is_(None),
    delegations.c.not_after > bindparam("now_s"),
    delegations.c.epoch == wallets.c.delegation_epoch,
)
_LIVE = (
    select(*_COLUMNS)
    .join_from(delegations, wallets, wallets.c.address == delegations.c.owner)
    .where(_of_owner, *_live)
    .order_by(delegations.c.created_at_ms, delegations.c.id)
)
_LIST = Statement(_LIVE)
_OF_PAIR = Statement(_LIVE.where(*given(delegations, delegate="of_delegate")))
_ONE = Statement(select(*_COLUMNS).where(*given(delegations, id="of_id")))
_ADD = insert_of(delegations)
_COUNT = Statement(select(func.count()).select_from(delegations).where(_of_owner))
_END = Statement(
    update(delegations)
    .where(*given(delegations, id="of_id"), delegations.c.ended_at_ms.is_(None))
    .values(ended_at_ms=bindparam("now_ms"))
)
_END_OF_PROJECT = Statement(
    update(delegations)
    .where(
        _of_owner, *given(delegations, project="of_project"), delegations.c.ended_at_ms.is_(None)
    )
    .values(ended_at_ms=bindparam("now_ms"))
)
_EXPIRED = Statement(
    delete(delegations).where(_of_owner, delegations.c.not_after <= bindparam("now_s"))
)
_OF_OWNER = Statement(delete(delegations).where(_of_owner))
_EVERY = Statement(select(*_COLUMNS).order_by(delegations.c.id))
_EPOCH = Statement(select(wallets.c.delegation_epoch).where(*given(wallets, address="of_owner")))
_NEXT_EPOCH = Statement(
    update(wallets)
    .where(*given(wallets, address="of_owner"))
    .values(delegation_epoch=wallets.c.delegation_epoch + 1)
)


async def live_of(source: Source, owner: str, *, now_ms: int) -> list[StoredDelegation]:
    """Returns an owner's delegations that are valid now, the oldest first."""
    return await source.records(StoredDelegation, _LIST, of_owner=owner, now_s=now_ms // 1000)


async def live_between(
    source: Source, *, owner: str, delegate: str, now_ms: int
) -> list[StoredDelegation]:
    """Returns those by which one wallet may act for another now, the oldest first."""
    return await source.records(
        StoredDelegation, _OF_PAIR, of_owner=owner, of_delegate=delegate, now_s=now_ms // 1000
    )


async def by_id(source: Source, delegation_id: str) -> StoredDelegation | None:
    """Returns one, whether it is valid or not."""
    return await source.record(StoredDelegation, _ONE, of_id=delegation_id)


async def every(source: Source) -> list[StoredDelegation]:
    """Returns all rows."""
    return await source.records(StoredDelegation, _EVERY)


async def add(tx: Transaction, delegation: StoredDelegation) -> None:
    """Stores one."""
    await tx.execute(_ADD, **msgspec.structs.asdict(delegation))


async def remove_expired(tx: Transaction, owner: str, *, now_ms: int) -> int:
    """Removes an owner's that have expired; returns how many rows are left."""
    await tx.execute(_EXPIRED, of_owner=owner, now_s=now_ms // 1000)
    return await tx.number(_COUNT, of_owner=owner)


async def end(tx: Transaction, delegation_id: str, *, now_ms: int) -> None:
    """Ends one for good."""
    await tx.execute(_END, of_id=delegation_id, now_ms=now_ms)


async def end_of_project(tx: Transaction, owner: str, unique_name: str, *, now_ms: int) -> None:
    """Ends those for one project of an owner, as when it goes to another."""
    await tx.execute(_END_OF_PROJECT, of_owner=owner, of_project=unique_name, now_ms=now_ms)


async def epoch_of(source: Source, owner: str) -> int:
    """Returns the epoch that an owner's next delegation is to be signed for."""
    return await source.number(_EPOCH, of_owner=owner)


async def begin_epoch(tx: Transaction, owner: str) -> int:
    """Voids all delegations of an owner; returns how many rows there were."""
    await tx.execute(_NEXT_EPOCH, of_owner=owner)
    return await tx.execute(_OF_OWNER, of_owner=owner)

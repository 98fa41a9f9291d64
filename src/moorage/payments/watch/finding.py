"""Searches blocks again at every node for payments that are not in the books: an operator asks."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from moorage.chains.heads import read_block
from moorage.chains.receipt import FoundLog
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.errors import PaymentPending
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.payments.taking.screening import Screen, held_back
from moorage.payments.taking.verification import Witness, witness
from moorage.payments.watch.watcher import (
    Reorganised,
    TransferSearch,
    are_booked,
    by_transaction,
    place_of,
)
from moorage.records.payments import Cursor, Payment, Search
from moorage.storage.database import Database
from moorage.storage.money import payments


class FoundTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that paid us and is not in the books, or not all of it."""

    chain: str
    tx_hash: str
    block_number: int
    transfers: tuple[Transfer, ...]
    why_not: str  # why it can't be credited; "" if it can

    @property
    def may_be_credited(self) -> bool:
        """Whether nothing stands against it."""
        return not self.why_not


async def find_payments(
    db: Database, client: RpcClient, *, recipients: Collection[str], first: int, last: int
) -> list[FoundTransaction]:
    """Returns what these blocks, both inclusive, have and the books have not; the oldest first.

    Raises ChainUnavailable, also if any node does not answer: what it alone has would be missed.
    """
    told: dict[str, list[FoundLog]] = {}
    for node in client.nodes:
        for tx_hash, logs in by_transaction(
            await _logs(node, recipients, first=first, last=last)
        ).items():
            told.setdefault(tx_hash, logs)
    found = []
    for logs in sorted(told.values(), key=lambda each: each[0].block_number):
        if not are_booked(logs, await _booked(db, client, logs[0].tx_hash)):
            place = place_of(logs[0], client.chain)
            seen = await witness(client, place, recipients=recipients, head="safe")
            found.append(
                FoundTransaction(
                    chain=client.chain.name,
                    tx_hash=place.tx_hash,
                    block_number=place.block_number,
                    transfers=seen.transfers,
                    why_not=_against(seen, quorum=client.quorum),
                )
            )
    return found


async def credit_found(
    db: Database,
    client: RpcClient,
    found: Iterable[FoundTransaction],
    *,
    screen: Screen,
    clock: Clock,
) -> list[FoundTransaction]:
    """Credits what may be credited; returns it. What has no screening verdict is left out."""
    credited = []
    for each in found:
        if not each.may_be_credited:
            continue
        booked = await _booked(db, client, each.tx_hash)
        try:
            held = await held_back(each.transfers, screen, booked=booked)
        except PaymentPending:
            continue
        for part in ledger.in_parts(each.transfers):
            async with db.transaction(durable=True) as tx:
                await ledger.credit_transfers(tx, part, held=held, now_ms=clock.now_ms())
        credited.append(each)
    return credited


async def _logs(
    node: RpcClient, recipients: Collection[str], *, first: int, last: int
) -> Sequence[FoundLog]:
    search, found = TransferSearch(node, recipients), list[FoundLog]()
    before = await read_block(node, max(0, first - 1))
    cursor = Cursor(node.chain.chain_id, Search.SAFE, before.number, before.hash)
    try:
        while cursor.block_number < last:
            logs, cursor = await search.next(cursor, last=last)
            found += logs
    except Reorganised as moved:
        raise node.contradiction("its blocks change while they are searched") from moved
    return found


async def _booked(db: Database, client: RpcClient, tx_hash: str) -> list[Payment]:
    return await payments.of_transaction(db, chain_id=client.chain.chain_id, tx_hash=tx_hash)


def _against(seen: Witness, *, quorum: int) -> str:
    if seen.disputed:
        return "its nodes disagree"
    if seen.nodes < quorum:
        return "too few nodes show it in a safe block"
    return "" if seen.transfers else "no node has it"

"""Versions of a transaction that the gateway signed: same call, same nonce, other fees."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from moorage.chains.fees import Fees
from moorage.chains.signing import Transaction
from moorage.records.relay_transaction import Relayed


def by_nonce(waiting: Iterable[Relayed]) -> list[tuple[int, list[Relayed]]]:
    """Versions by their nonce, ascending, as they come; the newest version last."""
    return [(nonce, list(versions)) for nonce, versions in groupby(waiting, attrgetter("nonce"))]


def fees_of(relayed: Relayed) -> Fees:
    """What it offers."""
    return Fees(int(relayed.max_fee_per_gas), int(relayed.max_priority_fee_per_gas))


def offering(relayed: Relayed, fees: Fees) -> Transaction:
    """The same transaction, offering other fees."""
    return Transaction(
        chain_id=relayed.chain_id,
        nonce=relayed.nonce,
        recipient=relayed.recipient,
        data=relayed.data,
        gas_limit=relayed.gas_limit,
        max_fee_per_gas=fees.max_fee_per_gas,
        max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
    )

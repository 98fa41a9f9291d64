"""Versions of a transaction that the gateway signed: same call and nonce, different fees."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from moorage.chains.fees import Fees
from moorage.chains.signing import ChainTransaction
from moorage.records.payments import RelayTransaction


def by_nonce(waiting: Iterable[RelayTransaction]) -> list[tuple[int, list[RelayTransaction]]]:
    """Groups versions by nonce; expects them in ascending order, the newest version last."""
    return [(nonce, list(versions)) for nonce, versions in groupby(waiting, attrgetter("nonce"))]


def fees_of(relayed: RelayTransaction) -> Fees:
    """The fees that a version offers."""
    return Fees(int(relayed.max_fee_per_gas), int(relayed.max_priority_fee_per_gas))


def with_fees(relayed: RelayTransaction, fees: Fees) -> ChainTransaction:
    """The same transaction with other fees."""
    return ChainTransaction(
        chain_id=relayed.chain_id,
        nonce=relayed.nonce,
        recipient=relayed.recipient,
        data=relayed.data,
        gas_limit=relayed.gas_limit,
        max_fee_per_gas=fees.max_fee_per_gas,
        max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
    )

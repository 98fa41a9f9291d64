"""Limits, for each day, the gas that a relayer loses to reverted transactions.

A simulation shows what a call does now, not what it will do when it is mined. A payer, whom a
reverted transaction costs nothing, can make it revert.
"""

from collections.abc import Iterable

from moorage.chains.chain import Chain
from moorage.chains.eip3009 import judged_by_contract
from moorage.clock import Clock
from moorage.metrics import record_relayer_reverted
from moorage.records.payments import RelayTransaction
from moorage.storage.database import Source, Transaction
from moorage.storage.money.chains import relays

_DAY_MS = 24 * 3_600_000
_LOST_TODAY = "too much gas was lost today to authorizations that did nothing"


class GasLosses:
    """What one key lost at most on one chain since midnight, UTC.

    Contract wallets, whose own code decides whether a call reverts, may cost half of `max_wei`, and
    `contract_gas` for one call.
    """

    def __init__(
        self, chain: Chain, *, sender: str, max_wei: int, contract_gas: int, clock: Clock
    ) -> None:
        self._chain = chain
        self._sender = sender
        self._max_wei = max_wei
        self._contract_gas = contract_gas
        self._clock = clock
        self._lost_wei = 0

    @property
    def exceeded(self) -> bool:
        """Whether the day's limit was reached at the last `look`."""
        return self._lost_wei >= self._max_wei

    async def look(self, source: Source) -> int:
        """Returns the wei lost today, and remembers it for `exceeded`."""
        now_ms = self._clock.now_ms()
        reverted = await relays.reverted_since(
            source,
            chain_id=self._chain.chain_id,
            sender=self._sender,
            since_ms=now_ms - now_ms % _DAY_MS,
        )
        self._lost_wei = sum(map(_max_cost_wei, reverted))
        record_relayer_reverted(self._chain.name, self._lost_wei)
        return self._lost_wei

    async def refusal(
        self, tx: Transaction, *, gas: int, fee_wei: int, of_contract: bool
    ) -> str | None:
        """Returns why a call of so much gas must not be sent, as part of a sentence, or None.

        Calls of contract wallets that are not mined yet count as lost.
        """
        lost = await self.look(tx)
        if not of_contract:
            return _LOST_TODAY if self.exceeded else None
        if gas > self._contract_gas:
            return f"it takes {gas} gas, and for contract wallets {self._contract_gas} is paid"
        waiting = await relays.unmined(tx, chain_id=self._chain.chain_id, sender=self._sender)
        theirs = _last_versions(one for one in waiting if judged_by_contract(one.data))
        at_stake = lost + sum(map(_max_cost_wei, theirs)) + gas * fee_wei
        return _LOST_TODAY if at_stake > self._max_wei // 2 else None


def _max_cost_wei(relayed: RelayTransaction) -> int:
    """The most that a transaction may have cost."""
    return relayed.gas_limit * int(relayed.max_fee_per_gas)


def _last_versions(relayed: Iterable[RelayTransaction]) -> Iterable[RelayTransaction]:
    """The last version of each nonce, as only one version is mined."""
    return {one.nonce: one for one in relayed}.values()

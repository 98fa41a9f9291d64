"""Gas money that a relayer loses to transactions that did nothing, bounded by the day.

A simulation shows what a call does now, not what it will: who pays nothing for it can have it do
nothing.
"""

from collections.abc import Iterable

from moorage.chains.chain import Chain
from moorage.chains.eip3009 import judged_by_contract
from moorage.clock import Clock
from moorage.metrics import record_relayer_reverted
from moorage.records.relay_transaction import RelayTransaction
from moorage.storage.database import Source, Transaction
from moorage.storage.money import relays

_DAY_MS = 24 * 3_600_000
_LOST_TODAY = "too much gas was lost today to authorizations that did nothing"


class GasLosses:
    """What one key lost on one chain since midnight, UTC, as far as it can be at most.

    Contract wallets, whose code decides, have half of `max_wei`, and `contract_gas` for one call.
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
        """Whether nothing more may be lost today, as of the last look."""
        return self._lost_wei >= self._max_wei

    async def look(self, source: Source) -> int:
        """Wei that were lost today."""
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
        """Why a call of so much gas is not begun; part of a sentence.

        Those of contract wallets that are under way count as lost.
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
    """What it may have cost."""
    return relayed.gas_limit * int(relayed.max_fee_per_gas)


def _last_versions(relayed: Iterable[RelayTransaction]) -> Iterable[RelayTransaction]:
    """Of each nonce the last, as one of them is mined."""
    return {one.nonce: one for one in relayed}.values()

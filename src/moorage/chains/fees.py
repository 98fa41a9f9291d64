"""What a gas costs: EIP-1559's two fees, bounded, and raised for a transaction that is stuck."""

from typing import Any

import msgspec

from moorage.chains.encoding import parse_quantity


class Fees(msgspec.Struct, frozen=True):
    """The two fees of a transaction, in wei a gas."""

    max_fee_per_gas: int  # bounds what the sender pays, base fee and tip together
    max_priority_fee_per_gas: int  # the tip, for who orders the block


class GasPrice(msgspec.Struct, frozen=True):
    """What the chain asks for a gas now, in wei."""

    base_fee: int
    tip: int

    def fees(self, *, max_: int) -> Fees | None:
        """Fees that bear the base fee's doubling, at most `max_` wei; None when it asks for more.

        Twice the base fee holds for six full blocks: each raises it by an eighth at most.
        """
        if self.base_fee + self.tip > max_:
            return None
        return Fees(min(2 * self.base_fee + self.tip, max_), self.tip)

    def raised(self, stuck: Fees, *, max_: int) -> Fees | None:
        """Fees that replace a stuck transaction of the same nonce; None when they exceed `max_`.

        Nodes take a replacement that raises both fees by a tenth; an eighth is sure to do.
        """
        wanted = max(2 * self.base_fee + self.tip, _raised(stuck.max_fee_per_gas))
        tip = max(self.tip, _raised(stuck.max_priority_fee_per_gas))
        min_fee = max(self.base_fee + tip, _raised(stuck.max_fee_per_gas))
        return Fees(min(wanted, max_), tip) if min_fee <= max_ else None


def parse_gas_price(block: Any, tip: object) -> GasPrice:
    """From a block's answer and that of eth_maxPriorityFeePerGas.

    Raises ValueError for anything else, such as a block of a chain without EIP-1559.
    """
    base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
    return GasPrice(base_fee=parse_quantity(base_fee), tip=parse_quantity(tip))


def _raised(fee: int) -> int:
    return fee + fee // 8 + 1

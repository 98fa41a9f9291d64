"""Gas fees: EIP-1559's two fees, limited to a maximum, and raised for a stuck transaction."""

from typing import Any

import msgspec

from moorage.chains.encoding import parse_quantity


class Fees(msgspec.Struct, frozen=True):
    """The two fees of a transaction, in wei for one gas."""

    max_fee_per_gas: int  # the most that the sender pays, base fee and tip together
    max_priority_fee_per_gas: int  # the tip to the block producer


class GasPrice(msgspec.Struct, frozen=True):
    """The chain's price of one gas now, in wei."""

    base_fee: int
    tip: int

    def fees(self, *, max_: int) -> Fees | None:
        """Returns fees for up to twice the base fee, at most `max_` wei; None if it costs more now.

        Twice the base fee is enough for six full blocks: each raises it by an eighth at most.
        """
        if self.base_fee + self.tip > max_:
            return None
        return Fees(min(2 * self.base_fee + self.tip, max_), self.tip)

    def raised(self, stuck: Fees, *, max_: int) -> Fees | None:
        """Returns fees that replace a stuck transaction of the same nonce; None above `max_`.

        Nodes accept a replacement that raises both fees by a tenth; this raises them by an eighth.
        """
        wanted = max(2 * self.base_fee + self.tip, _raised(stuck.max_fee_per_gas))
        tip = max(self.tip, _raised(stuck.max_priority_fee_per_gas))
        min_fee = max(self.base_fee + tip, _raised(stuck.max_fee_per_gas))
        return Fees(min(wanted, max_), tip) if min_fee <= max_ else None


def parse_gas_price(block: Any, tip: object) -> GasPrice:
    """Parses the answers to a block call and to eth_maxPriorityFeePerGas.

    Raises ValueError for anything else, such as a block of a chain without EIP-1559.
    """
    base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
    return GasPrice(base_fee=parse_quantity(base_fee), tip=parse_quantity(tip))


def _raised(fee: int) -> int:
    return fee + fee // 8 + 1

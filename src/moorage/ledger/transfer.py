"""Money that arrived: one Transfer of a token to an address of the gateway's, verified on chain."""

from collections.abc import Collection, Iterable

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.erc20 import TransferLog, parse_transfer_logs
from moorage.chains.receipt import Receipt
from moorage.money import AtomicUnits, MicroUsd, credit_from_atomic_units

_LARGEST_TOKENS = 10**9  # whole tokens in one transfer: thousands of them fit into 64 bits


class Transfer(msgspec.Struct, frozen=True):
    """A verified transfer to an address that is, or was, `pay_to`.

    (chain_id, tx_hash, log_index) names it, once and for all.

    Hashes and addresses are lower-case hex with `0x`.
    """

    chain_id: int
    tx_hash: str
    log_index: int
    token: str  # as clients name it: "usdc"
    token_address: str
    payer: str  # the log's `from`: not who sent the transaction, who parted with the money
    amount: AtomicUnits  # what the log says arrived: never the calldata, never the price; > 0
    decimals: int
    block_number: int
    block_hash: str
    recipient: str  # what was `pay_to` when it was asked for

    @property
    def worth(self) -> MicroUsd:
        """What it is credited with."""
        return credit_from_atomic_units(self.amount, decimals=self.decimals)


def transfers_in(
    receipt: Receipt, chain: Chain, *, recipients: Collection[str]
) -> tuple[Transfer, ...]:
    """Every transfer of the chain's tokens to `recipients`, by log.

    They are spelled as `parse_address` does. Transfers of nothing, and those among `recipients`,
    bring no money and don't count, nor do those that `uncreditable_in` tells of. Raises ValueError
    when a token's log is malformed.
    """
    found = [
        _transfer(log, receipt, chain, token)
        for token in chain.tokens
        for log in parse_transfer_logs(receipt, token_address=token.key)
        if _brings_money(log, recipients) and log.value <= _most(token)
    ]
    return tuple(sorted(found, key=lambda transfer: transfer.log_index))


def uncreditable_in(
    receipt: Receipt, chain: Chain, *, recipients: Collection[str]
) -> tuple[TransferLog, ...]:
    """Transfers to `recipients` of more than there is: the books have no room for them."""
    return tuple(
        log
        for token in chain.tokens
        for log in parse_transfer_logs(receipt, token_address=token.key)
        if _brings_money(log, recipients) and log.value > _most(token)
    )


def worth_of(transfers: Iterable[Transfer]) -> MicroUsd:
    """What they are credited with together."""
    return MicroUsd(sum(transfer.worth for transfer in transfers))


def _brings_money(log: TransferLog, recipients: Collection[str]) -> bool:
    return log.recipient in recipients and log.sender not in recipients and log.value > 0


def _most(token: Token) -> int:
    most: int = _LARGEST_TOKENS * 10**token.decimals
    return most


def _transfer(log: TransferLog, receipt: Receipt, chain: Chain, token: Token) -> Transfer:
    return Transfer(
        chain_id=chain.chain_id,
        tx_hash=receipt.tx_hash,
        log_index=log.log_index,
        token=token.name,
        token_address=log.token_address,
        payer=log.sender,
        amount=AtomicUnits(log.value),
        decimals=token.decimals,
        block_number=receipt.block_number,
        block_hash=receipt.block_hash,
        recipient=log.recipient,
    )

"""Transfers of tokens to the gateway's addresses, read from receipts."""

from collections.abc import Collection, Iterable

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.erc20 import TransferLog, parse_transfer_logs
from moorage.chains.receipt import Receipt
from moorage.money import AtomicUnits, MicroUsd, credit_from_atomic_units
from moorage.records.payments import Place

_MAX_TOKENS = 10**9  # whole tokens in one transfer: thousands of such transfers fit into 64 bits


class Transfer(msgspec.Struct, frozen=True):
    """A verified transfer to an address that is, or was, `pay_to`.

    (chain_id, tx_hash, log_index) identifies it. Hashes and addresses are lower-case hex with `0x`.
    """

    chain_id: int
    tx_hash: str
    log_index: int
    token: str  # as clients name it: "usdc"
    token_address: str
    payer: str  # the log's `from`, whose money it was: not the sender of the transaction
    amount: AtomicUnits  # from the log, never from calldata or the price; > 0
    decimals: int
    block_number: int
    block_hash: str
    recipient: str  # `pay_to` as it was when the payment was demanded

    @property
    def worth(self) -> MicroUsd:
        """The credits that it brings."""
        return credit_from_atomic_units(self.amount, decimals=self.decimals)

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place(self.chain_id, self.tx_hash, self.block_number, self.block_hash)


def transfers_in(
    receipt: Receipt, chain: Chain, *, recipients: Collection[str]
) -> tuple[Transfer, ...]:
    """Returns the transfers of the chain's tokens to `recipients`, sorted by log index.

    `recipients` are spelled as `parse_address` returns them. Transfers of zero, those between
    `recipients`, and those that `uncreditable_in` returns are left out. Raises ValueError when a
    token's log is malformed.
    """
    found = [
        _transfer(log, receipt, chain, token)
        for token in chain.tokens
        for log in parse_transfer_logs(receipt, token_address=token.key)
        if _brings_money(log, recipients) and log.value <= max_units(token)
    ]
    return tuple(sorted(found, key=lambda transfer: transfer.log_index))


def uncreditable_in(
    receipt: Receipt, chain: Chain, *, recipients: Collection[str]
) -> tuple[TransferLog, ...]:
    """Returns transfers to `recipients` of amounts that are too large for the database."""
    return tuple(
        log
        for token in chain.tokens
        for log in parse_transfer_logs(receipt, token_address=token.key)
        if _brings_money(log, recipients) and log.value > max_units(token)
    )


def worth_of(transfers: Iterable[Transfer]) -> MicroUsd:
    """Returns the credits that they bring together."""
    return MicroUsd(sum(transfer.worth for transfer in transfers))


def _brings_money(log: TransferLog, recipients: Collection[str]) -> bool:
    return log.recipient in recipients and log.sender not in recipients and log.value > 0


def max_units(token: Token) -> int:
    """Returns the largest transfer of a token that the books have room for, in atomic units."""
    units: int = _MAX_TOKENS * 10**token.decimals
    return units


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

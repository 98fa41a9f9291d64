"""What a chain knows of the refunds of a payment.

Books that were restored from an older backup may not know of a refund that was paid. Where the
token has EIP-3009 it is asked for the nonces of a payment's refunds; else transfers are searched.
"""

from collections.abc import Callable, Collection, Sequence

import msgspec

from moorage.chains.authorization_use import AuthorizationUse, find_use, is_used, state_call
from moorage.chains.chain import Token
from moorage.chains.eip3009 import TransferAuthorization, authorization_in
from moorage.chains.heads import read_heads
from moorage.chains.receipt import (
    Receipt,
    TransferLog,
    parse_quantity,
    parse_receipt,
    parse_transfer_logs,
)
from moorage.chains.rpc import RpcClient, RpcError
from moorage.chains.transfer_search import find_transfers
from moorage.errors import RefundRefused
from moorage.money import AtomicUnits, decimal_text
from moorage.payments.taking.verification import is_shown_for_good
from moorage.records.payments import Payment, Place, Refund, RefundStatus, RelayTransaction
from moorage.signing import keccak256
from moorage.storage.database import Source
from moorage.storage.money import refunds, relays

_NONCES_ASKED = 8  # beyond the refunds of a payment that have a row


class FoundRefund(msgspec.Struct, frozen=True):
    """A transaction that sent a payer tokens back, though no row tells of it."""

    tx_hash: str
    amount: AtomicUnits
    is_safe: bool  # as two nodes say, where there are two


class SentBefore(msgspec.Struct, frozen=True):
    """What the chain tells of the refunds of a payment."""

    found: FoundRefund | None
    unused: tuple[str, ...]  # nonces for an authorization; none if the token has no EIP-3009


def refund_nonce(payment: Payment, number: int) -> str:
    """Returns the nonce of the authorization that sends a payment back for the `number`th time."""
    words = (payment.chain_id, int(payment.tx_hash, 16), payment.log_index, number)
    return "0x" + keccak256(b"".join(word.to_bytes(32, "big") for word in words)).hex()


def authorization_of(version: RelayTransaction) -> TransferAuthorization | None:
    """Returns the authorization that a refund's transaction sends; None for a plain transfer."""
    return authorization_in(
        version.data, chain_id=version.chain_id, token_address=version.recipient
    )


async def taken_nonces(source: Source, earlier: Sequence[Refund]) -> set[str]:
    """Returns the authorizations' nonces of refunds that were not given up."""
    versions = [
        version
        for refund in earlier
        if refund.status is not RefundStatus.FAILED
        for version in await relays.of_subject(source, refund.id)
    ]
    return {each.nonce for each in map(authorization_of, versions) if each is not None}


async def sent_before(
    source: Source,
    client: RpcClient,
    payment: Payment,
    token: Token,
    *,
    amount: AtomicUnits,
    earlier: Sequence[Refund],
    senders: Collection[str],
) -> SentBefore:
    """Looks for refunds of a payment, from `senders`, that no row tells of.

    A transfer to the payer counts as one if it is of `amount`. Raises RefundRefused if there are
    transfers of other amounts; ChainUnavailable.
    """
    found: FoundRefund | None = None
    unused: tuple[str, ...] = ()
    with client.reading():
        if token.authorization is not None:
            found, unused = await _authorized(source, client, payment, earlier, senders)
        if found is None:
            found = await _transferred(
                source, client, payment, token, amount=amount, senders=senders
            )
    return SentBefore(found, unused)


async def _authorized(
    source: Source,
    client: RpcClient,
    payment: Payment,
    earlier: Sequence[Refund],
    senders: Collection[str],
) -> tuple[FoundRefund | None, tuple[str, ...]]:
    """Returns a refund that used one of the payment's nonces, and the nonces that none used."""
    taken = await taken_nonces(source, earlier)
    nonces = [refund_nonce(payment, n) for n in range(len(earlier) + _NONCES_ASKED)]
    asked = [
        _question(payment, sender, nonce)
        for nonce in nonces
        if nonce not in taken
        for sender in sorted(senders)
    ]
    states = await client.batch([state_call(each, "latest") for each in asked])
    used = [each for each, state in zip(asked, states, strict=True) if is_used(client, state)]
    known = {each.refund_tx_hash for each in earlier if each.status is not RefundStatus.FAILED}
    for each in used:
        use = await find_use(client, each, from_block=payment.block_number)
        if use is None:
            raise RefundRefused(
                "The token says that it was paid back before, and no node finds the transaction: "
                "look for it, and try again with a node that has all logs."
            )
        if not use.canceled and use.tx_hash not in known:
            return await _paid_by(client, payment, use, sender=each.payer), ()
    taken |= {each.nonce for each in used}
    return None, tuple(nonce for nonce in nonces if nonce not in taken)


def _question(payment: Payment, sender: str, nonce: str) -> TransferAuthorization:
    return TransferAuthorization(
        chain_id=payment.chain_id,
        token_address=payment.token_address,
        payer=sender,
        recipient=payment.payer,
        value=AtomicUnits(0),
        valid_after=0,
        valid_before=0,
        nonce=nonce,
        signature=b"",
    )


async def _paid_by(
    client: RpcClient, payment: Payment, use: AuthorizationUse, *, sender: str
) -> FoundRefund:
    """Reads what a transaction that used one of the payment's nonces has sent to its payer."""
    receipt = await read_receipt(client, use.tx_hash)
    logs = (
        () if receipt is None else parse_transfer_logs(receipt, token_address=payment.token_address)
    )
    for log in logs:
        if receipt is None or (log.sender, log.recipient) != (sender, payment.payer):
            continue
        if log.value > 0:
            place = Place(payment.chain_id, use.tx_hash, receipt.block_number, receipt.block_hash)
            safe = await is_shown_for_good(client, place, _holding(log))
            return FoundRefund(use.tx_hash, AtomicUnits(log.value), safe)
    raise client.contradiction(f"{use.tx_hash} used an authorization, and moved nothing")


async def _transferred(
    source: Source,
    client: RpcClient,
    payment: Payment,
    token: Token,
    *,
    amount: AtomicUnits,
    senders: Collection[str],
) -> FoundRefund | None:
    """Returns a transfer of `amount` to the payer that no row tells of."""
    if not await _sent_unknown(source, client, senders):
        return None
    heads = await read_heads(client)
    others = []
    for found, log in await find_transfers(
        client,
        senders=senders,
        recipients=[payment.payer],
        first=payment.block_number,
        last=heads.latest,
    ):
        if log.token_address != token.key or log.value == 0:
            continue
        if await _is_known(source, payment.chain_id, found.tx_hash):
            continue
        if log.value == amount:
            place = Place(payment.chain_id, found.tx_hash, found.block_number, found.block_hash)
            safe = await is_shown_for_good(client, place, _holding(log))
            return FoundRefund(found.tx_hash, amount, safe)
        others.append((found.tx_hash, log.value))
    if others and others[0][1] <= payment.amount:
        tx_hash, value = others[0]
        text = decimal_text(value, decimals=token.decimals)
        raise RefundRefused(
            f"{text} {token.name} went to {payment.payer} by {tx_hash}, and no refund here tells "
            f"of it, as after a restore: with `--amount {text}` it is recorded as a refund, and "
            "nothing is sent."
        )
    return None


def _holding(wanted: TransferLog) -> Callable[[Receipt | None], bool]:
    """Returns what says whether a receipt holds a transfer."""

    def holds(receipt: Receipt | None) -> bool:
        return receipt is not None and wanted in parse_transfer_logs(
            receipt, token_address=wanted.token_address
        )

    return holds


async def _sent_unknown(source: Source, client: RpcClient, senders: Collection[str]) -> bool:
    """Whether one of `senders` has sent a transaction that no row tells of."""
    ordered = sorted(senders)
    counts = await client.batch([("eth_getTransactionCount", [each, "latest"]) for each in ordered])
    for sender, count in zip(ordered, counts, strict=True):
        if isinstance(count, RpcError):
            raise count
        known = await relays.nonces_known(source, chain_id=client.chain.chain_id, sender=sender)
        if parse_quantity(count) > known:
            return True
    return False


async def _is_known(source: Source, chain_id: int, tx_hash: str) -> bool:
    if await relays.one(source, chain_id=chain_id, tx_hash=tx_hash) is not None:
        return True
    return await refunds.is_refund(source, chain_id=chain_id, refund_tx_hash=tx_hash)


async def read_receipt(client: RpcClient, tx_hash: str) -> Receipt | None:
    """Reads a transaction's receipt; None if it is not mined. Raises ChainUnavailable."""
    answer = await client.call("eth_getTransactionReceipt", [tx_hash])
    with client.reading():
        return None if answer is None else parse_receipt(answer, tx_hash=tx_hash)

"""Compares the books with the chains, in both directions.

Every payment and every refund must be on its chain as recorded, and every transfer to one of our
addresses must be a payment. The search does not use the watcher's code or cursor.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from moorage.chains.chain import Chain
from moorage.chains.heads import read_block, read_heads
from moorage.chains.receipt import FoundLog, Receipt, TransferLog, parse_receipt
from moorage.chains.rpc import AnswerTooLarge, Pace, RpcClient, RpcError
from moorage.chains.transfer_search import find_transfers, require_head
from moorage.errors import ChainUnavailable
from moorage.operate.audit.rows import Finding, payment_row
from moorage.payments.taking.verification import (
    lies_in_another_block,
    payment_problem,
    refund_is_on_chain,
)
from moorage.records.payments import (
    UNFINISHED,
    Finality,
    Payment,
    PaymentStatus,
    Refund,
    RefundStatus,
    Search,
)
from moorage.storage.money.audit import Books
from moorage.storage.money.payments import Key, key_of

_RECEIPTS_AT_ONCE = 50


class ChainAudit(msgspec.Struct):
    """The result of one chain's comparison."""

    findings: list[Finding]
    pending: list[Finding]  # what the gateway will fix by itself at its next search


async def audit_chain(
    client: RpcClient,
    books: Books,
    *,
    recipients: Collection[str],
    retired: Collection[str] = (),
    senders: Collection[str] = (),
    from_block: int | None,
    search: bool,
) -> ChainAudit:
    """Compares one chain with the books; `recipients` are `pay_to` and its former values.

    Transfers to those of them that are `retired` are not credited, so not searched for.
    `search` looks for transfers from `from_block` on; with None, from where the gateway began. It
    also looks for what `recipients` and `senders`, who send refunds, sent to wallets that paid.
    Raises ChainUnavailable when the chain can't be read, or its node lags.
    """
    chain = client.chain
    paid = [item for item in books.payments if item.chain_id == chain.chain_id]
    back = [item for item in books.refunds if item.chain_id == chain.chain_id]
    result = ChainAudit(findings=[], pending=[])
    with client.reading():
        await _audit_cursors(client, result, books)
        await _audit_receipts(client, result, paid, back, recipients=recipients)
        if search:
            senders = {*senders, *(each.sender for each in books.refund_transactions)}
            first = _first_block(chain, books, paid) if from_block is None else from_block
            live = set(recipients).difference(retired)
            await _audit_transfers(client, result, books, paid, recipients=live, first=first)
            await _audit_sent(
                client, result, books, paid, senders={*recipients, *senders}, first=first
            )
    return result


async def _audit_cursors(client: RpcClient, result: ChainAudit, books: Books) -> None:
    """Each cursor is a block of the chain, at most its newest.

    A cursor on a replaced branch is pending: the search steps back by itself the next time.
    """
    heads = await read_heads(client)
    for cursor in books.cursors:
        if cursor.chain_id != client.chain.chain_id:
            continue
        row = f"watch cursor {client.chain.name}:{cursor.search}"
        if heads.latest < cursor.block_number <= heads.latest + client.chain.finality_blocks:
            raise ChainUnavailable(
                f"The node of {client.chain.name} lags behind block {cursor.block_number}."
            )
        if cursor.block_number > heads.latest:
            result.findings.append(Finding(row, f"block {cursor.block_number} has not come yet"))
        elif cursor.block_number <= heads.finalized:
            block = await read_block(client, cursor.block_number)
            if block.hash != cursor.block_hash:
                result.pending.append(Finding(row, f"block {block.number} is {block.hash} by now"))


async def _audit_receipts(
    client: RpcClient,
    result: ChainAudit,
    paid: Sequence[Payment],
    back: Sequence[Refund],
    *,
    recipients: Collection[str],
) -> None:
    """Each recorded payment and refund is on the chain."""
    standing = [item for item in paid if item.status is not PaymentStatus.REVERSED]
    done = [item for item in back if item.status is RefundStatus.REFUNDED]
    wanted = {item.tx_hash for item in standing}
    wanted |= {item.refund_tx_hash for item in done if item.refund_tx_hash is not None}
    newest = max((item.block_number for item in standing), default=0)
    receipts = await _receipts(client, sorted(wanted), newest=newest)
    for payment in standing:
        receipt = receipts[payment.tx_hash]
        problem = payment_problem(payment, receipt, recipients=recipients)
        if problem is not None:
            # The gateway checks provisional payments again, and records their new block.
            provisional = payment.finality is Finality.PROVISIONAL
            awaited = provisional and lies_in_another_block(payment, receipt)
            into = result.pending if awaited else result.findings
            into.append(Finding(payment_row(key_of(payment)), problem))
    for refund in done:
        receipt = receipts.get(refund.refund_tx_hash or "")
        if not refund_is_on_chain(refund, receipt):
            # The gateway checks provisional refunds again, and sends dropped ones again.
            dropped = refund.finality is Finality.PROVISIONAL and receipt is None
            into = result.pending if dropped else result.findings
            into.append(
                Finding(f"refund {refund.id}", f"{refund.refund_tx_hash} does not pay it back")
            )


async def _receipts(
    client: RpcClient, hashes: Sequence[str], *, newest: int
) -> dict[str, Receipt | None]:
    """Returns each transaction's receipt, None for one that is not on the chain.

    Raises ChainUnavailable from a node that has not reached block `newest`.
    """
    found: dict[str, Receipt | None] = {}
    pace = Pace(first=_RECEIPTS_AT_ONCE, max_=_RECEIPTS_AT_ONCE)
    while len(found) < len(hashes):
        some = hashes[len(found) : len(found) + pace.size]
        try:
            head, *answers = await client.batch(
                [("eth_blockNumber", []), *(("eth_getTransactionReceipt", [each]) for each in some)]
            )
        except AnswerTooLarge:  # a transaction may have many logs that are not ours
            if len(some) == 1:
                raise
            pace.refused(len(some))
            continue
        pace.answered(len(some))
        require_head(client, head, newest)
        for tx_hash, answer in zip(some, answers, strict=True):
            if isinstance(answer, RpcError):
                raise answer
            found[tx_hash] = None if answer is None else parse_receipt(answer, tx_hash=tx_hash)
    return found


def _first_block(chain: Chain, books: Books, paid: Sequence[Payment]) -> int | None:
    """Returns the block at which the gateway began to take payments here; None if unknown."""
    known = [item.block_number for item in paid]
    known += [item.block_number for item in books.cursors if item.chain_id == chain.chain_id]
    if chain.watch_from_block is not None:
        known.append(chain.watch_from_block)
    return min(known, default=None)


async def _audit_transfers(
    client: RpcClient,
    result: ChainAudit,
    books: Books,
    paid: Sequence[Payment],
    *,
    recipients: Collection[str],
    first: int | None,
) -> None:
    """Each transfer that reached us is recorded."""
    latest = (await read_heads(client)).latest
    known = {key_of(item): item for item in paid}
    searched = max(
        (
            cursor.block_number
            for cursor in books.cursors
            if cursor.chain_id == client.chain.chain_id and cursor.search is Search.SAFE
        ),
        default=-1,
    )
    for found, log in await find_transfers(
        client, recipients=recipients, first=latest if first is None else first, last=latest
    ):
        if log.value == 0 or log.sender in recipients:
            continue
        key = (client.chain.chain_id, found.tx_hash, log.log_index)
        problem = transfer_problem(key, log, known)
        if problem is not None:
            if key not in known:
                problem += f", in block {found.block_number}"
            into = result.findings if found.block_number <= searched else result.pending
            into.append(Finding(payment_row(key), problem))


def transfer_problem(key: Key, log: TransferLog, known: Mapping[Key, Payment]) -> str | None:
    """Returns why a transfer that reached us is not accounted for; None when it is."""
    payment = known.get(key)
    if payment is None:
        return f"{log.value} from {log.sender} arrived and is not recorded"
    if payment.status is PaymentStatus.REVERSED:
        return f"{log.value} from {log.sender} is on the chain, but was reversed"
    return None


async def _audit_sent(
    client: RpcClient,
    result: ChainAudit,
    books: Books,
    paid: Sequence[Payment],
    *,
    senders: Collection[str],
    first: int | None,
) -> None:
    """Each transfer from one of our addresses to a wallet that paid is a refund."""
    payers = {item.payer for item in paid}.difference(senders)
    if first is None or not payers:
        return
    latest = (await read_heads(client)).latest
    chain_id = client.chain.chain_id
    refunds = [each for each in books.refunds if each.chain_id == chain_id]
    for found, log in await find_transfers(client, senders=senders, first=first, last=latest):
        if log.recipient not in payers or log.value == 0:
            continue
        if not any(_explains(refund, found, log, books) for refund in refunds):
            row = f"transfer {chain_id}:{found.tx_hash}:{log.log_index}"
            result.findings.append(
                Finding(row, f"{log.value} went to {log.recipient}, and no refund tells of it")
            )


def _explains(refund: Refund, found: FoundLog, log: TransferLog, books: Books) -> bool:
    """Whether a transfer is, or may be, the one that pays a refund."""
    refunded = (refund.recipient, refund.token_address, refund.amount)
    if refunded != (log.recipient, log.token_address, log.value):
        return False
    if refund.status in UNFINISHED:
        return True
    return refund.status is RefundStatus.REFUNDED and found.tx_hash in (
        refund.refund_tx_hash,
        *(each.tx_hash for each in books.refund_transactions if each.subject_id == refund.id),
    )

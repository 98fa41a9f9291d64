"""Compares payments and refunds with the receipts of their transactions."""

from collections.abc import Collection

from moorage.chains.erc20 import parse_transfer_logs
from moorage.chains.receipt import Receipt
from moorage.records.payments import Payment, Refund


def payment_problem(
    payment: Payment, receipt: Receipt | None, *, recipients: Collection[str]
) -> str | None:
    """Returns how a payment differs from its transaction's receipt; None when it does not."""
    if receipt is None:
        return "its transaction is not on the chain"
    logs = parse_transfer_logs(receipt, token_address=payment.token_address)
    log = next((log for log in logs if log.log_index == payment.log_index), None)
    if lies_in_another_block(payment, receipt):
        return f"lies in block {receipt.block_number} {receipt.block_hash} by now"
    if log is None:
        return "its transaction holds no such transfer"
    ours = recipients if payment.recipient is None else (payment.recipient,)
    told = (log.sender, log.value)
    if told != (payment.payer, payment.amount) or log.recipient not in ours:
        return f"the chain tells of {log.value} from {log.sender} to {log.recipient}"
    return None


def lies_in_another_block(payment: Payment, receipt: Receipt | None) -> bool:
    """Whether a payment's transaction is on the chain, in another block than was credited."""
    return receipt is not None and (receipt.block_number, receipt.block_hash) != (
        payment.block_number,
        payment.block_hash,
    )


def refund_is_on_chain(refund: Refund, receipt: Receipt | None) -> bool:
    """Whether a transaction pays the refund's amount to its recipient."""
    return receipt is not None and any(
        (log.recipient, log.value) == (refund.recipient, refund.amount)
        for log in parse_transfer_logs(receipt, token_address=refund.token_address)
    )
